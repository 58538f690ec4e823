"""Tuning: each seed of a model tuned by one method."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import pandas as pd

from experiments.stages import files
from experiments.stages.stage import Work
from experiments.stages.training import train
from experiments.stages.weights import ModelStage
from models.training import tuning
from models.training.loop import across, seed_keys
from models.training.method import Method
from models.training.methods import METHODS
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig
from synth import sequences
from synth.keys import fold
from synth.lookup import modules
from synth.tuning_data import data_for, repeats
from synth.world import WorldConfig, build_world

DATA_TABLE = "data.parquet"
"""About the prompts that were trained on: the share that came more than once, one row per seed."""

TRACED = ("learning_rate", "data")
"""Settings of tuning that enter a compiled program as numbers, beside the method's coefficients."""


@dataclass(frozen=True)
class Tune(ModelStage):
    """The tuned weights, what was seen on the way, and DATA_TABLE.

    Those that differ in nothing but TRACED settings and coefficients train side by side.
    """

    world: WorldConfig
    method: str
    tuning: TuningConfig
    coefficients: Any
    """The method's dataclass"""
    start: ModelStage
    """The weights that it starts from"""
    watched: tuple[str, ...]
    """The families that are looked at on the way"""

    name: ClassVar[str] = "tune"

    @property
    def row(self) -> Method:
        """The method's row of the registry."""
        return METHODS[self.method]

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.row.module, *modules(self.watched), *sequences.modules(self.world))

    @property
    def shape(self) -> ModelConfig:
        return self.start.shape

    @property
    def numbers(self) -> range:
        return self.start.numbers

    @property
    def depth(self) -> int:
        """How many tunings lead to the weights that it starts from."""
        return self.start.depth + 1 if isinstance(self.start, Tune) else 0

    @property
    def stream(self) -> jax.Array:
        """The key that seeds' keys are made of.

        It is one for all methods: those with one unsafe share see the same prompts. A model that is tuned once more
        sees others than it has seen, and so does one of another draw.
        """
        key = fold(jax.random.key(0), "tune")
        key = fold(key, self.depth) if self.depth else key
        return fold(key, "draw", self.tuning.draw) if self.tuning.draw else key

    @property
    def said(self) -> str:
        """What it does, for people."""
        before = f"{self.start.method}, then " if isinstance(self.start, Tune) else ""
        return f"tune {before}{self.method}"

    @classmethod
    def make(cls, stages: Sequence["Tune"], folders: Sequence[Path], work: Work) -> None:
        first = stages[0]
        world, model, row, config, numbers = first.world, first.shape, first.row, first.tuning, first.numbers
        program = tuning.program(config, row, model, world)
        reference = jax.tree.map(jnp.asarray, files.load_weights(work.store.get(first.start.recipe)))
        seeds = len(numbers)
        keys = seed_keys(first.stream, seeds, numbers.start)
        schedule = across([tuning.schedule(each.tuning, row, each.coefficients, world) for each in stages], seeds)
        name, families, runs = first.said, first.watched, _names(stages)
        # Who is taught to refuse safe prompts is not to be warned of for it.
        looking = config.watch if row.prompts.complies else dataclasses.replace(config.watch, guard="off")
        watch = files.watch(work.runner.reporter, name, looking, world, model, families, runs)
        everyone = jax.tree.map(lambda x: jnp.tile(x, (len(stages),) + (1,) * (x.ndim - 1)), reference)
        each_key, kept = jnp.tile(keys, len(stages)), config.snapshots
        trained = train(
            work.runner, name, program, schedule, everyone, everyone, each_key, work.partial, watch, runs, kept
        )
        described = files.described(model, world)
        for i, (each, folder) in enumerate(zip(stages, folders, strict=True)):
            own = trained.of(slice(i * seeds, (i + 1) * seeds))
            files.save_training(folder, own, described, config.watch.every, families, numbers.start)
            _save_data(folder, each, keys)


def _names(stages: Sequence[Tune]) -> list[str]:
    """What each run is called: its seed, and where several tunings train together what is its own."""
    flat = [_traced(stage) for stage in stages]
    own = [name for name in flat[0] if len({str(one[name]) for one in flat}) > 1]
    said = ["".join(f"{name}={one[name]}, " for name in own) for one in flat]
    return [f"{which}seed {seed}" for which in said for seed in stages[0].numbers]


def _traced(stage: Tune) -> dict[str, Any]:
    """Every traced setting by name."""
    values = dataclasses.asdict(stage.tuning)
    data = {f"data.{name}": value for name, value in values["data"].items()}
    return {"learning_rate": values["learning_rate"], **data, **dataclasses.asdict(stage.coefficients)}


def _save_data(folder: Path, stage: Tune, keys: jax.Array) -> None:
    config = stage.tuning
    seen = jax.tree.map(jnp.asarray, data_for(config.data, stage.row.prompts))
    counts = [repeats(build_world(stage.world), seen, key, config.steps, config.batch_size) for key in keys]
    rows = pd.DataFrame(counts, columns=["value", "n"]).assign(metric="repeats", family="tuning")
    rows["seed"] = stage.numbers
    rows.to_parquet(folder / DATA_TABLE, index=False)
