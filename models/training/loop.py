"""The training loop: steps scanned in chunks, seeds as a leading axis.

Step t of a seed uses the seed's key, t and nothing else that is random, so a run that
stops and goes on from a saved state gives the same bits as one that does not stop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from models.transformer import Params
from synth.keys import fold
from synth.settings import require, require_above_zero, require_share


@dataclass(unsafe_hash=True)
class OptimizerConfig:
    """AdamW with gradient clipping; the learning rate warms up linearly, then falls as a cosine."""

    warmup: float = 0.0
    """Share of the steps over which the learning rate rises from 0."""
    final: float = 0.01
    """Learning rate at the last step as a share of its peak."""
    weight_decay: float = 1e-4
    """On matrices only."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    b1: float = 0.9
    b2: float = 0.95

    def __post_init__(self) -> None:
        require_share(self, "warmup", "final")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            require(0 <= value < 1, name, value, "must be from 0 to below 1", f"set {name} to 0.9")
        require_above_zero(self, "clip")
        require(0 <= self.weight_decay < 1, "weight_decay", self.weight_decay, "must be from 0 to below 1", "set 1e-4")

    def transform(self) -> optax.GradientTransformation:
        """The update per unit of learning rate."""
        matrices = partial(jax.tree.map, lambda w: w.ndim >= 2)
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.scale_by_adam(self.b1, self.b2),
            optax.add_decayed_weights(self.weight_decay, mask=matrices),
        )

    def schedule(self, progress: jax.Array) -> jax.Array:
        """Learning rate as a share of its peak when `progress` in [0, 1] of the steps are done."""
        rising = progress / max(self.warmup, 1e-9)
        along = jnp.clip((progress - self.warmup) / max(1 - self.warmup, 1e-9), 0, 1)
        falling = self.final + (1 - self.final) * 0.5 * (1 + jnp.cos(jnp.pi * along))
        return jnp.where(progress < self.warmup, rising, falling)


class State(NamedTuple):
    """What a run goes on from; every array but `step` has a leading axis of seeds."""

    params: Params
    optimizer: Any
    step: jax.Array


Loss = Callable[[Params, Params, Any, jax.Array, Any], jax.Array]
"""(params, reference, batch, progress, hyper) -> per-example loss [B]"""


class Program(NamedTuple):
    """What is trained: static, and compiled once however many times it runs."""

    optimizer: OptimizerConfig
    batch: Callable[[jax.Array, jax.Array, Any], Any]
    """(the seed's key, step, hyper) -> batch"""
    loss: Loss


class Schedule(NamedTuple):
    """Traced settings: two runs that differ in these alone share a compiled program."""

    steps: jax.Array | int
    learning_rate: jax.Array | float
    hyper: Any
    """Passed on to the program's batch and loss."""


def start(program: Program, params: Params) -> State:
    """The state before the first step, from `params` with a leading axis of seeds."""
    return State(params, jax.vmap(program.optimizer.transform().init)(params), jnp.int32(0))


def seed_keys(key: jax.Array, seeds: int) -> jax.Array:
    """The key of each seed [seeds]; a seed's does not depend on how many there are."""
    return jax.vmap(lambda seed: fold(key, "seed", seed))(jnp.arange(seeds))


def _step(
    program: Program, schedule: Schedule, params: Params, optimizer: Any, step: jax.Array, reference: Params, key: Any
) -> tuple[Params, Any, dict[str, jax.Array]]:
    progress = step.astype(jnp.float32) / jnp.maximum(schedule.steps - 1, 1).astype(jnp.float32)
    batch = program.batch(key, step, schedule.hyper)

    def mean_loss(params: Params) -> jax.Array:
        return jnp.mean(program.loss(params, reference, batch, progress, schedule.hyper))

    loss, gradient = jax.value_and_grad(mean_loss)(params)
    direction, optimizer = program.optimizer.transform().update(gradient, optimizer, params)
    rate = schedule.learning_rate * program.optimizer.schedule(progress)
    params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
    return params, optimizer, {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}


@partial(jax.jit, static_argnames=("program", "length"), donate_argnames="state")
def run_chunk(
    program: Program, schedule: Schedule, length: int, state: State, reference: Params, keys: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    """`length` steps from `state`, which is used up.

    Returns the new state and, for each step and seed, loss and norm of the gradient, each
    [length, seeds]. `reference` are the weights tuning starts from, with a leading axis of
    seeds; `keys` [seeds] are from `seed_keys`.
    """

    def body(state: State, _: None) -> tuple[State, dict[str, jax.Array]]:
        one = partial(_step, program, schedule)
        params, optimizer, log = jax.vmap(one, in_axes=(0, 0, None, 0, 0))(
            state.params, state.optimizer, state.step, reference, keys
        )
        return State(params, optimizer, state.step + 1), log

    return jax.lax.scan(body, state, length=length)
