"""The prompts that models are measured on, as their source gives them, and whether a world has them."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from synth.evaluation import key_of
from synth.keys import batch_keys
from synth.lookup import check_division, check_found, existing, sampler
from synth.prompts import TEST, VALIDATION, Prompt, sample
from synth.segments import Size, widened
from synth.sequences import Prompts
from synth.settings import naming
from synth.shared import Shared, shared
from synth.source import Source
from synth.world import WorldConfig, build_world

UNOPTIMISED: dict[str, bool | str] = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""What XLA is told for a program that runs once: a quarter of the time to compile."""


def drawn(source: Source, family: str, count: int, side: int = TEST) -> tuple[Any, Prompts]:
    """As `Source.drawn`. Raises ValueError where what is laid out has other marks than the source's vocabulary."""
    asked, prompts = source.drawn(family, count, side)
    wanted, found = source.vocab.marks, {batch.marks for batch in prompts}
    if found != {wanted}:
        raise ValueError(f"{family} of {source}: laid out with {found}, must be {wanted}; give these to `lay_out`")
    return asked, prompts


def together(source: Source, families: Iterable[str], count: int, side: int = TEST) -> dict[str, Prompts]:
    """The same of each of `families` with both responses, all in one size."""
    found = {family: drawn(source, family, count, side)[1] for family in families}
    sizes = [Size(batch.tokens.shape[-1], batch.room) for of in found.values() for batch in of]
    size = Size(*map(max, zip(*sizes, strict=True)))
    return {family: Prompts(*(widened(batch, size) for batch in of)) for family, of in found.items()}


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
    tables, key = build_world(world), key_of(world, family)

    def first(key: jax.Array, side: jax.Array) -> Prompt:
        return sample(tables, sampler(tables, family), side, batch_keys(key, 1, 0))

    one, constants = shared(first, key, jnp.int32(TEST))
    for side in (VALIDATION, TEST):
        with naming("world"):
            check_found(tables, family, side, _quickly(one)(constants, key, jnp.int32(side)))


@functools.cache
def _quickly(one: Shared[Prompt]) -> Callable[..., Prompt]:
    return jax.jit(one.__call__, compiler_options=UNOPTIMISED)
