"""The prompts of safety tuning: an endless stream or a finite set, with their labels."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synth.families import tuning
from synth.keys import batch_keys, fold
from synth.prompts import (
    SAME_1,
    SAME_2,
    SHUFFLED_LABEL,
    TRAIN,
    WRONG_LABEL,
    Prompt,
    below_share,
    content_hash,
    sample,
)
from synth.settings import require, require_at_most, require_share
from synth.world import World

ENDLESS = 0
LARGEST = 2**23
"""Prompts of a finite set: the whole numbers that a uniform float32, of 23 random bits, can choose among."""
COUNTED = 2**20
"""Prompts of a stream among which repeats are counted."""


@dataclass(unsafe_hash=True)
class TuningDataConfig:
    """What safety tuning is trained on; `world.coverage` says what it covers."""

    size: int = ENDLESS
    """Prompts of a finite set that is seen again and again; 0 for an endless stream."""
    unsafe_share: float = 0.5
    """Share of unsafe prompts, in each batch and in a finite set."""
    label_noise: float = 0.0
    """Share of prompts with the wrong label: the response to prefer and the other exchanged."""

    def __post_init__(self) -> None:
        require_share(self, "unsafe_share", "label_noise")
        require(self.size >= 0, "size", self.size, "must be a number of prompts, or 0 for an endless stream", "set 0")
        require_at_most("size", self.size, LARGEST)
        unsafe = round(self.size * self.unsafe_share)
        enough = (unsafe > 0 or self.unsafe_share == 0) and (unsafe < self.size or self.unsafe_share == 1)
        require(
            self.size == ENDLESS or enough,
            "size",
            self.size,
            f"is too small for a share of unsafe prompts of {self.unsafe_share}",
            "raise size",
        )


class TuningData(NamedTuple):
    """The same settings as numbers of a compiled program: changing them compiles nothing."""

    size: jax.Array | int
    unsafe_share: jax.Array | float
    label_noise: jax.Array | float
    shuffled: jax.Array | bool = False
    """Whether labels are dealt out at random in the same shares, whatever the prompt"""


class Labelled(NamedTuple):
    """Prompts [N] with the label that training is told."""

    prompts: Prompt
    refuse: jax.Array
    """[N] bool: whether the label says to refuse"""


def draw(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Labelled:
    """The prompts of batch `step`, the first `unsafe_share` of them unsafe.

    Where the share is no whole number of prompts, the number is one of its two neighbours, by
    chance and so that its mean is the share. A finite set is a function of `key`, its prompts
    drawn uniformly with replacement at each step. A prompt keeps its label, right or wrong,
    whenever it comes. All prompts are from the training side of the world's division.
    """
    step_key = fold(key, step)
    share, total = jnp.asarray(data.unsafe_share), jnp.asarray(data.size)
    whole = jnp.floor(share * size)
    number = whole + (jax.random.uniform(fold(step_key, "remainder")) < share * size - whole).astype(jnp.float32)
    unsafe = jnp.arange(size, dtype=jnp.float32) < number
    in_set = jnp.round(share * total.astype(jnp.float32))
    of_kind = jnp.where(unsafe, in_set, total.astype(jnp.float32) - in_set)
    index = (jax.random.uniform(fold(step_key, "index"), (size,)) * of_kind).astype(jnp.int32)

    def prompt_key(fresh: jax.Array, unsafe: jax.Array, index: jax.Array) -> jax.Array:
        kept = fold(key, "set", unsafe.astype(jnp.int32), index)
        return jax.lax.select(total == ENDLESS, fresh, kept)

    keys = jax.vmap(prompt_key)(batch_keys(step_key, size), unsafe, index)
    prompts = sample(world, tuning, TRAIN, keys, unsafe)

    def by_hash(salt: int, share: jax.Array) -> jax.Array:
        return jax.vmap(lambda prompt: below_share(content_hash(prompt, salt), share))(prompts)

    labels = jnp.where(jnp.asarray(data.shuffled), by_hash(SHUFFLED_LABEL, share), unsafe)
    return Labelled(prompts, labels ^ by_hash(WRONG_LABEL, jnp.asarray(data.label_noise)))


def repeats(world: World, data: TuningData, key: jax.Array, steps: int, size: int) -> tuple[float, int]:
    """The share of a seed's prompts that came before, and among how many it was counted.

    The prompts are those of `steps` batches of `size`, of many the first 2^20.
    """
    codes = np.asarray(_codes(world, data, key, min(steps, max(1, COUNTED // size)), size))
    return 1 - np.unique(codes, axis=0).shape[0] / codes.shape[0], codes.shape[0]


@partial(jax.jit, static_argnames=("world", "steps", "size"))
def _codes(world: World, data: TuningData, key: jax.Array, steps: int, size: int) -> jax.Array:
    """[steps * size, 2] hashes, 64 bits that tell prompts apart."""

    def batch(step: jax.Array) -> jax.Array:
        prompts = draw(world, data, key, step, size).prompts
        return jax.vmap(lambda p: jnp.stack([content_hash(p, salt) for salt in (SAME_1, SAME_2)]))(prompts)

    return jnp.reshape(jax.lax.map(batch, jnp.arange(steps)), (steps * size, 2))
