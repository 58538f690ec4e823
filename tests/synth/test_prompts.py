"""Tests of `synth/prompts.py`: the held-out division, and that a prompt depends on its key alone."""

from collections.abc import Hashable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth.families import FAMILIES
from synth.keys import fold
from synth.lookup import sample_batch
from synth.prompts import DIVISION, TEST, TRAIN, VALIDATION, Prompt, content_hash, side_of
from synth.world import TextConfig, World, build_world
from tests.synth.families.drawn import (
    ATTEMPTS,
    COUNT,
    WITHOUT_START,
    WORLDS,
    Batches,
    attempts,
    content,
    draw_batches,
    each,
    is_of,
    sample_prompts,
    small,
)


@pytest.fixture(scope="module")
def batches(world: World, key: jax.Array) -> Batches:
    return draw_batches(world, key)


# --- Both sides of the division


def test_no_prompt_is_on_two_sides(world: World, batches: Batches) -> None:
    sides = jax.jit(jax.vmap(partial(side_of, world)))
    contents: dict[int, set[Hashable]] = {TRAIN: set(), VALIDATION: set(), TEST: set()}
    for (name, side), prompts in batches.items():
        assert (np.asarray(sides(prompts)) == side).all()
        assert all(is_of(world, name, prompt) for prompt in each(prompts) if name != "pretraining")
        contents[side] |= {content(prompt) for prompt in each(prompts)}
    assert all(contents.values())
    assert sum(map(len, contents.values())) == len(set().union(*contents.values()))


def test_each_side_has_the_share_that_was_asked_for(key: jax.Array) -> None:
    world = build_world(WORLDS["any"])
    prompts = attempts(world, "pretraining", key)
    found = np.asarray(jax.vmap(partial(side_of, world))(jax.tree.map(jnp.asarray, prompts)))
    sides = dict(zip(map(content, each(prompts, ATTEMPTS)), found.tolist(), strict=True))
    for side, share in ((TRAIN, 0.9), (VALIDATION, 0.1 * 0.25), (TEST, 0.1 * 0.75)):
        # Distinct prompts fall independently: five standard errors.
        assert (
            abs(np.mean([one == side for one in sides.values()]) - share)
            < 5 * (share * (1 - share) / len(sides)) ** 0.5
        )


def test_the_division_goes_by_tasks_and_text_alone(world: World, key: jax.Array, batches: Batches) -> None:
    prompts = jax.tree.map(jnp.asarray, batches["pretraining", TRAIN])
    hashed = jax.jit(jax.vmap(partial(content_hash, salt=DIVISION)))
    plain = hashed(prompts)
    beyond = jnp.arange(world.max_text)[None] >= prompts.length[:, None]
    noise = jax.random.randint(key, prompts.text.shape, 0, 5)
    elsewhere = prompts._replace(grammar=1 - prompts.grammar, concept=prompts.concept - 1, groups=~prompts.groups)
    assert (hashed(prompts._replace(text=jnp.where(beyond, noise, prompts.text))) == plain).all()
    assert (hashed(elsewhere) == plain).all()
    # A letter, the order of two tasks, or a first letter more where there was none: another hash.
    assert (hashed(prompts._replace(text=prompts.text.at[:, 0].add(1))) != plain).all()
    differ = np.asarray(prompts.tasks[:, 0] != prompts.tasks[:, 1])
    assert (np.asarray(hashed(prompts._replace(tasks=prompts.tasks[:, ::-1])) != plain) == differ).all()
    shorter = prompts.length < world.max_text
    assert (np.asarray(hashed(prompts._replace(length=prompts.length + 1)) != plain) == np.asarray(shorter)).all()


def test_equal_hashes_are_equal_prompts(world: World, batches: Batches) -> None:
    prompts = batches["pretraining", TRAIN]
    codes = np.asarray(jax.jit(jax.vmap(partial(content_hash, salt=DIVISION)))(prompts)).tolist()
    assert len(set(codes)) == len({content(prompt) for prompt in each(prompts)})


# --- Keys


def equal(one: Prompt, other: Prompt) -> bool:
    return all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_prompts_can_be_passed_over(name: str, world: World, key: jax.Array, batches: Batches) -> None:
    whole = batches[name, TRAIN]
    later = sample_batch(world, name, TRAIN, key, COUNT, 7)
    assert equal(jax.tree.map(lambda a: a[7:], whole), jax.tree.map(lambda a: a[:-7], later))
    assert len({content(prompt) for prompt in each(whole)}) > COUNT / 10


def test_same_key_same_prompt_alone_and_in_any_batch(key: jax.Array) -> None:
    # Texts of other lengths are drawn again, so that prompts take different numbers of attempts.
    world = build_world(small(grammar=WITHOUT_START, text=TextConfig(length=(2, 3)), held_out=0.5))
    batch = partial(sample_batch, world, "unsafe", TRAIN)
    many = batch(key, 16, 0)
    assert set(many.length.tolist()) == {2, 3}
    assert all(is_of(world, "unsafe", prompt) for prompt in each(many))
    assert equal(batch(key, 5, 0), jax.tree.map(lambda a: a[:5], many))
    assert equal(batch(key, 5, 9), jax.tree.map(lambda a: a[9:14], many))
    assert equal(batch(key, 1, 3), jax.tree.map(lambda a: a[3:4], many))
    keys = jax.random.split(key, 3)
    together = jax.vmap(lambda k: batch(k, 5, 0))(keys)
    for i in range(3):
        assert equal(jax.tree.map(lambda a, i=i: a[i], together), batch(keys[i], 5, 0))


def test_another_key_gives_other_prompts(world: World, key: jax.Array, batches: Batches) -> None:
    assert not equal(batches["unsafe", TRAIN], sample_prompts(world, "unsafe", fold(key, 1)))
