"""Tests of `synth/lookup.py`: which families there are, what they are called, and whether a world can be divided."""

from typing import Any

import pytest

from synth.coverage import CoverageConfig, Scope
from synth.families import FAMILIES, JAILBREAKS
from synth.lookup import check_division, existing, left_out, modules, sampler
from synth.random_grammar import GrammarConfig
from synth.safety import SafetyConfig
from synth.settings import SettingError
from synth.tasks import TasksConfig
from synth.world import TextConfig, World, WorldConfig, build_world
from tests.synth.families.drawn import JUDGED, WITHOUT_START, WORLDS, small
from tests.synth.families.tagged import COVERAGE, tagged, written


def test_a_world_may_have_every_family(world: World) -> None:
    assert existing(world) == tuple(JUDGED)
    assert set(JAILBREAKS) == set(JUDGED) - {"safe", "unsafe"}


def test_modules_are_those_of_the_families_named() -> None:
    of = ("synth.families.unsafe", "synth.families.pretraining")
    assert modules(["unsafe", "unsafe@tasks", "pretraining", "unsafe"]) == of
    with pytest.raises(SettingError, match="family=rude: must be among safe"):
        modules(["safe", "rude"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rude", r"family=rude: must be among safe, unsafe, co_task, .*misgen_both, pretraining; choose"),
        ("rude@tasks", r"family=rude@tasks: must be among safe"),
        ("pretraining@tasks", r"family=pretraining@tasks: must be among safe"),
        ("", r"family=: must be among safe"),
        ("safe@letters", r"family=safe@letters: @ must name one of tasks, concepts, grammars, productions"),
        ("safe@", r"family=safe@: @ must name one of tasks"),
    ],
)
def test_a_family_that_does_not_exist_is_an_error(name: str, message: str, world: World) -> None:
    with pytest.raises(SettingError, match=message):
        sampler(world, name)


@pytest.mark.parametrize("part", ["tasks", "concepts", "grammars"])
def test_a_part_of_which_nothing_is_left_out_is_an_error(part: str) -> None:
    with pytest.raises(SettingError, match=rf"coverage.{part}=all: leaves no {part} out of tuning"):
        left_out(tagged(), part)


def test_a_part_left_out_is_what_is_not_covered() -> None:
    world = tagged(coverage=COVERAGE)
    assert left_out(world, "tasks") == Scope((1, 4, 5, 6), (0, 2), (0,))
    assert left_out(world, "concepts") == Scope((0, 2, 3, 7), (1, 3), (0,))
    assert left_out(world, "grammars") == Scope((0, 2, 3, 7), (0, 2), (1,))
    assert left_out(world, "productions") == Scope((0, 2, 3, 7), (0, 2), (0,), reserved=True)


@pytest.mark.parametrize(
    ("changed", "name", "message"),
    [
        ({"tasks": TasksConfig(count=4, composed=1)}, "co_task", r"tasks.composed=1: co_task mixes two kinds"),
        (
            {"safety": SafetyConfig(unsafe_tasks=(1, 3), rule="any")},
            "co_task",
            r"safety.rule=any: co_task prompts are unsafe by this rule",
        ),
        ({"grammar": WITHOUT_START}, "co_text", r"grammar.concept_level=no symbol is above concepts of two groups"),
        (
            {"tasks": TasksConfig(count=4, aliases=0)},
            "misgen_task",
            r"tasks.aliases=0: prompts with an alias need one; set",
        ),
        (
            {"tasks": TasksConfig(count=4, aliases=0)},
            "misgen_both",
            r"tasks.aliases=0: prompts with an alias need one; set",
        ),
        (
            {"tasks": TasksConfig(count=4, aliases=1), "safety": SafetyConfig(table=((0, 0, 0, 1), (0, 1, 1, 1)))},
            "misgen_task",
            r"tasks.aliases=1: prompts with an alias need one that is unsafe for a group, and none is",
        ),
        ({}, "misgen_text", r"coverage.productions=1.0: leaves some concept no production that tuning does not cover"),
        ({}, "misgen_both", r"coverage.productions=1.0: leaves some concept no production that tuning does not cover"),
        (
            {},
            "safe@productions",
            r"coverage.productions=1.0: leaves some concept no production that tuning does not cover",
        ),
        (
            {"safety": SafetyConfig(unsafe_tasks=(1, 3), rule="concept_only")},
            "co_task",
            r"safety.rule=concept_only: leaves no prompt of the family co_task",
        ),
        (
            {"safety": SafetyConfig(unsafe_tasks=(1, 3), rule="task_only")},
            "co_text",
            r"safety.rule=task_only: leaves no prompt of the family co_text",
        ),
        (
            {"coverage": CoverageConfig(tasks=(3,))},
            "unsafe",
            r"coverage.tasks=\['t3'\]: leaves no prompt of the family unsafe",
        ),
        (
            {"coverage": CoverageConfig(tasks=(0,))},
            "safe",
            r"coverage.tasks=\['t0'\]: leaves no prompt of the family safe",
        ),
    ],
)
def test_a_family_the_world_cannot_have_says_which_setting_would_help(
    changed: dict[str, Any], name: str, message: str
) -> None:
    world = build_world(small(**changed))
    with pytest.raises(SettingError, match=message):
        sampler(world, name)
    base = name.partition("@")[0]
    if base == name:
        assert name not in existing(world)
        with pytest.raises(SettingError, match=message):
            FAMILIES[name].check(world, world.covered)


TINY = GrammarConfig(groups=2, concepts=1, symbols=(2,), productions=(1,), branching=((1, 1),))


def test_a_world_too_small_to_divide_is_an_error() -> None:
    tiny = WorldConfig(
        held_out=0.01,
        grammar=TINY,
        tasks=TasksConfig(count=2),
        safety=SafetyConfig(unsafe_tasks=(1, 1)),
    )
    with pytest.raises(SettingError, match=r"held_out=0.01: must leave safe prompts to"):
        check_division(build_world(tiny))


def test_only_texts_of_an_allowed_length_count_for_the_division() -> None:
    # Long texts abound, but those of an allowed length give one safe prompt.
    side = "{z z z z: 0.3, x x x x x: 0.7}"
    world = written(
        f"story: [A0 B0], A0: {side}, B0: {side}, x: [a, b, c, d]",
        held_out=0.05,
        text=TextConfig(length=(4, 4)),
        tasks=TasksConfig(count=2, aliases=0, composed=1),
        safety=SafetyConfig(unsafe_tasks=(1, 1)),
    )
    with pytest.raises(SettingError, match=r"held_out=0.05: must leave safe prompts to"):
        check_division(world)


def test_a_world_that_can_be_divided_is_no_error() -> None:
    check_division(build_world(WORLDS["xor"]))
