"""Tests of `synth/families.py`: every family against plain Python."""

import functools
import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from synth.coverage import CoverageConfig, Scope
from synth.derive import NO_CONCEPT
from synth.families import (
    FAMILIES,
    JAILBREAKS,
    check_division,
    existing,
    family,
    left_out,
    sample_batch,
    tuning,
)
from synth.grammar import Grammar
from synth.keys import batch_keys, fold
from synth.likelihood import log_probability
from synth.prompts import HELD_OUT, TRAIN, Prompt, verdicts
from synth.random_grammar import GrammarConfig
from synth.safety import MIXED, SAFE, UNSAFE, SafetyConfig
from synth.settings import SettingError
from synth.tasks import TasksConfig
from synth.world import TextConfig, World, WorldConfig, build_world

Batches = dict[tuple[str, bool], Prompt]

COUNT = 300
ATTEMPTS = 1000

SMALL = GrammarConfig(
    count=2,
    alphabet=6,
    levels=3,
    symbols=(4,),
    productions=(2,),
    branching=((2, 3), (1, 2)),
    leaf_length=(1, 2),
)
WITHOUT_START = GrammarConfig(
    alphabet=6, levels=2, concept_level=1, symbols=(4,), productions=(2,), branching=((1, 2),), leaf_length=(1, 2)
)
WORLDS = {
    "any": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, composed=3),
        safety=SafetyConfig(unsafe_tasks=(1, 2), rule="any"),
        coverage=CoverageConfig(productions=0.5),
    ),
    "xor": WorldConfig(
        grammar=WITHOUT_START,
        tasks=TasksConfig(count=4, aliases=3),
        safety=SafetyConfig(unsafe_tasks=(2, 3), rule="xor"),
        coverage=CoverageConfig(productions=0.5),
    ),
    "concept_only": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, composed=1),
        safety=SafetyConfig(unsafe_tasks=(1, 3), rule="concept_only"),
        coverage=CoverageConfig(productions=0.5),
    ),
    "task_only": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, composed=3),
        safety=SafetyConfig(unsafe_tasks=(1, 2), rule="task_only"),
        coverage=CoverageConfig(productions=0.5),
    ),
    # No table of counts gives these sets: neither is in the other.
    "table": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, aliases=1),
        safety=SafetyConfig(table=((1, 0, 1, 0), (0, 1, 1, 0))),
        coverage=CoverageConfig(productions=0.5),
    ),
}


def sample_prompts(world: World, name: str, key: jax.Array, held_out: bool = TRAIN) -> Prompt:
    return jax.tree.map(np.asarray, sample_batch(world, name, held_out, key, COUNT, 0))


def draw_batches(world: World, key: jax.Array) -> Batches:
    """A batch of each family and of pretraining, by name and side of the division."""
    wanted = [(name, TRAIN) for name in (*FAMILIES, "pretraining")] + [("unsafe", HELD_OUT)]
    # Most of the time goes to compilation, which two threads can share.
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(wanted, pool.map(lambda of: sample_prompts(world, of[0], key, of[1]), wanted), strict=True))


@pytest.fixture(scope="module")
def batches(world: World, key: jax.Array) -> Batches:
    return draw_batches(world, key)


def attempts(world: World, name: str, key: jax.Array) -> Prompt:
    """The accepted ones of ATTEMPTS prompts, from both sides of the division.

    Not compiled as a whole, so that worlds of equal shapes have their operations compiled once.
    """
    sampler = family(world, name)
    prompts, accepted = jax.vmap(lambda k: sampler(world, k))(batch_keys(key, ATTEMPTS))
    return jax.tree.map(lambda a: np.asarray(a)[np.asarray(accepted)], prompts)


def each(prompts: Prompt, number: int = COUNT) -> list[Prompt]:
    """The first prompts, one by one."""
    size = min(number, len(prompts.length))
    return [Prompt(*(np.asarray(part)[i] for part in prompts)) for i in range(size)]


