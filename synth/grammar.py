"""Probabilistic context-free grammars as tables, and text drawn from them inside jit.

A grammar here starts at the *concept level* (the paper's level l_s): its roots are the
concepts. Each level maps symbols to strings over the next level; the last level is the
alphabet. Rule probabilities are uniform, as in the paper (arXiv 2407.10264, sec. 3).
"""

import itertools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from synth.keys import fold
from synth.settings import pair, require, require_positive, require_share

RANGE = "must be [low, high] with 1 <= low <= high"


@dataclass(unsafe_hash=True)
class GrammarConfig:
    """Settings of a random grammar; counts are per level."""

    alphabet: int = 10
    """Letters, the terminals."""
    levels: int = 2
    """Levels below the concept level; the last one is the alphabet."""
    symbols: int = 8
    """Nonterminals on each level between the concepts and the alphabet."""
    productions: int = 5
    """Right-hand sides of each nonterminal."""
    branching: tuple[int, int] = (3, 4)
    """Fewest and most symbols on a right-hand side above the last level."""
    leaf_length: tuple[int, int] = (2, 2)
    """Fewest and most letters on a right-hand side of the last level."""
    concept_overlap: float = 0.0
    """Share of the symbols right below the concepts that every concept group may use."""

    def __post_init__(self) -> None:
        require_positive(self, "levels", "symbols", "productions")
        require_share(self, "concept_overlap")
        require(self.alphabet >= 2, "alphabet", self.alphabet, "must be at least 2", "add letters")
        require(self.levels >= 2, "levels", self.levels, "must be at least 2", "set levels to 2 or more")
        self.branching, self.leaf_length = pair(self, "branching"), pair(self, "leaf_length")
        for name in ("branching", "leaf_length"):
            low, high = getattr(self, name)
            require(1 <= low <= high, name, [low, high], RANGE, f"for example {name}=[2,3]")
        needed = self.symbols * self.productions
        strings = sum(self.alphabet**n for n in range(self.leaf_length[0], self.leaf_length[1] + 1))
        require(
            strings >= needed,
            "alphabet",
            self.alphabet,
            f"gives {strings} strings of {self.leaf_length[0]}-{self.leaf_length[1]} letters where the "
            f"{self.symbols} symbols x {self.productions} productions need {needed} different ones",
            "raise grammar.alphabet or grammar.leaf_length, or lower grammar.productions",
        )

    def shared_symbols(self) -> int:
        """Symbols right below the concepts that every group may use."""
        return round(self.concept_overlap * self.symbols)

    def check_groups(self, groups: int) -> None:
        """Raises SettingError unless each of `groups` concept groups gets a symbol."""
        shared = self.shared_symbols()
        require(
            shared >= 1 or self.symbols >= groups,
            "symbols",
            self.symbols,
            f"must give each of the {groups} concept groups a symbol",
            f"set symbols to {groups} or more",
        )

    def text_lengths(self) -> tuple[int, int]:
        """Fewest and most letters a text can have."""
        low, high = (b ** (self.levels - 1) for b in self.branching)
        return low * self.leaf_length[0], high * self.leaf_length[1]


@dataclass(frozen=True)
class Level:
    """The rules of one level, as tables (S symbols, P productions, A symbols a side at most)."""

    children: np.ndarray
    """[S, P, A] symbols of the next level, 0 beyond the production's length."""
    lengths: np.ndarray
    """[S, P] symbols on the right-hand side."""


@dataclass(frozen=True)
class Grammar:
    """A levelled PCFG with uniform rule probabilities; level 0 holds the concepts."""

    levels: tuple[Level, ...] = field(repr=False)

    @property
    def draws(self) -> int:
        """Uniform numbers that one text takes: one for each symbol there can be above the letters."""
        widths = np.cumprod([1, *(level.children.shape[2] for level in self.levels)])
        return int(widths[:-1].sum())

    @property
    def max_text(self) -> int:
        """The most letters a text can have."""
        return int(np.prod([level.children.shape[2] for level in self.levels]))


