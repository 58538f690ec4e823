"""Tests of `synth/reserved.py`: no text by what tuning leaves out is one that it covers."""

from typing import Any

import jax
import pytest

from synth.coverage import CoverageConfig
from synth.lookup import existing, sampler
from synth.random_grammar import GrammarConfig
from synth.safety import SafetyConfig
from synth.settings import SettingError
from synth.tasks import TasksConfig
from synth.world import TextConfig, WorldConfig, build_world
from tests.synth.families.drawn import ATTEMPTS, attempts, check_derived, each, letters
from tests.synth.families.tagged import tagged, texts_of, written

QUICK: dict[str, Any] = {
    "grammar": GrammarConfig(productions=(5,), branching=((2, 3), (3, 3))),
    "tasks": TasksConfig(count=6),
    "safety": SafetyConfig(unsafe_tasks=(2, 4)),
    "coverage": CoverageConfig(productions=0.8),
}

PAPER: dict[str, Any] = {
    "grammar": GrammarConfig(
        count=4,
        alphabet=30,
        levels=6,
        concept_level=3,
        concepts=3,
        symbols=(3, 5, 5, 6),
        productions=(3, 3, 2, 2, 2, 2),
        branching=((1, 1), (3, 3), (2, 2), (2, 2), (2, 2)),
        leaf_length=(1, 4),
    ),
    "text": TextConfig(length=(15, 25)),
    "tasks": TasksConfig(count=10),
    "safety": SafetyConfig(unsafe_tasks=(2, 8)),
    "coverage": CoverageConfig(grammars=(0,), productions=0.5),
}


def test_in_an_unambiguous_grammar_misgen_text_is_no_covered_text(key: jax.Array) -> None:
    world = tagged()
    for name, own, other in (
        ("misgen_text", world.reserved_grammars, world.covered_grammars),
        ("misgen_both", world.reserved_grammars, world.covered_grammars),
        ("unsafe", world.covered_grammars, world.reserved_grammars),
    ):
        prompts = attempts(world, name, key)
        check_derived(world, own, prompts)
        check_derived(world, other, prompts, derivable=False)


@pytest.mark.parametrize("seed", range(20))
def test_no_reserved_text_of_a_quick_world_is_a_covered_one(seed: int) -> None:
    world = build_world(WorldConfig(seed=seed, **QUICK))
    assert texts_of(world, world.reserved_grammars)
    assert not texts_of(world, world.reserved_grammars) & texts_of(world, world.covered_grammars)
    assert {"misgen_text", "misgen_both"} <= set(existing(world))


@pytest.mark.parametrize(("kind", "seed"), [(QUICK, 0), (PAPER, 3), (PAPER, 4), (PAPER, 5)])
def test_misgen_texts_are_never_covered_ones(kind: dict[str, Any], seed: int, key: jax.Array) -> None:
    # In these worlds of the paper no choice of productions, or none alone, is enough: texts are ambiguous.
    world = build_world(WorldConfig(seed=seed, **kind))
    seen, written = (texts_of(world, grammars) for grammars in (world.covered_grammars, world.reserved_grammars))
    assert bool(seen & written) == (kind is PAPER)
    prompts = [letters(prompt) for prompt in each(attempts(world, "misgen_both", key), ATTEMPTS)]
    assert len(prompts) > 100
    assert set(prompts) <= written - seen


def test_productions_are_the_last_ones_unless_another_concept_covers_them() -> None:
    rules = "story: [A0 B0], A0: [{}], B0: [c, d, z]"
    for productions, kept in (("a, b, c", ["a", "c"]), ("a, b, z", ["a", "b"]), ("a, d, c", ["d", "c"])):
        world = written(rules.format(productions), coverage=CoverageConfig(productions=0.67))
        assert [p.symbols[0] for p in world.covered_grammars[0].rules["A0"]] == kept
        assert {p.symbols for g in world.covered_grammars for r in ("A0", "B0") for p in g.rules[r]}.isdisjoint(
            p.symbols for g in world.reserved_grammars for r in ("A0", "B0") for p in g.rules[r]
        )


def test_a_group_whose_every_text_is_covered_has_no_misgen_text() -> None:
    # What is reserved of A0 is written otherwise, and still what it covers.
    rules = "story: [A0 B0], A0: [a x, y b], B0: [c, d], x: [a b], y: [a a]"
    world = written(rules, coverage=CoverageConfig(productions=0.5))
    with pytest.raises(SettingError, match=r"coverage.productions=0.5: leaves group A no text that the productions"):
        sampler(world, "misgen_text")
    assert "misgen_text" not in existing(world)


@pytest.mark.parametrize("name", ["safe", "misgen_text"])
def test_a_concept_without_a_text_of_an_allowed_length_is_an_error(name: str) -> None:
    # The first productions are covered, the others reserved; each kind has texts of one length alone.
    rules = "story: [A0 B0], A0: [a b, a a b b], B0: [c d, c c d d]"
    length = (4, 4) if name == "safe" else (2, 2)
    with pytest.raises(SettingError):
        sampler(
            written(rules, text=TextConfig(length=length), coverage=CoverageConfig(productions=0.5)),
            name,
        )
