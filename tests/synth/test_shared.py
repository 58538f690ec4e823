"""Tests of `synth/shared.py`: what differs in constants alone is one, what differs in anything else is not."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.training import pretraining, tuning
from models.training.method import labelled_pairs
from models.training.pretraining import PretrainConfig
from synth import sequences
from synth.coverage import CoverageConfig
from synth.evaluation import _block
from synth.families import FAMILIES
from synth.keys import batch_keys, fold
from synth.lookup import existing, sampler
from synth.prompts import TEST, sample
from synth.shared import Constants, Shared, shared
from synth.tuning_data import TuningData
from synth.world import WorldConfig, build_world

ARGUMENT = np.arange(3, dtype=np.float32)


def scaled(table: np.ndarray, by: float = 2.0, inner: bool = False) -> tuple[Shared[jax.Array], Constants]:
    """`table` is a constant of the trace, or with `inner` of a program within it; `by` a number written into it."""

    def times(x: jax.Array) -> jax.Array:
        return by * x * jnp.asarray(table)

    return shared(jax.jit(times) if inner else times, jnp.asarray(ARGUMENT))


def test_functions_with_other_constants_are_one_and_give_each_its_own_values() -> None:
    first, second = np.float32([1, 2, 3]), np.float32([4, 5, 6])
    (one, its), (other, theirs) = scaled(first), scaled(second)
    assert one is other
    for found, table in ((its, first), (theirs, second)):
        np.testing.assert_array_equal(found[0], table)
        np.testing.assert_array_equal(one(found, jnp.asarray(ARGUMENT)), 2 * ARGUMENT * table)
        np.testing.assert_array_equal(one.compiled(found, jnp.asarray(ARGUMENT)), 2 * ARGUMENT * table)


@pytest.mark.parametrize(
    "other",
    [
        partial(scaled, np.ones(3, np.float32), 3.0),
        # One bit more than another number, and the two zeros, which are equal but not the same.
        partial(scaled, np.ones(3, np.float32), float(np.nextafter(np.float32(2), np.float32(3)))),
        partial(scaled, np.ones(3, np.float32), -0.0),
        partial(scaled, np.ones(1, np.float32)),
        partial(scaled, np.ones(3, np.int32)),
        partial(scaled, np.ones(3, np.float32), inner=True),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_differs_in_more_than_constants_is_not_shared(other: Callable[[], tuple[Any, Any]]) -> None:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert scaled(np.ones(3, np.float32))[0] is not other()[0]
        assert scaled(np.ones(3, np.float32), 0.0)[0] is not scaled(np.ones(3, np.float32), -0.0)[0]


def test_constants_out_of_reach_are_never_exchanged() -> None:
    """An array inside a program within the trace cannot become an argument, and so tells the traces apart."""
    first, second = np.float32([1, 2, 3]), np.float32([4, 5, 6])
    (one, its), (other, theirs) = scaled(first, inner=True), scaled(second, inner=True)
    assert (one is other) == (len(its) == 1)
    np.testing.assert_array_equal(one(its, jnp.asarray(ARGUMENT)), 2 * ARGUMENT * first)
    np.testing.assert_array_equal(other(theirs, jnp.asarray(ARGUMENT)), 2 * ARGUMENT * second)


def test_constants_of_a_loops_body_are_arguments_too() -> None:
    def looped(table: np.ndarray) -> tuple[Shared[jax.Array], Constants]:
        return shared(
            lambda n: jax.lax.fori_loop(0, n, lambda i, x: x + jnp.asarray(table)[i % 3], jnp.int32(0)), jnp.int32(0)
        )

    (one, its), (other, theirs) = looped(np.int32([1, 2, 3])), looped(np.int32([5, 7, 9]))
    assert one is other
    assert [int(one(found, jnp.int32(4))) for found in (its, theirs)] == [7, 26]


def test_arguments_of_another_kind_are_refused() -> None:
    found, constants = scaled(np.ones(3, np.float32))
    for wrong in (jnp.ones(4), jnp.ones(3, jnp.int32)):
        with pytest.raises(TypeError, match="traced for"):
            found(constants, wrong)
    with pytest.raises(TypeError, match="traced for"):
        found(constants, (jnp.ones(3),))


WORLDS = [WorldConfig(seed=seed, coverage=CoverageConfig(productions=0.8)) for seed in (0, 1)]


def same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_batches_of_a_world_are_those_of_the_plain_functions(key: jax.Array) -> None:
    """To the bit, of two worlds that have one callable: nothing of one is built into it."""
    config, step, data = PretrainConfig(batch_size=8), jnp.int32(3), TuningData(0, 0.5, 0.1)
    pretrained, tuned = set(), set()
    for world in WORLDS:
        tables = build_world(world)
        found, constants = pretraining._batches(config, world)
        plain = jax.jit(lambda key, step, tables=tables: pretraining.batch(config, tables, fold(key, step)))
        same(found.compiled(constants, key, step), plain(key, step))
        pretrained.add(found)
        pairs, arrays = tuning._batches(labelled_pairs, 8, world, of_pretraining=False)
        direct = jax.jit(lambda data, key, step, tables=tables: labelled_pairs(tables, data, key, step, 8))
        same(pairs.compiled(arrays, data, key, step), direct(data, key, step))
        tuned.add(pairs)
    assert len(pretrained) == len(tuned) == 1


@pytest.mark.parametrize("name", ["safe", "misgen_text", "co_text"])
def test_prompts_of_a_family_are_those_of_the_plain_functions(name: str, key: jax.Array) -> None:
    found = {}
    for world in WORLDS:
        tables = build_world(world)

        def drawn(key: jax.Array, tables: Any = tables) -> Any:
            prompts = sample(tables, sampler(tables, name), TEST, batch_keys(key, 16))
            return prompts, sequences.answers(tables, prompts)

        found[world.seed], constants = shared(drawn, key)
        same(found[world.seed].compiled(constants, key), jax.jit(drawn)(key))
    assert found[0] is found[1]


def test_worlds_share_the_program_of_every_family_that_they_have() -> None:
    (names, of_other), parts = [existing(build_world(world)) for world in WORLDS], ["unsafe@productions"]
    assert names == of_other
    assert set(names) == {name for name, row in FAMILIES.items() if row.kind != "any"}
    for name in (*names, *parts):
        first, second = (_block(world, name)[0] for world in WORLDS)
        assert first is second, name


def test_a_world_of_other_shapes_has_a_program_of_its_own() -> None:
    config = PretrainConfig(batch_size=8)
    other = dataclasses.replace(WORLDS[0], tasks=dataclasses.replace(WORLDS[0].tasks, composed=1))
    assert pretraining._batches(config, other)[0] is not pretraining._batches(config, WORLDS[0])[0]
