"""A world whose letters tell where they come from, and every text that small grammars can write."""

import functools
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from synth.coverage import CoverageConfig
from synth.derive import NO_CONCEPT
from synth.grammar import Grammar
from synth.prompts import Prompt
from synth.random_grammar import GrammarConfig
from synth.safety import SafetyConfig
from synth.tasks import TasksConfig
from synth.world import World, WorldConfig, build_world
from tests.synth.families.drawn import (
    ATTEMPTS,
    each,
    letters,
    present,
)

NO_TAG = (NO_CONCEPT, NO_CONCEPT, NO_CONCEPT)

COVERAGE = CoverageConfig(tasks=(0, 2, 3, 7), concepts=("A0", "B0"), grammars=(0,), productions=0.5)

LEFT_OUT = {"tasks": {1, 4, 5, 6}, "concepts": {1, 3}, "grammars": {1}, "productions": {1}}

COVERED = {"tasks": {0, 2, 3, 7}, "concepts": {0, 2}, "grammars": {0}, "productions": {0}}


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


def groups_in(text: tuple[int, ...]) -> set[int]:
    return {tag(letter)[1] // 2 for letter in text} - {NO_CONCEPT}


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


def written(rules: str, **changed: Any) -> World:
    groups = "{A: [A0], B: [B0], C: [C0]}" if "C0" in rules else "{A: [A0], B: [B0]}"
    source = f"letters: a b c d z\nstart: story\ngroups: {groups}\nrules: {{{rules}}}"
    defaults: dict[str, Any] = {
        "grammar": GrammarConfig(source=source),
        "tasks": TasksConfig(count=4, composed=1),
        "safety": SafetyConfig(unsafe_tasks=(1, 3)),
    }
    return build_world(WorldConfig(**{**defaults, **changed}))
