"""The prompts that models are looked at and measured on: the same for every model and seed, and in no training."""

import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from synth import sequences
from synth.keys import batch_keys, fold
from synth.lookup import check_division, check_found, existing, sampler
from synth.prompts import TEST, VALIDATION, Prompt, sample
from synth.segments import Size, widened
from synth.sequences import Prompts
from synth.settings import naming
from synth.shared import Constants, Shared, shared
from synth.world import WorldConfig, build_world

BLOCK = 256
"""Prompts drawn at once, so that one compiled sampler serves any number."""

UNOPTIMISED: dict[str, bool | str] = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""What XLA is told for a program that runs once: a quarter of the time to compile."""


def held_out(world: WorldConfig, family: str, count: int, side: int = TEST) -> Prompts:
    """The first `count` prompts of a family on one of the sides that are not trained on, with both responses."""
    return drawn(world, family, count, side)[1]


def together(world: WorldConfig, families: Iterable[str], count: int, side: int = TEST) -> dict[str, Prompts]:
    """The same of each of `families`, all in one size."""
    found = {family: held_out(world, family, count, side) for family in families}
    sizes = [Size(batch.tokens.shape[-1], batch.room) for of in found.values() for batch in of]
    size = Size(*map(max, zip(*sizes, strict=True)))
    return {family: Prompts(*(widened(batch, size) for batch in of)) for family, of in found.items()}


@functools.lru_cache(maxsize=64)
@jax.ensure_compile_time_eval()  # What is kept has numbers, even if asked for first inside a trace.
def drawn(world: WorldConfig, family: str, count: int, side: int = TEST) -> tuple[Prompt, Prompts]:
    """What the prompts of `held_out` were drawn as, which says why they are safe or not, and these prompts."""
    block, tables = _block(world, family)
    key = _key(world, family)
    blocks = [block.compiled(tables, key, jnp.int32(first), jnp.int32(side)) for first in range(0, count, BLOCK)]
    whole: tuple[Prompt, Prompts] = jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *blocks)
    with naming("world"):
        check_found(build_world(world), family, side, whole[0])
    return whole


@jax.ensure_compile_time_eval()
def check(world: WorldConfig, families: Iterable[str]) -> None:
    """Raises SettingError unless each of `families` has prompts to choose and to test by, and there are safe and
    unsafe ones to train on too.

    The first prompt of each tells, and is quick to compile and to give up.
    """
    with naming("world"):
        check_division(build_world(world))
    for family in dict.fromkeys((*families, *existing(build_world(world)))):
        _check_first(world, family)


def _check_first(world: WorldConfig, family: str) -> None:
    tables, key = build_world(world), _key(world, family)

    def first(key: jax.Array, side: jax.Array) -> Prompt:
        return sample(tables, sampler(tables, family), side, batch_keys(key, 1, 0))

    one, constants = shared(first, key, jnp.int32(TEST))
    for side in (VALIDATION, TEST):
        with naming("world"):
            check_found(tables, family, side, _quickly(one)(constants, key, jnp.int32(side)))


@functools.cache
def _quickly(one: Shared[Prompt]) -> Callable[..., Prompt]:
    return jax.jit(one.__call__, compiler_options=UNOPTIMISED)


def _key(world: WorldConfig, family: str) -> jax.Array:
    return fold(fold(jax.random.key(world.seed), "evaluation"), family)


@functools.cache
def _block(world: WorldConfig, family: str) -> tuple[Shared[tuple[Prompt, Prompts]], Constants]:
    """BLOCK prompts by (key of all of them, number of the first, side)."""
    tables = build_world(world)

    def block(key: jax.Array, first: jax.Array, side: jax.Array) -> tuple[Prompt, Prompts]:
        prompts = sample(tables, sampler(tables, family), side, batch_keys(key, BLOCK, first))
        return prompts, sequences.answers(tables, prompts)

    return shared(block, jax.random.key(0), jnp.int32(0), jnp.int32(TEST))
