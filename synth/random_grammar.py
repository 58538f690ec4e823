"""Random grammars by settings: levelled, symbols of each level writing strings over the next."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from synth.grammar import LONGEST_TEXT, Grammar, Production, make_grammar, reachable, tops
from synth.keys import fold
from synth.notation import parse_grammars
from synth.settings import bounds, require, require_above_zero, require_at_most, require_positive, require_share
from synth.strings import count_strings, distinct_strings, twin_pairs

MOST = 2**10
"""Of anything that a grammar's settings count."""
LARGEST = 2**16
"""Productions of one level in all grammars: what can still be made in seconds."""


@dataclass(unsafe_hash=True)
class GrammarConfig:
    """Settings of the grammars. Settings "a level" list one entry for each, or one for all.

    Levels count from 1 at the top; letters lie below the last.
    """

    source: str = field(default="", repr=False)
    """Your own grammars as YAML (`synth/notation.py` shows the form); the settings below then
    do not apply. On the command line `world.grammar.source=@FILE`."""
    count: int = 1
    """Grammars: the same rules but for the letters of the last level (the paper's four PCFGs)."""
    shared_leaves: float = 0.0
    """Share of the last level's productions that all grammars have in common."""
    alphabet: int = 10
    """Letters, the terminals."""
    levels: int = 3
    """Levels of nonterminals, those above the concepts included."""
    concept_level: int = 2
    """The level of the concepts. At 1 there is nothing above them; else level 1 is one start symbol."""
    groups: int = 2
    """Concept groups, from safe-dominant to unsafe-dominant."""
    concepts: int = 2
    """Concepts of each group."""
    symbols: tuple[int, ...] = (8,)
    """Nonterminals a level, for the levels that are neither the start nor the concepts."""
    productions: tuple[int, ...] = (5,)
    """Right-hand sides of each nonterminal, a level."""
    branching: tuple[Any, ...] = ((2, 3),)
    """[fewest, most] symbols on a right-hand side, a level but the last."""
    leaf_length: tuple[int, int] = (2, 2)
    """Fewest and most letters on a right-hand side of the last level."""
    concept_overlap: float = 0.0
    """Share of the symbols right below the concepts that every concept group may use."""
    ambiguity: float = 0.0
    """Share of the last level's productions whose letters another symbol may write too."""
    dirichlet: float | None = None
    """Concentration of each symbol's production probabilities; null makes them uniform, as in the paper."""

    def __post_init__(self) -> None:
        require_positive(self, "count", "levels", "concept_level", "groups", "concepts", "alphabet", most=MOST)
        require_share(self, "shared_leaves", "concept_overlap", "ambiguity")
        if self.dirichlet is not None:
            require_above_zero(self, "dirichlet")
        self.symbols, self.productions = tuple(self.symbols), tuple(self.productions)
        self.leaf_length = bounds("leaf_length", self.leaf_length)
        self.branching = tuple(bounds("branching", entry) for entry in self.branching)
        if self.source:
            self.count = len(parse_grammars(self.source))
            return
        require(self.groups >= 2, "groups", self.groups, "must be at least 2", "set 2: safe- and unsafe-dominant")
        require(self.alphabet >= 2, "alphabet", self.alphabet, "must be at least 2", "add letters")
        require(
            self.concept_level < self.levels,
            "concept_level",
            self.concept_level,
            f"must be above the last level, levels={self.levels}",
            f"set concept_level below {self.levels}, or more levels",
        )
        self._check_levels("symbols", self.symbols, self._free_levels())
        self._check_levels("productions", self.productions, self.levels)
        self._check_levels("branching", self.branching, self.levels - 1)
        for name in ("symbols", "productions"):
            for value in getattr(self, name):
                require(value >= 1, name, value, "must be at least 1", f"set {name} to 1 or more")
                require_at_most(name, value, MOST)
        below = self.symbols_at(self.concept_level + 1)
        require(
            self.shared_symbols() >= 1 or below >= self.groups,
            "symbols",
            below,
            f"must give each of the {self.groups} concept groups a symbol",
            f"set symbols to {self.groups} or more",
        )
        concepts = self.groups * self.concepts
        require(
            concepts <= MOST, "concepts", self.concepts, f"makes more than {MOST} in all", "lower concepts or groups"
        )
        longest = 1
        for level in range(1, self.levels + 1):
            longest *= self.branching_at(level)[1]
            require(
                longest <= LONGEST_TEXT,
                "branching",
                [list(entry) for entry in self.branching],
                f"allows derivations of more than {LONGEST_TEXT} letters, with leaf_length={list(self.leaf_length)}",
                "lower branching, leaf_length or levels",
            )
        needed = self.symbols_at(self.levels) * self.productions_at(self.levels)
        each = [self.symbols_at(level) * self.productions_at(level) for level in range(1, self.levels + 1)]
        made = self.count * max(each)
        require(
            made <= LARGEST,
            "productions",
            list(self.productions),
            f"makes {made} productions of a level in all grammars, more than {LARGEST}",
            "lower grammar.productions, symbols or count",
        )
        strings = count_strings(self.alphabet, self.leaf_length, needed)
        require(
            strings >= needed,
            "alphabet",
            self.alphabet,
            f"gives {strings} strings of {self.leaf_length[0]}-{self.leaf_length[1]} letters where the "
            f"{self.symbols_at(self.levels)} symbols x {self.productions_at(self.levels)} productions of the last "
            f"level need {needed} different ones",
            "raise grammar.alphabet or grammar.leaf_length, or lower grammar.productions",
        )

    def _free_levels(self) -> int:
        return self.levels - (2 if self.concept_level > 1 else 1)

    def _check_levels(self, name: str, entries: Sequence[Any], levels: int) -> None:
        require(
            len(entries) in {1, levels},
            name,
            [list(e) if isinstance(e, tuple) else e for e in entries],
            f"has {len(entries)} entries where levels={self.levels}, concept_level={self.concept_level} need "
            f"{levels}, or one for all",
            f"give {name} {levels} entries",
        )

    def symbols_at(self, level: int) -> int:
        """Nonterminals of `level`."""
        if level == self.concept_level:
            return self.groups * self.concepts
        if level == 1:
            return 1
        free = [i for i in range(1, self.levels + 1) if i != self.concept_level and (i > 1 or self.concept_level == 1)]
        return _entry(self.symbols, free.index(level))

    def productions_at(self, level: int) -> int:
        """Productions of each nonterminal of `level`."""
        return _entry(self.productions, level - 1)

    def branching_at(self, level: int) -> tuple[int, int]:
        """Fewest and most symbols that a nonterminal of `level` writes; letters for the last."""
        return self.leaf_length if level == self.levels else _entry(self.branching, level - 1)

    def shared_symbols(self) -> int:
        """Symbols right below the concepts that every group may use."""
        return round(self.concept_overlap * self.symbols_at(self.concept_level + 1))


