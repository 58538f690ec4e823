"""Tests of `synth/describe.py`: the paper's world in words, and why a prompt is what it is."""

import jax
import numpy as np
import pytest

from experiments.settings.commands import DataConfig
from experiments.settings.config import load
from synth.describe import describe, levels, reason
from synth.lookup import existing, sample_batch
from synth.notation import parse_grammars
from synth.prompts import TEST, Prompt
from synth.world import World, build_world


@pytest.fixture(scope="module")
def paper() -> World:
    return build_world(load(["world=paper"], DataConfig).world)


@pytest.mark.parametrize(
    "number",
    [
        "4 grammars with the same rules but for the letters",
        "alphabet of 30",
        "trees of depth 6",
        "the concepts on level 3",
        "probabilities uniform",
        "15-25 letters, derived from a concept",
        "a random window of a derivation of 50-75 letters",
        "12 task tokens, 2 in a prompt: 10 tasks (t0 to t9) and 2 aliases (t0', t1')",
        "each a bijection of the alphabet, another in each grammar",
        "an alias does what its twin does",
        "rule all: unsafe if all tasks are unsafe",
        "A: 2 unsafe (t0 t1), 8 safe",
        "B: 8 unsafe (t0 t1 t2 t3 t4 t5 t6 t7), 2 safe (t8 t9)",
        "grammar 1 of 4",
    ],
)
def test_the_papers_world_has_the_papers_numbers(number: str, paper: World) -> None:
    assert number in describe(paper)


def test_the_papers_words_are_true_of_its_tables(paper: World) -> None:
    assert paper.bijections.shape == (4, 12, 30)
    assert (paper.bijections[:, 10:] == paper.bijections[:, :2]).all()
    assert not (paper.bijections[0] == paper.bijections[1]).all()
    assert paper.unsafe[:, :10].sum(axis=1).tolist() == [2, 8]
    assert set(np.flatnonzero(paper.unsafe[0])) <= set(np.flatnonzero(paper.unsafe[1]))
    assert paper.covered.grammars == (0,)
    skeletons = [{s: p for s, p in g.rules.items() if not s.startswith("n6")} for g in paper.grammars]
    leaves = [{p.symbols for s, rule in g.rules.items() if s.startswith("n6") for p in rule} for g in paper.grammars]
    assert all(skeleton == skeletons[0] for skeleton in skeletons)
    assert len(leaves[0] - leaves[1]) > 8  # short strings may agree by chance


def test_every_preset_says_which_families_it_has(paper: World) -> None:
    assert f"families       {', '.join(existing(paper))}\n" in describe(paper) + "\n"
    lone = build_world(load(["world.tasks.aliases=0", "world.coverage.productions=1"], DataConfig).world)
    assert "not in this world: misgen_task, misgen_text, misgen_both" in describe(lone)


def test_levels_are_counted_from_the_top_whatever_the_grammar() -> None:
    rules = "{s: [p q], p: [x a, x], q: [x x], x: [y], y: [a, b]}"
    source = f"letters: a b\nstart: s\ngroups: {{A: p, B: q}}\nrules: {rules}\n"
    assert levels(parse_grammars(source)[0]) == (4, 2)
    headless = source.replace("start: s\n", "").replace("s: [p q], ", "")
    assert levels(parse_grammars(headless)[0]) == (3, 1)


def prompt(tasks: list[int], groups: list[bool], concept: int) -> Prompt:
    return Prompt(*map(np.asarray, (tasks, [0] * 6, 6, 0, concept, groups)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tasks", "groups", "concept", "expected"),
    [
        ([0, 3], [False, True], 2, "unsafe: both tasks are unsafe for concept B0"),
        ([0, 6], [True, False], 1, "unsafe: both tasks are unsafe for concept A1"),
        ([4, 5], [True, False], 0, "safe: both tasks are safe for concept A0"),
        ([1, 4], [True, False], 0, "mixed: t1 unsafe, t4 safe for concept A0"),
        ([4, 7], [True, False], 0, "mixed: t1' unsafe, t4 safe for concept A0"),
        (
            [2, 3],
            [True, True],
            -1,
            "mixed: both tasks are safe for group A; both tasks are unsafe for group B",
        ),
        ([2, 3], [False, False], -1, "safe: the text is of no concept"),
        ([2], [False, True], 3, "unsafe: the task is unsafe for concept B1"),
        ([0, 1, 2], [False, True], 3, "unsafe: all 3 tasks are unsafe for concept B1"),
    ],
)
def test_reasons(tasks: list[int], groups: list[bool], concept: int, expected: str) -> None:
    quick = build_world(load(["world=quick"], DataConfig).world)
    assert reason(quick, prompt(tasks, groups, concept)) == expected


def test_a_reason_begins_with_the_verdict_of_its_family(world: World, key: jax.Array) -> None:
    for family, verdict in (("safe", "safe"), ("unsafe", "unsafe"), ("co_task", "mixed"), ("misgen_task", "unsafe")):
        prompts = sample_batch(world, family, TEST, key, 8)
        said = [reason(world, jax.tree.map(lambda a, i=i: np.asarray(a[i]), prompts)) for i in range(8)]
        assert {line.partition(":")[0] for line in said} == {verdict}
