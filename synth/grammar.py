"""Probabilistic context-free grammars by name: rules, concept groups and what follows from them.

A grammar here is free of recursion, so every text is bounded. Some of its nonterminals are
*concepts*, dealt into groups (arXiv 2407.10264, sec. 3: the split of the level-3 nodes);
text is derived from a concept, or from a nonterminal above the concepts.
"""

import graphlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from synth.settings import SettingError, require

LONGEST_TEXT = 1024
"""Letters that a text may have at most."""
DEEPEST = 256
"""Nonterminals that may stand one below the other."""
NAME = re.compile(r"[A-Za-z_]\w*")
"""What a nonterminal may be called, so that NLTK can read it."""


class Production(NamedTuple):
    """One right-hand side: nonterminals and letters, and its probability."""

    symbols: tuple[str, ...]
    probability: float


@dataclass(frozen=True, eq=False)
class Grammar:
    """A PCFG without recursion; `make_grammar` checks and orders one."""

    letters: tuple[str, ...]
    """The alphabet; letters that no rule uses may still occur in responses."""
    rules: Mapping[str, tuple[Production, ...]]
    """The productions of each nonterminal, parents before children"""
    groups: Mapping[str, tuple[str, ...]]
    """The concepts of each concept group"""
    start: str | None
    """The nonterminal above all concepts, if there is one"""

    @property
    def concepts(self) -> tuple[str, ...]:
        """All concepts, group after group."""
        return tuple(concept for group in self.groups.values() for concept in group)

    def children(self, symbol: str) -> set[str]:
        """The nonterminals on the right-hand sides of `symbol`."""
        return {child for rule in self.rules[symbol] for child in rule.symbols if child in self.rules}


def _at(symbol: str, production: int | None = None) -> str:
    return f"rule {symbol}" if production is None else f"rule {symbol}, production {production + 1}"


def make_grammar(
    letters: tuple[str, ...],
    rules: Mapping[str, tuple[Production, ...]],
    groups: Mapping[str, tuple[str, ...]],
    start: str | None,
    at: Callable[[str, int | None], str] = _at,
) -> Grammar:
    """A grammar that can be used: its rules ordered, parents before children.

    `at(symbol, production)` says where a rule stands, for messages. Raises SettingError, named
    `source`, that gives the place: an unknown symbol, an empty or improbable production, a
    symbol that never ends in letters, recursion, an unreachable symbol, concepts that contain
    one another, texts that would be too long.
    """

    def need(ok: bool, place: str, problem: str, fix: str) -> None:
        require(ok, "source", place, problem, fix)

    need(len(letters) >= 2, "letters", f"{len(letters)} given, 2 needed", "list the letters of the alphabet")
    for letter, times in Counter(letters).items():
        need(times == 1, f"letters: {letter}", "listed twice", "list it once")
        need(letter not in rules, f"letters: {letter}", "has a rule too", "rename the letter or the rule")
    known = {*letters, *rules}
    for symbol, productions in rules.items():
        fix = "use letters, digits and _, and begin with one of A to Z, a to z or _"
        need(bool(NAME.fullmatch(symbol)), at(symbol, None), "no name for a symbol", fix)
        need(len(productions) > 0, at(symbol, None), "has no production, so it never ends in letters", "add one")
        first = {production.symbols: i for i, production in reversed(list(enumerate(productions)))}
        for i, production in enumerate(productions):
            place = at(symbol, i)
            need(len(production.symbols) > 0, place, "is empty", "give it a symbol or remove it")
            for child in production.symbols:
                need(child in known, place, f"{child} is neither a letter nor has a rule", "add it to letters or rules")
            probability = production.probability
            need(0 < probability <= 1, place, f"has probability {probability:g}, not in (0, 1]", "remove or correct it")
            twin = first[production.symbols]
            need(twin == i, place, f"is the same as production {twin + 1}", "keep one and add the probabilities")
        total = math.fsum(p.probability for p in productions)
        summed = f"probabilities sum to {total:.9g}, not to 1"
        need(abs(total - 1) < 1e-6, at(symbol, None), summed, "make them sum to 1")
    _check_groups(rules, groups, start, need, at)
    grammar = Grammar(letters, {symbol: rules[symbol] for symbol in _order(rules, need, at)}, groups, start)
    _check_structure(grammar, need, at)
    for symbol, (_, longest) in _text_lengths(grammar):
        need(
            longest <= LONGEST_TEXT,
            at(symbol, None),
            f"derives texts of up to {longest} letters, more than {LONGEST_TEXT}",
            "shorten its productions",
        )
    return grammar


