"""The held-out prompts that models are looked at and measured on: the same for every model and seed."""

import functools
from functools import partial

import jax
import jax.numpy as jnp

from synth import sequences
from synth.families import check_division, check_found, existing, sample_batch
from synth.keys import fold
from synth.prompts import HELD_OUT, Prompt
from synth.sequences import Prompts
from synth.settings import naming
from synth.world import WorldConfig, build_world

BLOCK = 256
"""Prompts drawn at once, so that one compiled sampler serves any number."""


def held_out(world: WorldConfig, family: str, count: int) -> Prompts:
    """The first `count` held-out prompts of a family, with both responses."""
    return drawn(world, family, count)[1]


@functools.lru_cache(maxsize=64)
def drawn(world: WorldConfig, family: str, count: int) -> tuple[Prompt, Prompts]:
    """What the prompts of `held_out` were drawn as, which says why they are safe or not, and these prompts."""
    blocks = [_block(world, family, first) for first in range(0, count, BLOCK)]
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


@partial(jax.jit, static_argnames=("world", "family"))
def _block(world: WorldConfig, family: str, first: int) -> tuple[Prompt, Prompts]:
    tables = build_world(world)
    key = fold(fold(jax.random.key(world.seed), "evaluation"), family)
    prompts = sample_batch(tables, family, HELD_OUT, key, BLOCK, first)
    return prompts, sequences.both(tables, prompts)