def _entry(entries: Sequence[Any], index: int) -> Any:
    return entries[index] if len(entries) > 1 else entries[0]


def grammars(config: GrammarConfig, key: jax.Array) -> tuple[Grammar, ...]:
    """The grammars of `config`, depending on `config` and `key` alone.

    All have the same nonterminals, rules and probabilities; the letters of the last level
    differ, but for a share `shared_leaves`. Right below the concepts the symbols are split
    among the groups, but for a share `concept_overlap` that all may use. Within a grammar the
    letters of the last level's productions all differ, but for a share `ambiguity`. Symbols
    that no derivation reaches are left out.
    """
    if config.source:
        return parse_grammars(config.source)
    names = {level: _names(config, level) for level in range(1, config.levels + 1)}
    skeleton: dict[str, tuple[Production, ...]] = {}
    for level in range(1, config.levels):
        pools = _pools(config, level)
        for s, symbol in enumerate(names[level]):
            rng = _rng(key, "level", level, s)
            strings = distinct_strings(
                rng, len(pools[s]), config.branching_at(level), _production_count(config, level, len(pools[s]))
            )
            sides = [tuple(names[level + 1][pools[s][i]] for i in string) for string in strings]
            skeleton[symbol] = _with_probabilities(config, rng, sides)
    letters = _letters(config.alphabet)
    groups = {_group_name(g): tuple(_concept_name(g, c) for c in range(config.concepts)) for g in range(config.groups)}
    start = names[1][0] if config.concept_level > 1 else None
    made = []
    for leaves in _leaves(config, key):
        rules = dict(skeleton)
        for s, symbol in enumerate(names[config.levels]):
            rng = _rng(key, "level", config.levels, s)
            sides = [tuple(letters[i] for i in string) for string in dict.fromkeys(leaves[s])]
            rules[symbol] = _with_probabilities(config, rng, sides)
        made.append(make_grammar(letters, reachable(rules, *tops(groups, start)), groups, start))
    return tuple(made)