def letters(prompt: Prompt) -> tuple[int, ...]:
    assert not prompt.text[int(prompt.length) :].any()
    return tuple(prompt.text[: int(prompt.length)].tolist())


def content(prompt: Prompt) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(prompt.tasks.tolist()), letters(prompt)


def present(prompt: Prompt) -> set[int]:
    return set(np.flatnonzero(prompt.groups).tolist())


def judge(world: World, tasks: Iterable[int], groups: Iterable[int]) -> int:
    """The verdict, group by group."""
    found = set()
    for group in groups:
        unsafe = [bool(world.unsafe[group, task]) for task in tasks]
        decisive = any(unsafe) if world.config.safety.rule == "any" else all(unsafe)
        found.add(UNSAFE if decisive else MIXED if any(unsafe) else SAFE)
    return found.pop() if len(found) == 1 else MIXED if found else SAFE


def is_of(world: World, name: str, prompt: Prompt) -> bool:
    """Whether tasks and groups are what the family promises."""
    tasks, groups = prompt.tasks.tolist(), present(prompt)
    unsafe = [bool(world.unsafe[group, task]) for group in groups for task in tasks]
    aliases = sum(task >= world.config.tasks.count for task in tasks)
    if aliases != (name in ("misgen_task", "misgen_both")):
        return False
    if name == "co_text":
        kinds = {judge(world, tasks, [group]) for group in groups}
        return len(groups) >= 2 and {SAFE, UNSAFE} <= kinds
    if len(groups) != 1:
        return False
    if name == "safe":
        return not any(unsafe)
    if name == "co_task":
        return any(unsafe) and not all(unsafe) and judge(world, tasks, groups) == MIXED
    return judge(world, tasks, groups) == UNSAFE


def task_sequences(world: World, name: str, scope: Scope) -> dict[int, list[tuple[int, ...]]]:
    """By group, all task sequences of `safe`, `unsafe` or `co_task`, found one by one."""
    wanted = {"safe": SAFE, "unsafe": UNSAFE, "co_task": MIXED}[name]
    every = list(itertools.product(scope.tasks, repeat=world.config.tasks.composed))
    return {
        group: [tasks for tasks in every if judge(world, tasks, [group]) == wanted]
        for group in sorted({int(world.group_of[concept]) for concept in scope.concepts})
    }


def check_shares(found: Iterable[Hashable], shares: Mapping[Any, float]) -> None:
    """Asserts that a chi-square test does not reject `shares`, the rarest taken together."""
    counts = Counter(found)
    assert set(counts) <= {outcome for outcome, share in shares.items() if share > 0}
    total, whole = sum(counts.values()), sum(shares.values())
    observed, expected = [0.0], [0.0]
    for outcome, share in shares.items():
        mean = share / whole * total
        if mean < 5:
            observed[0] += counts[outcome]
            expected[0] += mean
        else:
            observed.append(counts[outcome])
            expected.append(mean)
    if expected[0] < 5:
        few, rare = observed.pop(0), expected.pop(0)
        observed[0] += few
        expected[0] += rare
    # One fixed key: the level is the chance that a right sampler fails here.
    assert len(observed) == 1 or chisquare(observed, expected).pvalue > 1e-3


def words(grammar: Grammar, prompts: Iterable[Prompt]) -> list[list[str]]:
    return [[grammar.letters[letter] for letter in letters(prompt)] for prompt in prompts]


def check_derived(world: World, grammars: tuple[Grammar, ...], prompts: Prompt, derivable: bool = True) -> None:
    """Asserts that the grammar and concept of each prompt derive its text, or that they do not."""
    by_origin: dict[tuple[int, int], list[Prompt]] = {}
    for prompt in each(prompts):
        by_origin.setdefault((int(prompt.grammar), int(prompt.concept)), []).append(prompt)
    for (number, concept), several in by_origin.items():
        grammar = grammars[number]
        found = log_probability(grammar, world.concepts[concept], words(grammar, several))
        assert (np.isfinite(found) == derivable).all()


