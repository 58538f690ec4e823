"""The prompts that models are looked at and measured on: the same for every model and seed, and in no training
but where those of the side that is trained on are asked for."""

import functools

import jax
import jax.numpy as jnp

from synth import sequences
from synth.keys import batch_keys, fold
from synth.lookup import check_found, sampler
from synth.prompts import TEST, Prompt, sample
from synth.sequences import Prompts
from synth.shared import Constants, Shared, shared
from synth.world import WorldConfig, build_world

BLOCK = 256
"""Prompts drawn at once, so that one compiled sampler serves any number."""


@functools.lru_cache(maxsize=64)
@jax.ensure_compile_time_eval()  # What is kept has numbers, even if asked for first inside a trace.
def drawn(world: WorldConfig, family: str, count: int, side: int = TEST) -> tuple[Prompt, Prompts]:
    """The first `count` prompts of a family on a side of the world's division: as they were drawn, which says why they
    are safe or not, and laid out with both responses.

    Raises SettingError, relative to the world's settings, if there are none.
    """
    block, tables = _block(world, family)
    key = key_of(world, family)
    blocks = [block.compiled(tables, key, jnp.int32(first), jnp.int32(side)) for first in range(0, count, BLOCK)]
    whole: tuple[Prompt, Prompts] = jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *blocks)
    check_found(build_world(world), family, side, whole[0])
    return whole


def key_of(world: WorldConfig, family: str) -> jax.Array:
    """Of all prompts of a family that `drawn` gives."""
    return fold(fold(jax.random.key(world.seed), "evaluation"), family)


@functools.cache
def _block(world: WorldConfig, family: str) -> tuple[Shared[tuple[Prompt, Prompts]], Constants]:
    """BLOCK prompts by (key of all of them, number of the first, side)."""
    tables = build_world(world)

    def block(key: jax.Array, first: jax.Array, side: jax.Array) -> tuple[Prompt, Prompts]:
        prompts = sample(tables, sampler(tables, family), side, batch_keys(key, BLOCK, first))
        return prompts, sequences.answers(tables, prompts)

    return shared(block, jax.random.key(0), jnp.int32(0), jnp.int32(TEST))
