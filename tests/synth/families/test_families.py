"""Tests of `synth/families/`: every row against plain Python."""

import importlib
import itertools
import pkgutil
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from experiments.store.provenance import reachable
from synth import families
from synth.coverage import CoverageConfig
from synth.families import FAMILIES
from synth.family import FamilyKind
from synth.lookup import existing, sampler, size
from synth.prompts import TRAIN, verdicts
from synth.random_grammar import GrammarConfig
from synth.safety import MIXED, SAFE, UNSAFE, SafetyConfig
from synth.settings import SettingError
from synth.tasks import TasksConfig
from synth.world import TextConfig, World, WorldConfig, build_world
from tests.synth.families.drawn import (
    JUDGED,
    WORLDS,
    Batches,
    attempts,
    check_derived,
    draw_batches,
    each,
    is_of,
    judge,
    present,
    task_sequences,
)
from tests.synth.families.tagged import COVERAGE, check_scope, tagged, texts, texts_of


@pytest.fixture(scope="module")
def batches(world: World, key: jax.Array) -> Batches:
    return draw_batches(world, key)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_is_the_family_of_the_module_with_its_name(name: str) -> None:
    row = FAMILIES[name]
    assert row.module == f"{families.__name__}.{name}"
    assert importlib.import_module(row.module).FAMILY is row
    assert row.kind in get_args(FamilyKind)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_says_how_many_earlier_turns_its_prompts_have(name: str, world: World, key: jax.Array) -> None:
    prompt = jax.eval_shape(partial(sampler(world, name), world), key).prompt
    assert (FAMILIES[name].turns > 0) == bool(prompt.context)
    assert sum(part.tokens.shape[-1] for part in prompt.context) <= size(world, [name]).whole - size(world).whole


def test_every_module_of_the_package_is_a_row() -> None:
    assert sorted(module.name for module in pkgutil.iter_modules(families.__path__)) == sorted(FAMILIES)


@pytest.mark.parametrize("name", JUDGED)
def test_a_kind_is_what_the_ground_truth_says(name: str, world: World, batches: Batches) -> None:
    found = set(verdicts(world, jax.tree.map(jnp.asarray, batches[name, TRAIN])).tolist())
    of_kind = {"safe": {SAFE}, "unsafe": {UNSAFE}, "attack": {MIXED if name.startswith("co_") else UNSAFE}}
    assert found == of_kind[FAMILIES[name].kind]


def of_families(module: str) -> set[str]:
    """The families whose files `module` can reach, "" for the registry."""
    start = families.__name__
    return {name.removeprefix(start).removeprefix(".") for name in reachable(module) if name.startswith(start)}


def test_a_family_reaches_no_other_but_what_it_is_made_of() -> None:
    """The store relies on it: an artifact depends on all code that the families it names reach."""
    made_of = {"misgen_text": "unsafe", "misgen_both": "misgen_task"}
    for name, row in FAMILIES.items():
        assert of_families(row.module) == {name, made_of.get(name, name)}
    assert of_families("synth.lookup") == of_families("synth.judged") == set()


@pytest.mark.parametrize("name", JUDGED)
def test_prompts_are_what_their_family_promises(name: str, world: World, batches: Batches) -> None:
    prompts = batches[name, TRAIN]
    for prompt in each(prompts):
        assert is_of(world, name, prompt)
        if name != "co_text":
            assert present(prompt) == {int(world.group_of[prompt.concept])}
    low, high = world.text_lengths
    assert set(prompts.length.tolist()) <= set(range(low, high + 1))
    expected = [judge(world, prompt.tasks.tolist(), present(prompt)) for prompt in each(prompts)]
    assert verdicts(world, jax.tree.map(jnp.asarray, prompts)).tolist() == expected


@pytest.mark.parametrize("rule", WORLDS)
def test_prompts_are_what_their_family_promises_by_every_rule(rule: str, key: jax.Array) -> None:
    world = build_world(WORLDS[rule])
    names = existing(world)
    # None that the rule, the number of tasks or the grammar could do without is missing.
    missing = {
        "any": {"co_task"},
        "xor": {"co_text"},
        "concept_only": {"co_task"},
        "task_only": {"co_text"},
        "table": set(),
    }[rule]
    assert set(names) == set(JUDGED) - missing
    for name in names:
        prompts = attempts(world, name, key)
        assert len(prompts.length) > 100
        for prompt in each(prompts):
            assert is_of(world, name, prompt)


@pytest.mark.parametrize("name", ["safe", "unsafe", "co_task", "misgen_task", "misgen_text", "misgen_both"])
def test_texts_are_derived_by_the_productions_of_the_family(name: str, world: World, batches: Batches) -> None:
    reserved, prompts = name in ("misgen_text", "misgen_both"), batches[name, TRAIN]
    assert set(prompts.grammar.tolist()) == {0}
    check_derived(world, world.reserved_grammars if reserved else world.covered_grammars, prompts)