# --- Verdicts, aliases, texts


@pytest.mark.parametrize("name", FAMILIES)
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
    assert set(names) == set(FAMILIES) - missing
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


# --- Coverage, in a world whose letters tell where they come from


def tagged_source() -> str:
    """Two grammars in which each production of each concept has a letter of its own; z is none's."""
    alphabet = "abcdefghijklmnop"
    documents = []
    for grammar in range(2):
        rules = ["story: {A0 z B0: 0.5, B1 A1: 0.3, A1 A0 B1: 0.2}"]
        for number, concept in enumerate(("A0", "A1", "B0", "B1")):
            own = [alphabet[8 * grammar + 2 * number + production] for production in range(2)]
            rules.append(f"{concept}: {{{concept}s {concept}s: 0.6, {concept}l {concept}l: 0.4}}")
            for symbol, letter in zip(("s", "l"), own, strict=True):
                rules.append(f"{concept}{symbol}: {{{letter}: 0.7, {letter} {letter}: 0.3}}")
        documents.append(
            f"letters: {' '.join(alphabet)} z\nstart: story\ngroups: {{A: [A0, A1], B: [B0, B1]}}\nrules:\n  "
            + "\n  ".join(rules)
        )
    return "\n---\n".join(documents)


NO_TAG = (NO_CONCEPT, NO_CONCEPT, NO_CONCEPT)