Need = Callable[[bool, str, str, str], None]


def _check_groups(
    rules: Mapping[str, tuple[Production, ...]],
    groups: Mapping[str, tuple[str, ...]],
    start: str | None,
    need: Need,
    at: Callable[[str, int | None], str],
) -> None:
    need(len(groups) >= 2, "groups", f"{len(groups)} given, 2 needed", "name the concepts of 2 or more groups")
    seen: dict[str, str] = {}
    for group, concepts in groups.items():
        need(len(concepts) > 0, f"groups: {group}", "has no concept", "name a symbol that has a rule")
        for concept in concepts:
            need(concept in rules, f"groups: {group}", f"{concept} has no rule", "name a symbol that has a rule")
            need(concept not in seen, f"groups: {group}", f"{concept} is in group {seen.get(concept)} too", "keep one")
            seen[concept] = group
    need(start is None or start in rules, "start", f"{start} has no rule", "name a symbol that has a rule")


def _order(rules: Mapping[str, tuple[Production, ...]], need: Need, at: Callable[[str, int | None], str]) -> list[str]:
    """The nonterminals, parents before children."""
    # A production is open while it waits for a nonterminal that is not known to end in letters.
    waits: dict[str, list[tuple[str, int]]] = {symbol: [] for symbol in rules}
    missing = {}
    for symbol, productions in rules.items():
        for i, production in enumerate(productions):
            children = {child for child in production.symbols if child in rules}
            missing[symbol, i] = len(children)
            for child in children:
                waits[child].append((symbol, i))
    ends: set[str] = set()
    todo = [symbol for (symbol, _), number in missing.items() if number == 0]
    while todo:
        child = todo.pop()
        if child in ends:
            continue
        ends.add(child)
        for symbol, i in waits[child]:
            missing[symbol, i] -= 1
            if missing[symbol, i] == 0:
                todo.append(symbol)
    endless = next((symbol for symbol in rules if symbol not in ends), None)
    if endless is not None:
        # Every production of such a symbol holds another: follow them to one that comes again.
        followed: dict[str, None] = {}
        while endless not in followed:
            followed[endless] = None
            endless = next(child for p in rules[endless] for child in p.symbols if child in rules and child not in ends)
        need(False, at(endless, None), "never ends in letters", "give it a production that leads to letters")
    graph = {s: sorted({c for p in rules[s] for c in p.symbols if c in rules}) for s in rules}
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())[::-1]
    except graphlib.CycleError as error:
        cycle = error.args[1][::-1]
        shown = cycle if len(cycle) <= 8 else [*cycle[:4], "...", *cycle[-3:]]
        need(False, at(cycle[0], None), f"leads back to itself: {' -> '.join(shown)}", "break the cycle")
        raise