def random_grammar(config: GrammarConfig, groups: int, concepts_per_group: int, key: jax.Array) -> Grammar:
    """A grammar whose concept `c` belongs to group `c // concepts_per_group`.

    Right below the concepts the symbols are split among the groups, but for a share
    `concept_overlap` that all may use. Letter strings differ between all productions of the
    last level, so where they have one length a text gives away the symbols it was derived from,
    and, without overlap, its concept group. Lengths that vary or shared symbols can make texts
    that two groups have in common.

    Raises SettingError where a group would be left without a symbol.
    """
    config.check_groups(groups)
    shared = config.shared_symbols()
    own = (config.symbols - shared) // groups
    levels = []
    roots = groups * concepts_per_group
    for depth in range(config.levels - 1):
        sources = roots if depth == 0 else config.symbols
        level_key = fold(key, "level", depth)
        pools = [np.arange(config.symbols)] * sources
        if depth == 0:
            # Symbols that cannot be dealt out evenly are shared too, unless none should be.
            common = np.arange(groups * own if shared else config.symbols, config.symbols)
            group_pools = [np.r_[g * own : (g + 1) * own, common] for g in range(groups)]
            pools = [group_pools[c // concepts_per_group] for c in range(roots)]
        rows = [
            _distinct_strings(pool, config.branching, config.productions, fold(level_key, s))
            for s, pool in enumerate(pools)
        ]
        levels.append(_level(rows, config.branching[1]))
    strings = _distinct_strings(
        np.arange(config.alphabet),
        config.leaf_length,
        config.symbols * config.productions,
        fold(key, "letters"),
    )
    rows = [strings[s * config.productions : (s + 1) * config.productions] for s in range(config.symbols)]
    levels.append(_level(rows, config.leaf_length[1]))
    return Grammar(tuple(levels))


def _distinct_strings(pool: np.ndarray, lengths: tuple[int, int], count: int, key: jax.Array) -> list[np.ndarray]:
    """`count` strings over `pool`, lengths spread evenly, different where there are enough."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    options = {n: len(pool) ** n for n in range(lengths[0], lengths[1] + 1)}
    # Deal lengths round-robin, passing over a length once all its strings are taken.
    taken = dict.fromkeys(options, 0)
    for n in itertools.islice(itertools.cycle(options), 4 * count * len(options)):
        if sum(taken.values()) == count:
            break
        taken[n] += taken[n] < options[n]
    short = count - sum(taken.values())
    taken[lengths[1]] += short
    strings = []
    for n, number in taken.items():
        codes = rng.choice(options[n], size=number, replace=number > options[n])
        digits = np.stack([codes // len(pool) ** i % len(pool) for i in range(n)], axis=-1)
        strings += list(pool[digits])
    return [strings[i] for i in rng.permutation(count)]


def _level(rows: list[list[np.ndarray]], width: int) -> Level:
    children = np.zeros((len(rows), len(rows[0]), width), np.int32)
    lengths = np.zeros((len(rows), len(rows[0])), np.int32)
    for s, row in enumerate(rows):
        for p, string in enumerate(row):
            children[s, p, : len(string)] = string
            lengths[s, p] = len(string)
    return Level(children, lengths)


def derive_text(grammar: Grammar, uniforms: jax.Array, root: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Text derived from concept `root` (int scalar): letters [max_text], 0 beyond the length; length.

    `uniforms` [grammar.draws], each uniform in [0, 1), choose the productions.
    """
    symbols, count = jnp.reshape(root, (1,)), jnp.int32(1)
    start = 0
    for level in grammar.levels:
        size = symbols.shape[0]
        productions, width = level.lengths.shape[1], size * level.children.shape[2]
        choice = (uniforms[start : start + size] * productions).astype(jnp.int32)
        start += size
        children = jnp.asarray(level.children)[symbols, choice]
        lengths = jnp.where(jnp.arange(size) < count, jnp.asarray(level.lengths)[symbols, choice], 0)
        symbols, count = _concatenate(children, lengths, width)
    return symbols, count


def _concatenate(rows: jax.Array, lengths: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """The first `lengths[i]` entries of each row [S, A] end to end, zero-padded to [width]."""
    ends = jnp.cumsum(lengths)
    position = jnp.arange(width)
    row = jnp.sum(position[:, None] >= ends[None], axis=-1)
    inside = position < ends[-1]
    row = jnp.where(inside, row, 0)
    column = jnp.where(inside, position - (ends - lengths)[row], 0)
    return jnp.where(inside, rows[row, column], 0), ends[-1]