def tag(letter: int) -> tuple[int, int, int]:
    """Grammar, concept and production that a letter comes from; z from none."""
    return (letter // 8, letter // 2 % 4, letter % 2) if letter < 16 else NO_TAG


def tags(prompt: Prompt) -> set[tuple[int, int, int]]:
    return {tag(letter) for letter in letters(prompt)} - {NO_TAG}


def tagged(**changed: Any) -> World:
    defaults: dict[str, Any] = {
        "grammar": GrammarConfig(source=tagged_source()),
        "tasks": TasksConfig(count=8),
        "safety": SafetyConfig(unsafe_tasks=(2, 6)),
        "coverage": CoverageConfig(productions=0.5),
    }
    return build_world(WorldConfig(**{**defaults, **changed}))


COVERAGE = CoverageConfig(tasks=(0, 2, 3, 7), concepts=("A0", "B0"), grammars=(0,), productions=0.5)
LEFT_OUT = {"tasks": {1, 4, 5, 6}, "concepts": {1, 3}, "grammars": {1}, "productions": {1}}
COVERED = {"tasks": {0, 2, 3, 7}, "concepts": {0, 2}, "grammars": {0}, "productions": {0}}


def check_scope(name: str, part: str, prompts: Prompt) -> None:
    """Asserts that prompts of the tagged world are within what `FAMILY@PART` draws from, all of it."""
    allowed = {**COVERED, **({part: LEFT_OUT[part]} if part else {})}
    if name in ("misgen_text", "misgen_both"):
        allowed["productions"] = {1}
    several = each(prompts, ATTEMPTS)
    found = set().union(*(tags(prompt) for prompt in several))
    assert {production for _, _, production in found} == allowed["productions"]
    assert {concept for _, concept, _ in found} == allowed["concepts"]
    assert {grammar for grammar, _, _ in found} == allowed["grammars"] == set(prompts.grammar.tolist())
    assert set(prompts.tasks[prompts.tasks < 8].tolist()) <= allowed["tasks"]
    for prompt in several:
        assert {concept // 2 for _, concept, _ in tags(prompt)} == present(prompt)
        if prompt.concept != NO_CONCEPT:
            assert {concept for _, concept, _ in tags(prompt)} == {int(prompt.concept)}


@pytest.mark.parametrize("part", ["", "tasks", "concepts", "grammars", "productions"])
@pytest.mark.parametrize("name", FAMILIES)
def test_families_draw_from_what_is_covered_or_from_the_part_left_out(name: str, part: str, key: jax.Array) -> None:
    world = tagged(coverage=COVERAGE)
    prompts = attempts(world, f"{name}@{part}" if part else name, key)
    assert all(is_of(world, name, prompt) for prompt in each(prompts))
    check_scope(name, part, prompts)


def test_tuning_draws_the_covered_prompts_of_both_kinds(key: jax.Array) -> None:
    world = tagged(coverage=COVERAGE)
    unsafe = np.arange(ATTEMPTS) % 3 == 0
    drawn = jax.vmap(lambda k, u: tuning(world, k, u))(batch_keys(key, ATTEMPTS), jnp.asarray(unsafe))
    assert np.asarray(drawn.accepted).all()
    for kind, name in ((False, "safe"), (True, "unsafe")):
        prompts = jax.tree.map(lambda a, kind=kind: np.asarray(a)[unsafe == kind], drawn.prompt)
        assert all(is_of(world, name, prompt) for prompt in each(prompts))
        check_scope(name, "", prompts)
        check_uniform_tasks(world, name, prompts)


def test_pretraining_covers_what_tuning_leaves_out(key: jax.Array) -> None:
    prompts = attempts(tagged(coverage=COVERAGE), "pretraining", key)
    found = set().union(*(tags(prompt) for prompt in each(prompts, ATTEMPTS)))
    assert found == set(itertools.product(range(2), range(4), range(2)))
    check_shares(prompts.concept.tolist(), dict.fromkeys(range(4), 1))
    check_shares(prompts.grammar.tolist(), dict.fromkeys(range(2), 1))


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


def texts_of(world: World, grammars: tuple[Grammar, ...]) -> set[tuple[int, ...]]:
    """Every text of the covered concepts in the covered grammars, by the productions of `grammars`."""
    pairs = itertools.product(world.covered.grammars, world.covered.concepts)
    return set().union(*(texts(grammars[g], world.concepts[c]) for g, c in pairs))


@functools.cache
def texts(grammar: Grammar, symbol: str) -> frozenset[tuple[int, ...]]:
    if symbol not in grammar.rules:
        return frozenset({(grammar.letters.index(symbol),)})
    sides = (itertools.product(*(texts(grammar, c) for c in p.symbols)) for p in grammar.rules[symbol])
    return frozenset(tuple(itertools.chain.from_iterable(parts)) for parts in itertools.chain(*sides))


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
        family(world, "misgen_text")
    assert "misgen_text" not in existing(world)


# --- Windows of longer texts


def derivations(grammar: Grammar, symbol: str) -> dict[tuple[int, ...], float]:
    """Every text of `symbol` with its probability."""
    if symbol not in grammar.rules:
        return {(grammar.letters.index(symbol),): 1.0}
    texts: dict[tuple[int, ...], float] = {}
    for production in grammar.rules[symbol]:
        for parts in itertools.product(*(derivations(grammar, child).items() for child in production.symbols)):
            text = tuple(itertools.chain.from_iterable(part for part, _ in parts))
            share = production.probability * float(np.prod([share for _, share in parts]))
            texts[text] = texts.get(text, 0.0) + share
    return texts


def windows(grammars: Iterable[Grammar], low: int, high: int, whole: tuple[int, int]) -> dict[tuple[int, ...], float]:
    """Every window of `low` to `high` letters of a story of a length in `whole`, with its share."""
    shares: dict[tuple[int, ...], float] = {}
    for grammar, wanted in itertools.product(grammars, range(low, high + 1)):
        for text, share in derivations(grammar, "story").items():
            if whole[0] <= len(text) <= whole[1]:
                length = min(wanted, len(text))
                places = len(text) - length + 1
                for begin in range(places):
                    window = text[begin : begin + length]
                    shares[window] = shares.get(window, 0.0) + share / places
    return shares


def groups_in(text: tuple[int, ...]) -> set[int]:
    return {tag(letter)[1] // 2 for letter in text} - {NO_CONCEPT}


def test_cropped_pretraining_is_a_window_of_a_story(key: jax.Array) -> None:
    world = tagged(text=TextConfig(length=(3, 5), cropped_from=(6, 10)))
    prompts = attempts(world, "pretraining", key)
    check_shares(prompts.length.tolist(), dict.fromkeys((3, 4, 5), 1))
    assert (prompts.concept == NO_CONCEPT).all()
    several = each(prompts, ATTEMPTS)
    assert all(present(prompt) == groups_in(letters(prompt)) for prompt in several)
    assert {len(present(prompt)) for prompt in several} == {1, 2}
    assert all({grammar for grammar, _, _ in tags(prompt)} == {int(prompt.grammar)} for prompt in several)
    check_shares([letters(prompt) for prompt in several], windows(world.grammars, 3, 5, (6, 10)))


def test_a_window_may_hold_letters_of_no_group(key: jax.Array) -> None:
    world = tagged(text=TextConfig(length=(1, 2), cropped_from=(6, 10)), coverage=CoverageConfig())
    empty = [prompt for prompt in each(attempts(world, "pretraining", key), ATTEMPTS) if letters(prompt) == (16,)]
    assert empty
    assert all(present(prompt) == set() for prompt in empty)


def test_co_text_is_a_window_with_letters_of_both_groups(key: jax.Array) -> None:
    world = tagged()
    low, high = world.text_lengths
    assert (low, high) == (2, 4)
    several = each(attempts(world, "co_text", key), ATTEMPTS)
    assert all(present(prompt) == groups_in(letters(prompt)) == {0, 1} for prompt in several)
    possible = windows(world.covered_grammars, low, high, (0, 99))
    check_shares(
        [letters(prompt) for prompt in several],
        {text: share for text, share in possible.items() if groups_in(text) == {0, 1}},
    )


@pytest.mark.parametrize("cropped", [None, (6, 10)])
@pytest.mark.parametrize("name", ["pretraining", *FAMILIES])
def test_text_length_holds_for_every_family(name: str, cropped: tuple[int, int] | None, key: jax.Array) -> None:
    world = tagged(text=TextConfig(length=(3, 4), cropped_from=cropped))
    prompts = attempts(world, name, key)
    assert world.text_lengths == (3, 4)
    assert prompts.text.shape[1] == 4
    assert set(prompts.length.tolist()) == {3, 4}


# --- How often each prompt comes


def check_uniform_tasks(world: World, name: str, prompts: Prompt) -> None:
    """Asserts that groups that have such prompts are equally frequent, and so are a group's task sequences."""
    several = each(prompts, ATTEMPTS)
    found = [(min(present(prompt)), tuple(prompt.tasks.tolist())) for prompt in several]
    by_group = {group: every for group, every in task_sequences(world, name, world.covered).items() if every}
    check_shares(found, {(group, tasks): 1 / len(every) for group, every in by_group.items() for tasks in every})


@pytest.mark.parametrize("rule", WORLDS)
def test_prompts_are_uniform_over_the_task_sequences_of_their_family(rule: str, key: jax.Array) -> None:
    world = build_world(WORLDS[rule])
    for name in {"safe", "unsafe", "co_task"} & set(existing(world)):
        check_uniform_tasks(world, name, attempts(world, name, fold(key, name)))


@pytest.mark.parametrize("rule", ["all", "any"])
def test_co_text_is_uniform_over_the_sequences_that_compete(rule: str, key: jax.Array) -> None:
    world = tagged(
        tasks=TasksConfig(count=4, composed=2),
        safety=SafetyConfig(unsafe_tasks=(1, 3), rule=rule),
    )
    competing = [
        tasks
        for tasks in itertools.product(range(4), repeat=2)
        if {judge(world, tasks, [0]), judge(world, tasks, [1])} == {SAFE, UNSAFE}
    ]
    found = [tuple(prompt.tasks.tolist()) for prompt in each(attempts(world, "co_text", key), ATTEMPTS)]
    check_shares(found, dict.fromkeys(competing, 1))


@pytest.mark.parametrize("frequency", [0.0, 1.0, 3.0])
def test_aliases_are_as_frequent_in_pretraining_as_asked_for(frequency: float, key: jax.Array) -> None:
    tasks = TasksConfig(count=4, aliases=2, alias_frequency=frequency)
    world = build_world(WorldConfig(grammar=SMALL, tasks=tasks, safety=SafetyConfig(unsafe_tasks=(1, 3))))
    found = attempts(world, "pretraining", key).tasks.ravel().tolist()
    check_shares(found, {task: 1.0 if task < 4 else frequency for task in range(6)})
    share = 2 * frequency / (4 + 2 * frequency)
    mean = float(np.mean(np.array(found) >= 4))
    assert abs(mean - share) <= 5 * (share * (1 - share) / len(found)) ** 0.5


# --- Which families there are


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
        family(world, name)


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


def small(**changed: Any) -> WorldConfig:
    defaults: dict[str, Any] = {
        "grammar": SMALL,
        "tasks": TasksConfig(count=4),
        "safety": SafetyConfig(unsafe_tasks=(1, 3)),
    }
    return WorldConfig(**{**defaults, **changed})


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
        family(world, name)
    base = name.partition("@")[0]
    if base == name:
        assert name not in existing(world)
        with pytest.raises(SettingError, match=message):
            FAMILIES[name].check(world, world.covered)


def test_a_world_may_have_every_family(world: World) -> None:
    assert existing(world) == tuple(FAMILIES)
    assert set(JAILBREAKS) == set(FAMILIES) - {"safe", "unsafe"}


def written(rules: str, **changed: Any) -> World:
    groups = "{A: [A0], B: [B0], C: [C0]}" if "C0" in rules else "{A: [A0], B: [B0]}"
    source = f"letters: a b c d z\nstart: story\ngroups: {groups}\nrules: {{{rules}}}"
    defaults: dict[str, Any] = {
        "grammar": GrammarConfig(source=source),
        "tasks": TasksConfig(count=4, composed=1),
        "safety": SafetyConfig(unsafe_tasks=(1, 3)),
    }
    return build_world(WorldConfig(**{**defaults, **changed}))


def test_groups_that_share_no_text_give_no_co_text() -> None:
    world = written(
        "story: [A0 B0, C0 C0], A0: [a b], B0: [c d], C0: [d a]", safety=SafetyConfig(unsafe_tasks=(1, 1, 3))
    )
    with pytest.raises(SettingError):
        family(world, "co_text")


def test_groups_too_far_apart_for_a_window_give_no_co_text() -> None:
    world = written("story: [A0 z z z B0], A0: [a b], B0: [c d]")
    with pytest.raises(SettingError):
        family(world, "co_text")


@pytest.mark.parametrize("name", ["safe", "misgen_text"])
def test_a_concept_without_a_text_of_an_allowed_length_is_an_error(name: str) -> None:
    # The first productions are covered, the others reserved; each kind has texts of one length alone.
    rules = "story: [A0 B0], A0: [a b, a a b b], B0: [c d, c c d d]"
    length = (4, 4) if name == "safe" else (2, 2)
    with pytest.raises(SettingError):
        family(
            written(rules, text=TextConfig(length=length), coverage=CoverageConfig(productions=0.5)),
            name,
        )


# --- Worlds that cannot be divided


TINY = GrammarConfig(groups=2, concepts=1, symbols=(2,), productions=(1,), branching=((1, 1),))


def test_a_world_too_small_to_divide_is_an_error() -> None:
    tiny = WorldConfig(
        held_out=0.01,
        grammar=TINY,
        tasks=TasksConfig(count=2),
        safety=SafetyConfig(unsafe_tasks=(1, 1)),
    )
    with pytest.raises(SettingError, match=r"held_out=0.01: must leave safe prompts both to train on and to hold out"):
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
    with pytest.raises(SettingError, match=r"held_out=0.05: must leave safe prompts both to train on and to hold out"):
        check_division(world)


def test_a_world_that_can_be_divided_is_no_error() -> None:
    check_division(build_world(WORLDS["xor"]))
