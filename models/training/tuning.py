"""Tuning by any method: the settings that all share, and what the loop runs."""

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.training.loop import Program, Schedule, Terms
from models.training.method import DrawBatch, Method, Objective
from models.training.optimizer import OptimizerConfig
from models.training.watch import WatchConfig
from models.transformer import ModelConfig, Params
from synth import sequences
from synth.settings import require, require_above_zero, require_at_most, require_positive
from synth.shared import Constants, Shared, shared
from synth.tuning_data import ENDLESS, TuningData, TuningDataConfig, data_for
from synth.world import WorldConfig, build_world


@dataclass(unsafe_hash=True)
class TuningConfig:
    """Settings all methods share."""

    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 2e-3
    data: TuningDataConfig = field(default_factory=TuningDataConfig)
    draw: int = 0
    """Which of independent draws of prompts it is trained on, so that a model may be tuned by the same recipe once
    more."""
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
        require(self.draw >= 0, "draw", self.draw, "must be 0 or more", "set draw to 0")
        require_at_most("draw", self.draw, 2**31 - 1)
        self.optimizer.check_batch(self.batch_size)


class Traced(NamedTuple):
    """Settings that enter a compiled program as numbers, so that changing them compiles nothing."""

    coefficients: Any
    """The method's dataclass"""
    data: TuningData
    world: Constants
    """The arrays that batches are made with"""


@functools.cache
def _batches(batch: DrawBatch, size: int, world: WorldConfig, of_pretraining: bool) -> tuple[Shared[Any], Constants]:
    """The batch of (data, the run's key, step), and what of it is this world's own."""
    tables, data = build_world(world), TuningData(ENDLESS, 0.5, 0.0, pretraining=of_pretraining)

    def drawn(data: TuningData, key: jax.Array, step: jax.Array) -> Any:
        return batch(tables, data, key, step, size)

    return shared(drawn, data, jax.random.key(0), jnp.int32(0))


def program(config: TuningConfig, method: Method, model: ModelConfig, world: WorldConfig) -> Program:
    """Tuning by `method` as `loop` runs it, one and the same for all worlds that differ in nothing but their tables.

    Methods that have one objective and one way to draw a batch share it.
    """
    batches = _batches(method.batch, config.batch_size, world, method.prompts.pretraining)[0]
    tokens = sequences.size(build_world(world)).whole
    return _program(method.objective, config.batch_size, config.optimizer, model, batches, tokens)


def schedule(config: TuningConfig, method: Method, coefficients: Any, world: WorldConfig) -> Schedule:
    """The traced settings of tuning by `method`, `coefficients` an instance of its `hyper`."""
    tables = _batches(method.batch, config.batch_size, world, method.prompts.pretraining)[1]
    return Schedule(
        config.steps, config.learning_rate, Traced(coefficients, data_for(config.data, method.prompts), tables)
    )


# Cached, so that methods with one objective share a compiled program.
@functools.cache
def _program(
    objective: Objective, size: int, optimizer: OptimizerConfig, model: ModelConfig, batches: Shared[Any], tokens: int
) -> Program:
    def sample_batch(key: jax.Array, step: jax.Array, hyper: Traced) -> Any:
        return batches(hyper.world, hyper.data, key, step)

    def per_example(params: Params, reference: Params, batch: Any, progress: jax.Array, hyper: Traced) -> Terms:
        return objective(model, params, reference, batch, hyper.coefficients)

    return Program(optimizer, sample_batch, per_example, size, tokens)