def _production_count(config: GrammarConfig, level: int, pool: int) -> int:
    """Productions a symbol of `level` gets: as many as asked for, or as there are different ones."""
    low, high = config.branching_at(level)
    return min(config.productions_at(level), count_strings(pool, (low, high), config.productions_at(level)))


def _rng(key: jax.Array, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(fold(key, *names))))


def _group_name(group: int) -> str:
    return chr(ord("A") + group) if group < 26 else f"G{group}_"


def _concept_name(group: int, concept: int) -> str:
    return f"{_group_name(group)}{concept}"


def _names(config: GrammarConfig, level: int) -> list[str]:
    if level == config.concept_level:
        return [_concept_name(g, c) for g in range(config.groups) for c in range(config.concepts)]
    return (
        ["start"]
        if level == 1 and config.concept_level > 1
        else [f"n{level}_{s}" for s in range(config.symbols_at(level))]
    )


def _letters(count: int) -> tuple[str, ...]:
    return tuple(chr(ord("a") + i) if count <= 26 else f"x{i}" for i in range(count))


def _pools(config: GrammarConfig, level: int) -> list[np.ndarray]:
    """For each symbol of `level`, the symbols of the next that it may write."""
    below = config.symbols_at(level + 1)
    if level != config.concept_level:
        return [np.arange(below)] * config.symbols_at(level)
    shared = config.shared_symbols()
    own = (below - shared) // config.groups
    # Symbols that cannot be dealt out evenly are shared too, unless none should be.
    common = np.arange(config.groups * own if shared else below, below)
    return [
        np.r_[group * own : (group + 1) * own, common] for group in range(config.groups) for _ in range(config.concepts)
    ]


def _with_probabilities(
    config: GrammarConfig, rng: np.random.Generator, sides: Sequence[tuple[str, ...]]
) -> tuple[Production, ...]:
    shares = np.full(len(sides), 1 / len(sides))
    if config.dirichlet is not None:
        # A share too small for float32 would be a production that is never drawn.
        shares = np.maximum(rng.dirichlet(np.full(len(sides), config.dirichlet)), 1e-6)
    return tuple(Production(side, float(share)) for side, share in zip(sides, shares / shares.sum(), strict=True))


def _leaves(config: GrammarConfig, key: jax.Array) -> list[list[list[tuple[int, ...]]]]:
    """[grammar][symbol] the letter strings of the last level."""
    symbols, productions = config.symbols_at(config.levels), config.productions_at(config.levels)
    total = symbols * productions
    common = _rng(key, "shared").permutation(total)[: round(config.shared_leaves * total)]
    rest = np.setdiff1d(np.arange(total), common)
    # Twins are both common to all grammars or both not, so as to leave the share of those as it is.
    twins = [*twin_pairs(np.sort(common), productions), *twin_pairs(rest, productions)]
    order = _rng(key, "ambiguity").permutation(len(twins))
    twins = [twins[i] for i in order[: round(config.ambiguity * total / 2)]]
    first: list[tuple[int, ...]] = []
    made = []
    for grammar in range(config.count):
        rng = _rng(key, "letters", grammar)
        strings = distinct_strings(rng, config.alphabet, config.leaf_length, total)
        first = first or list(strings)
        if grammar > 0:
            taken = {first[i] for i in common}
            fresh = (string for string in strings if string not in taken)
            strings = [first[i] if i in common else next(fresh) for i in range(total)]
        for target, source in twins:
            strings[target] = strings[source]
        made.append([strings[s * productions : (s + 1) * productions] for s in range(symbols)])
    return made
