"""Safety tuning: the batches every method is tuned on and the settings they share."""

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.training.loop import OptimizerConfig, Program, Schedule, Terms
from models.training.objectives import METHODS, Objective
from models.training.watch import WatchConfig
from models.transformer import ModelConfig, Params
from synth import sequences, tuning_data
from synth.prompts import Prompt
from synth.sequences import Pair
from synth.settings import require, require_above_zero, require_positive
from synth.tuning_data import TuningData, TuningDataConfig
from synth.world import World, WorldConfig, build_world


@dataclass(unsafe_hash=True)
class TuningConfig:
    """Settings all methods share."""

    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 2e-3
    data: TuningDataConfig = field(default_factory=TuningDataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    watch: WatchConfig = field(default_factory=lambda: WatchConfig(guard="warn"))
    snapshots: tuple[int, ...] = ()
    """Steps after which the weights are kept, to be measured as `over_training` says."""

    def __post_init__(self) -> None:
        self.snapshots = tuple(sorted(self.snapshots))
        require_positive(self, "steps")
        require_positive(self, "batch_size", most=2**20)
        require(
            len(set(self.snapshots)) == len(self.snapshots) and all(1 <= s <= self.steps for s in self.snapshots),
            "snapshots",
            list(self.snapshots),
            f"must be different steps from 1 to steps={self.steps}",
            f"for example [{self.steps}]",
        )
        require_above_zero(self, "learning_rate")
        self.optimizer.check_batch(self.batch_size)


def batch(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Pair:
    """`size` labelled prompts (`tuning_data.draw`) with both responses to each.

    Preferred is refusal where the label says to refuse, else compliance; dispreferred the
    other way round.
    """

    def pair(prompt: Prompt, refused: jax.Array) -> Pair:
        comply, refuse = sequences.comply(world, prompt), sequences.refuse(world, prompt)
        return Pair(
            jax.tree.map(lambda c, r: jnp.where(refused, r, c), comply, refuse),
            jax.tree.map(lambda c, r: jnp.where(refused, c, r), comply, refuse),
        )

    labelled = tuning_data.draw(world, data, key, step, size)
    return jax.vmap(pair)(labelled.prompts, labelled.refuse)


class Traced(NamedTuple):
    """Settings that enter a compiled program as numbers, so that changing them compiles nothing."""

    coefficients: Any
    """The method's dataclass"""
    data: TuningData


@functools.cache
def program(
    objective: Objective, size: int, optimizer: OptimizerConfig, model: ModelConfig, world: WorldConfig
) -> Program:
    """Tuning as `loop` runs it; cached, so that methods with one objective share a compiled program."""
    tables = build_world(world)

    def sample_batch(key: jax.Array, step: jax.Array, hyper: Traced) -> Pair:
        return batch(tables, hyper.data, key, step, size)

    def per_example(params: Params, reference: Params, batch: Pair, progress: jax.Array, hyper: Traced) -> Terms:
        return objective(model, params, reference, batch, hyper.coefficients)

    return Program(optimizer, sample_batch, per_example, size, tables.sequence_length)


def schedule(config: TuningConfig, method: str, coefficients: Any) -> Schedule:
    """The traced settings of tuning by `method`."""
    return Schedule(config.steps, config.learning_rate, Traced(coefficients, data(config, method)))


def data(config: TuningConfig, method: str) -> TuningData:
    """What `method` is tuned on."""
    prompts, settings = METHODS[method].prompts, config.data
    share = 0.0 if prompts == "safe" else settings.unsafe_share
    return TuningData(settings.size, share, settings.label_noise, prompts == "shuffled")
