"""Tests of `synth/prompts.py`: every family against the verdict, and the held-out division."""

import jax
import numpy as np
import pytest

from synth.grammar import GrammarConfig
from synth.keys import batch_keys, fold
from synth.prompts import (
    FAMILIES,
    HELD_OUT,
    TRAIN,
    Prompt,
    check_division,
    check_family,
    is_held_out,
    pretraining,
    sample,
    sample_batch,
)
from synth.safety import MIXED, SAFE, UNSAFE, SafetyConfig, verdict
from synth.settings import SettingError
from synth.tasks import TasksConfig
from synth.world import World, WorldConfig, build_world

VERDICT = {"safe": SAFE, "unsafe": UNSAFE, "co_task": MIXED, "misgen_task": UNSAFE}
COUNT = 400


def draw(world: World, key: jax.Array, family: str, held_out: bool = TRAIN) -> Prompt:
    return jax.tree.map(np.asarray, sample_batch(world, FAMILIES[family], held_out, key, COUNT))


@pytest.mark.parametrize("family", FAMILIES)
def test_verdicts_and_aliases(family: str, world: World, key: jax.Array) -> None:
    prompts = draw(world, key, family)
    assert (verdict(world.unsafe, prompts.group, prompts.tasks) == VERDICT[family]).all()
    aliases = (prompts.tasks >= world.config.tasks.count).sum(axis=-1)
    assert set(aliases.tolist()) == ({1} if family == "misgen_task" else {0})


@pytest.mark.parametrize("family", ["safe", "unsafe"])
def test_every_allowed_task_group_and_concept_occurs(family: str, world: World, key: jax.Array) -> None:
    prompts = draw(world, key, family)
    for group in range(world.groups):
        seen = set(prompts.tasks[prompts.group == group].ravel().tolist())
        allowed = np.flatnonzero(world.unsafe[group, : world.config.tasks.count] == (family == "unsafe"))
        assert seen == set(allowed.tolist())
    assert set(prompts.concept.tolist()) == set(range(world.concepts))
    assert (prompts.group == prompts.concept // world.config.safety.concepts_per_group).all()


def test_co_task_uses_both_orders(world: World, key: jax.Array) -> None:
    prompts = draw(world, key, "co_task")
    first = world.unsafe[prompts.group, prompts.tasks[:, 0]]
    assert 0.35 < first.mean() < 0.65


def test_pretraining_sees_every_task_and_alias(world: World, key: jax.Array) -> None:
    prompts = sample_batch(world, pretraining, TRAIN, key, COUNT)
    assert set(np.asarray(prompts.tasks).ravel().tolist()) == set(range(world.bijections.shape[0]))


def test_training_never_meets_a_held_out_prompt(world: World, key: jax.Array) -> None:
    def contents(prompts: Prompt) -> set[tuple[int, ...]]:
        rows = zip(prompts.length.tolist(), prompts.tasks.tolist(), prompts.text.tolist(), strict=True)
        return {(length, *tasks, *text) for length, tasks, text in rows}

    for family in FAMILIES:
        kept, trained = draw(world, key, family, HELD_OUT), draw(world, fold(key, 1), family, TRAIN)
        assert not contents(kept) & contents(trained)


def test_the_held_out_share_is_what_was_asked_for(world: World, key: jax.Array) -> None:
    prompts = jax.jit(jax.vmap(lambda k: pretraining(world, k)))(batch_keys(key, 4000))
    distinct = np.unique(np.concatenate([prompts.tasks, prompts.text, prompts.length[:, None]], axis=1), axis=0)
    rows = Prompt(distinct[:, :2], distinct[:, 2:-1], distinct[:, -1], distinct[:, 0], distinct[:, 0])
    share = float(np.mean(jax.vmap(lambda prompt: is_held_out(world, prompt))(rows)))
    # Distinct prompts fall independently: five standard errors.
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / len(distinct)) ** 0.5


def test_a_world_too_small_to_divide_is_an_error() -> None:
    grammar = GrammarConfig(symbols=2, productions=1, branching=(1, 1))
    tiny = WorldConfig(
        held_out=0.01,
        grammar=grammar,
        tasks=TasksConfig(count=2),
        safety=SafetyConfig(unsafe_tasks=(1, 1), concepts_per_group=1),
    )
    with pytest.raises(SettingError, match=r"held_out=0.01: must leave safe prompts both to train on"):
        check_division(build_world(tiny))


@pytest.mark.parametrize("family", FAMILIES)
def test_same_key_same_prompt_alone_and_in_any_batch(family: str, world: World, key: jax.Array) -> None:
    large, small = (sample_batch(world, FAMILIES[family], TRAIN, key, size) for size in (16, 5))
    alone = sample(world, FAMILIES[family], TRAIN, batch_keys(key, 5)[3])
    for big, few, one in zip(large, small, alone, strict=True):
        assert (big[:5] == few).all()
        assert (few[3] == one).all()


def test_a_family_the_world_cannot_have_says_which_setting_would_help() -> None:
    no_aliases = WorldConfig(tasks=TasksConfig(aliases=0))
    with pytest.raises(SettingError, match=r"tasks.aliases=0: misgen_task needs an alias; set 1 or more"):
        check_family(no_aliases, "misgen_task")
    single = WorldConfig(tasks=TasksConfig(composed=1))
    with pytest.raises(SettingError, match=r"tasks.composed=1: co_task mixes"):
        check_family(single, "co_task")