def _check_structure(grammar: Grammar, need: Need, at: Callable[[str, int | None], str]) -> None:
    """Every nonterminal is used, none is too deep, and no concept lies inside another."""
    concepts, depth = set(grammar.concepts), depths(grammar)
    reached = reachable(grammar.rules, *tops(grammar.groups, grammar.start))
    inside: dict[str, str] = {}
    for symbol in grammar.rules:
        need(symbol in reached, at(symbol, None), "is reached from no concept and no start", "use it or remove it")
        need(depth[symbol] <= DEEPEST, at(symbol, None), f"is more than {DEEPEST} levels deep", "make it shallower")
        outer = inside.get(symbol)
        if symbol in concepts:
            need(outer is None, at(symbol, None), f"is a concept inside the concept {outer}", "keep one of them")
            outer = symbol
        if outer:
            inside |= dict.fromkeys(grammar.children(symbol), outer)


def depths(grammar: Grammar) -> dict[str, int]:
    """The level of each nonterminal: 1 where nothing is above it, else one below the lowest above it."""
    depth = dict.fromkeys(grammar.rules, 1)
    for symbol in grammar.rules:
        for child in grammar.children(symbol):
            depth[child] = max(depth[child], depth[symbol] + 1)
    return depth


def text_lengths(grammar: Grammar, symbol: str) -> tuple[int, int]:
    """Fewest and most letters of a text derived from `symbol`."""
    return next(ends for name, ends in _text_lengths(grammar) if name == symbol)


def _text_lengths(grammar: Grammar) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each nonterminal, children before parents, with its fewest and most letters."""
    found: dict[str, tuple[int, int]] = dict.fromkeys(grammar.letters, (1, 1))
    for name in reversed(list(grammar.rules)):
        sums = [[sum(ends) for ends in zip(*(found[c] for c in p.symbols), strict=True)] for p in grammar.rules[name]]
        found[name] = min(low for low, _ in sums), max(high for _, high in sums)
        yield name, found[name]


def common_ancestors(grammar: Grammar) -> tuple[str, ...]:
    """The lowest nonterminals below which there are concepts of several groups."""
    below: dict[str, frozenset[str]] = {}
    owner = {concept: group for group, concepts in grammar.groups.items() for concept in concepts}
    for symbol in reversed(list(grammar.rules)):
        groups = frozenset({owner[symbol]} if symbol in owner else set())
        below[symbol] = groups.union(*(below[child] for child in grammar.children(symbol)))
    return tuple(
        symbol
        for symbol in grammar.rules
        if len(below[symbol]) > 1 and all(len(below[child]) <= 1 for child in grammar.children(symbol))
    )


def tops(groups: Mapping[str, tuple[str, ...]], start: str | None) -> list[str]:
    """What text is derived from: the concepts, and the start symbol if there is one."""
    return [*(concept for group in groups.values() for concept in group), *([start] if start else [])]


def reachable(rules: Mapping[str, tuple[Production, ...]], *symbols: str) -> dict[str, tuple[Production, ...]]:
    """The rules that a derivation from `symbols` can use, in the order of `rules`."""
    todo, reached = list(symbols), set[str]()
    while todo:
        symbol = todo.pop()
        if symbol in rules and symbol not in reached:
            reached.add(symbol)
            todo += {child for production in rules[symbol] for child in production.symbols}
    return {symbol: rule for symbol, rule in rules.items() if symbol in reached}


def reachable_from(grammar: Grammar, *symbols: str) -> dict[str, tuple[Production, ...]]:
    """The rules that a derivation from `symbols` can use, parents before children."""
    return reachable(grammar.rules, *symbols)


def restrict(grammar: Grammar, kept: Callable[[str, int], bool]) -> Grammar:
    """The grammar without the productions of concepts that `kept(concept, index)` rejects.

    The probabilities of those that stay keep their ratios. Raises SettingError if a concept
    would be left without a production.
    """
    rules = dict(grammar.rules)
    for concept in grammar.concepts:
        stay = [production for i, production in enumerate(rules[concept]) if kept(concept, i)]
        if not stay:
            raise SettingError("productions", concept, "is left without a production", "give it more of them")
        total = math.fsum(p.probability for p in stay)
        rules[concept] = tuple(Production(p.symbols, p.probability / total) for p in stay)
    return replace(grammar, rules=rules)