def test_pretraining_is_any_text_with_any_tasks(world: World, batches: Batches) -> None:
    prompts = batches["pretraining", TRAIN]
    assert set(prompts.tasks.ravel().tolist()) == set(range(world.bijections.shape[1]))
    assert set(prompts.concept.tolist()) == set(range(len(world.concepts)))
    assert set(prompts.grammar.tolist()) == {0, 1}
    assert all(present(prompt) == {int(world.group_of[prompt.concept])} for prompt in each(prompts))
    check_derived(world, world.grammars, prompts)
    found = set(verdicts(world, jax.tree.map(jnp.asarray, prompts)).tolist())
    assert found == {SAFE, UNSAFE, MIXED}


@pytest.mark.parametrize("part", ["", "tasks", "concepts", "grammars", "productions"])
@pytest.mark.parametrize("name", JUDGED)
def test_families_draw_from_what_is_covered_or_from_the_part_left_out(name: str, part: str, key: jax.Array) -> None:
    world = tagged(coverage=COVERAGE)
    prompts = attempts(world, f"{name}@{part}" if part else name, key)
    assert all(is_of(world, name, prompt) for prompt in each(prompts))
    check_scope(name, part, prompts)


@pytest.mark.parametrize("cropped", [None, (6, 10)])
@pytest.mark.parametrize("name", FAMILIES)
def test_text_length_holds_for_every_family(name: str, cropped: tuple[int, int] | None, key: jax.Array) -> None:
    world = tagged(text=TextConfig(length=(3, 4), cropped_from=cropped))
    prompts = attempts(world, name, key)
    assert world.text_lengths == (3, 4)
    assert prompts.text.shape[1] == 4
    assert set(prompts.length.tolist()) == {3, 4}


@st.composite
def configs(draw: st.DrawFn) -> WorldConfig:
    """Small worlds; the sizes that only cost compilation are fixed."""
    levels = draw(st.integers(2, 3))
    groups, count = draw(st.integers(2, 3)), draw(st.integers(2, 4))
    grammar = GrammarConfig(
        alphabet=6,
        levels=levels,
        concept_level=levels - 1,
        groups=groups,
        symbols=(4,),
        productions=(2,),
        branching=((1, 2),),
        leaf_length=(1, 2),
    )
    rows = st.tuples(*[st.integers(0, 1)] * count)
    subset = st.none() | st.sets(st.integers(0, count - 1), min_size=1).map(tuple)
    return WorldConfig(
        seed=draw(st.integers(0, 3)),
        grammar=grammar,
        tasks=TasksConfig(count=count, aliases=draw(st.integers(0, 2)), composed=draw(st.integers(1, 3))),
        safety=SafetyConfig(
            table=draw(st.tuples(*[rows] * groups)),
            rule=draw(st.sampled_from(["all", "any", "task_only", "concept_only", "xor"])),
        ),
        coverage=CoverageConfig(
            tasks=draw(subset),
            concepts=draw(st.none() | st.sets(st.sampled_from(["A0", "A1", "B0", "B1"]), min_size=1).map(tuple)),
            productions=draw(st.sampled_from([0.5, 1.0])),
        ),
    )


def has_unseen(world: World) -> bool:
    """Whether every group has texts that only reserved productions write."""
    seen = texts_of(world, world.covered_grammars)
    pairs = itertools.product(world.covered.grammars, world.covered.concepts)
    found = {int(world.group_of[c]): False for c in world.covered.concepts}
    for g, c in pairs:
        found[int(world.group_of[c])] |= bool(texts(world.reserved_grammars[g], world.concepts[c]) - seen)
    return all(found.values())


@given(config=configs())
@settings(max_examples=8, deadline=None)
def test_families_of_random_worlds_exist_as_they_should_and_keep_their_promise(config: WorldConfig) -> None:
    try:
        world = build_world(config)
    except SettingError:
        reject()
    names, scope = existing(world), world.covered
    for name in ("safe", "unsafe", "co_task"):
        assert (name in names) == any(task_sequences(world, name, scope).values())
    unsafe = [group for group, every in task_sequences(world, "unsafe", scope).items() if every]
    assert ("misgen_task" in names) == any(world.unsafe[group, config.tasks.count :].any() for group in unsafe)
    assert ("misgen_text" in names) == (bool(unsafe) and config.coverage.productions < 1 and has_unseen(world))
    assert ("misgen_both" in names) == ({"misgen_task", "misgen_text"} <= set(names))
    for name in names:
        several = each(attempts(world, name, jax.random.key(config.seed)), 100)
        assert several
        for prompt in several:
            assert is_of(world, name, prompt)
            assert set(prompt.tasks[prompt.tasks < config.tasks.count].tolist()) <= set(scope.tasks)
            assert int(prompt.concept) in scope.concepts or name == "co_text"
