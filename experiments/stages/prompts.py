"""The held-out prompts that models are looked at and measured on: the same for every model and seed."""

import functools
from functools import partial

import jax
import jax.numpy as jnp

from synth import sequences
from synth.families import sample_batch
from synth.keys import fold
from synth.prompts import HELD_OUT
from synth.sequences import Prompts
from synth.world import WorldConfig, build_world

BLOCK = 256
"""Prompts drawn at once, so that one compiled sampler serves any number."""


@functools.lru_cache(maxsize=64)
def held_out(world: WorldConfig, family: str, count: int) -> Prompts:
    """The first `count` held-out prompts of a family, with both responses."""
    blocks = [_block(world, family, first) for first in range(0, count, BLOCK)]
    whole: Prompts = jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *blocks)
    return whole


@partial(jax.jit, static_argnames=("world", "family"))
def _block(world: WorldConfig, family: str, first: int) -> Prompts:
    tables = build_world(world)
    key = fold(fold(jax.random.key(world.seed), "evaluation"), family)
    return sequences.both(tables, sample_batch(tables, family, HELD_OUT, key, BLOCK, first))
