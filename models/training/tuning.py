"""Safety tuning: the prompts every method is tuned on and the settings they share."""

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.training.loop import OptimizerConfig, Program, Schedule
from models.training.objectives import METHODS, Objective
from models.transformer import ModelConfig, Params
from synth import sequences
from synth.keys import batch_keys, fold
from synth.prompts import TRAIN, Prompt, sample, tuning
from synth.sequences import Pair
from synth.settings import require_above_zero, require_positive, require_share
from synth.world import World, WorldConfig, build_world


@dataclass(unsafe_hash=True)
class TuningConfig:
    """Settings all methods share."""

    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 2e-3
    unsafe_share: float = 0.5
    """Share of unsafe prompts in each batch."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        require_positive(self, "steps", "batch_size")
        require_share(self, "unsafe_share")
        require_above_zero(self, "learning_rate")


def batch(world: World, key: jax.Array, size: int, unsafe_share: jax.Array) -> Pair:
    """`size` prompts, the first `unsafe_share` of them unsafe, with both responses to each.

    Where the share is no whole number of prompts, the number is one of its two neighbours, by
    chance and so that its mean is the share.

    Preferred is compliance on a safe prompt and refusal on an unsafe one; dispreferred the
    other way round. Aliases never occur.
    """

    def one(key: jax.Array, unsafe: jax.Array) -> Pair:
        def sampler(world: World, key: jax.Array) -> Prompt:
            return tuning(world, key, unsafe)

        prompt = sample(world, sampler, TRAIN, key)
        comply, refuse = sequences.comply(world, prompt), sequences.refuse(world, prompt)
        return Pair(
            jax.tree.map(lambda c, r: jnp.where(unsafe, r, c), comply, refuse),
            jax.tree.map(lambda c, r: jnp.where(unsafe, c, r), comply, refuse),
        )

    number = jnp.floor(unsafe_share * size + jax.random.uniform(fold(key, "remainder")))
    return jax.vmap(one)(batch_keys(key, size), jnp.arange(size, dtype=jnp.float32) < number)


class Traced(NamedTuple):
    """Settings that enter a compiled program as numbers, so that changing them compiles nothing."""

    coefficients: Any
    """The method's dataclass"""
    unsafe_share: float


@functools.cache
def program(
    objective: Objective, size: int, optimizer: OptimizerConfig, model: ModelConfig, world: WorldConfig
) -> Program:
    """Tuning as `loop` runs it; cached, so that methods with one objective share a compiled program."""
    tables = build_world(world)

    def sample_batch(key: jax.Array, hyper: Traced) -> Pair:
        return batch(tables, key, size, jnp.asarray(hyper.unsafe_share))

    def per_example(params: Params, reference: Params, batch: Pair, progress: jax.Array, hyper: Traced) -> jax.Array:
        return objective(model, params, reference, batch, hyper.coefficients)

    return Program(optimizer, sample_batch, per_example)


def schedule(config: TuningConfig, method: str, coefficients: Any) -> Schedule:
    """The traced settings of tuning by `method`."""
    share = config.unsafe_share if METHODS[method].unsafe_prompts else 0.0
    return Schedule(config.steps, config.learning_rate, Traced(coefficients, share))
