"""Safety tuning: each pretrained seed tuned by one method."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd

from experiments.artifacts import Artifact, Recipe, Store
from experiments.provenance import code_version
from experiments.stages import files
from experiments.training import Runner, train
from models.training import tuning
from models.training.loop import across, seed_keys
from models.training.methods import METHODS
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig
from synth.families import existing
from synth.keys import fold
from synth.tuning_data import of_kind, repeats
from synth.world import WorldConfig, build_world

DATA_TABLE = "data.parquet"
"""About the prompts that were trained on: the share that came more than once, a row a seed."""

TRACED = ("learning_rate", "data")
"""Settings of tuning that enter a compiled program as numbers, beside the method's coefficients."""


def recipe(settings: dict[str, object], pretrained: Recipe) -> Recipe:
    """`settings`: tuning, method, its coefficients and what is about safety in the world, as plain dictionaries."""
    return Recipe("tune", settings, (pretrained.key,), code_version(__name__))


class Tuning(NamedTuple):
    """One of several tunings that train side by side; they differ in TRACED settings and coefficients alone."""

    config: TuningConfig
    coefficients: Any
    """The method's dataclass"""


def run(
    store: Store,
    recipes: Sequence[Recipe],
    runner: Runner,
    world: WorldConfig,
    model: ModelConfig,
    method: str,
    tunings: Sequence[Tuning],
    pretrained: Artifact,
    first_seed: int,
) -> dict[str, Artifact]:
    """By the key of each of `recipes`: the tuned weights, what was seen on the way, and DATA_TABLE.

    `first_seed` is the number of the first of the pretrained seeds.
    """
    of = dict(zip([recipe.key for recipe in recipes], tunings, strict=True))

    def make(folders: dict[str, Path], partial: Path) -> None:
        chosen = [of[key] for key in folders]
        config = chosen[0].config
        row = METHODS[method]
        program = tuning.program(config, row, model, world)
        reference = jax.tree.map(jnp.asarray, files.load_weights(pretrained))
        seeds = reference["W_E"].shape[0]
        # All methods draw from the same keys: those with one unsafe share see the same prompts.
        keys = seed_keys(fold(jax.random.key(0), "tune"), seeds, first_seed)
        schedule = across([tuning.schedule(each.config, row, each.coefficients, world) for each in chosen], seeds)
        name, families = f"tune {method}", existing(build_world(world))
        runs = _names(chosen, range(first_seed, first_seed + seeds))
        # Who is taught to refuse safe prompts is not to be warned of for it.
        looking = config.watch if row.prompts.complies else dataclasses.replace(config.watch, guard="off")
        watch = files.watch(runner.reporter, name, looking, world, model, families, runs)
        everyone = jax.tree.map(lambda x: jnp.tile(x, (len(chosen),) + (1,) * (x.ndim - 1)), reference)
        all_keys = jnp.tile(keys, len(chosen))
        trained = train(
            runner, name, program, schedule, everyone, everyone, all_keys, partial, watch, runs, config.snapshots
        )
        described = files.described(model, world)
        for i, (each, folder) in enumerate(zip(chosen, folders.values(), strict=True)):
            own = trained.of(slice(i * seeds, (i + 1) * seeds))
            files.save_training(folder, own, described, config.watch.every, families, first_seed)
            _save_data(folder, world, each.config, method, keys, first_seed)

    return store.fetch_all(recipes, make)


def _names(tunings: Sequence[Tuning], seeds: Sequence[int]) -> list[str]:
    """What each run is called: its seed, and where several tunings train together what is its own."""
    flat = [_traced(tuning) for tuning in tunings]
    own = [name for name in flat[0] if len({str(one[name]) for one in flat}) > 1]
    said = ["".join(f"{name}={one[name]}, " for name in own) for one in flat]
    return [f"{which}seed {seed}" for which in said for seed in seeds]


def _traced(tuning: Tuning) -> dict[str, Any]:
    """Every traced setting by name."""
    values = dataclasses.asdict(tuning.config)
    data = {f"data.{name}": value for name, value in values["data"].items()}
    return {"learning_rate": values["learning_rate"], **data, **dataclasses.asdict(tuning.coefficients)}


def _save_data(
    folder: Path, world: WorldConfig, config: TuningConfig, method: str, keys: jax.Array, first_seed: int
) -> None:
    seen = jax.tree.map(jnp.asarray, of_kind(config.data, METHODS[method].prompts))
    counts = [repeats(build_world(world), seen, key, config.steps, config.batch_size) for key in keys]
    rows = pd.DataFrame(counts, columns=["value", "n"]).assign(metric="repeats", family="tuning")
    rows["seed"] = range(first_seed, first_seed + len(keys))
    rows.to_parquet(folder / DATA_TABLE, index=False)
