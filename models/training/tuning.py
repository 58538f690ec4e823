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
from synth.shared import Constants, Shared, shared
from synth.tuning_data import ENDLESS, KINDS, Kind, TuningData, TuningDataConfig
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


def batch(
    world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int, of_pretraining: bool = False
) -> Pair:
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

    labelled = tuning_data.draw(world, data, key, step, size, of_pretraining)
    return jax.vmap(pair)(labelled.prompts, labelled.refuse)


class Traced(NamedTuple):
    """Settings that enter a compiled program as numbers, so that changing them compiles nothing."""

    coefficients: Any
    """The method's dataclass"""
    data: TuningData
    world: Constants
    """`tables`"""


@functools.cache
def _batches(size: int, world: WorldConfig, of_pretraining: bool) -> tuple[Shared[Pair], Constants]:
    """The batch of (data, the run's key, step), and what of it is this world's own."""
    tables, data = build_world(world), TuningData(ENDLESS, 0.5, 0.0)

    def drawn(data: TuningData, key: jax.Array, step: jax.Array) -> Pair:
        return batch(tables, data, key, step, size, of_pretraining)

    return shared(drawn, data, jax.random.key(0), jnp.int32(0))


def tables(size: int, world: WorldConfig, of_pretraining: bool = False) -> Constants:
    """The arrays of a world that its batches of `size` prompts are made with."""
    return _batches(size, world, of_pretraining)[1]


def program(
    objective: Objective,
    size: int,
    optimizer: OptimizerConfig,
    model: ModelConfig,
    world: WorldConfig,
    of_pretraining: bool = False,
) -> Program:
    """Tuning as `loop` runs it, one and the same for all worlds that differ in nothing but their `tables`.

    Methods with one objective share it, but for those with `of_pretraining`, whose prompts are drawn otherwise.
    """
    batches = _batches(size, world, of_pretraining)[0]
    return _program(objective, size, optimizer, model, batches, build_world(world).sequence_length)


# Cached, so that methods with one objective share a compiled program.
@functools.cache
def _program(
    objective: Objective, size: int, optimizer: OptimizerConfig, model: ModelConfig, batches: Shared[Pair], tokens: int
) -> Program:
    def sample_batch(key: jax.Array, step: jax.Array, hyper: Traced) -> Pair:
        return batches(hyper.world, hyper.data, key, step)

    def per_example(params: Params, reference: Params, batch: Pair, progress: jax.Array, hyper: Traced) -> Terms:
        return objective(model, params, reference, batch, hyper.coefficients)

    return Program(optimizer, sample_batch, per_example, size, tokens)


def schedule(config: TuningConfig, method: str, coefficients: Any, world: WorldConfig) -> Schedule:
    """The traced settings of tuning by `method`."""
    hyper = Traced(coefficients, data(config, method), tables(config.batch_size, world, kind(method).pretraining))
    return Schedule(config.steps, config.learning_rate, hyper)


def kind(method: str) -> Kind:
    """Which prompts `method` is tuned on."""
    return KINDS[METHODS[method].prompts]


def data(config: TuningConfig, method: str) -> TuningData:
    """What `method` is tuned on."""
    return tuning_data.of_kind(config.data, kind(method))
