"""The held-out prompts that models are looked at and measured on: the same for every model and seed."""

import functools

import jax
import jax.numpy as jnp

from synth import sequences
from synth.keys import batch_keys, fold
from synth.lookup import check_division, check_found, existing, sampler
from synth.prompts import HELD_OUT, Prompt, sample
from synth.sequences import Prompts
from synth.settings import naming
from synth.shared import Constants, Shared, shared
from synth.world import WorldConfig, build_world

BLOCK = 256
"""Prompts drawn at once, so that one compiled sampler serves any number."""


def held_out(world: WorldConfig, family: str, count: int) -> Prompts:
    """The first `count` held-out prompts of a family, with both responses."""
    return drawn(world, family, count)[1]


@functools.lru_cache(maxsize=64)
def drawn(world: WorldConfig, family: str, count: int) -> tuple[Prompt, Prompts]:
    """What the prompts of `held_out` were drawn as, which says why they are safe or not, and these prompts."""
    block, tables = _block(world, family)
    key = fold(fold(jax.random.key(world.seed), "evaluation"), family)
    blocks = [block.compiled(tables, key, jnp.int32(first)) for first in range(0, count, BLOCK)]
    whole: tuple[Prompt, Prompts] = jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *blocks)
    with naming("world"):
        check_found(build_world(world), family, HELD_OUT, whole[0])
    return whole


def check(world: WorldConfig, families: tuple[str, ...]) -> None:
    """Raises SettingError unless each of `families` has held-out prompts, and safe and unsafe ones to train on too.

    What is drawn here is kept for those who measure on it.
    """
    with naming("world"):
        check_division(build_world(world))
    for family in dict.fromkeys((*families, *existing(build_world(world)))):
        drawn(world, family, 1)


@functools.cache
def _block(world: WorldConfig, family: str) -> tuple[Shared[tuple[Prompt, Prompts]], Constants]:
    """BLOCK prompts by (key of all of them, number of the first)."""
    tables = build_world(world)

    def block(key: jax.Array, first: jax.Array) -> tuple[Prompt, Prompts]:
        prompts = sample(tables, sampler(tables, family), HELD_OUT, batch_keys(key, BLOCK, first))
        return prompts, sequences.answers(tables, prompts)

    return shared(block, jax.random.key(0), jnp.int32(0))
