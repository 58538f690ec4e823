"""Texts derived inside jit: grammars as tables, all symbols of a text rewritten at once, round by round."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synth.grammar import Grammar, Production

NO_CONCEPT = -1


class Round(NamedTuple):
    """What each symbol there can be is rewritten to in one round; a letter is rewritten to itself.

    Rows run over grammars, their symbols and a symbol's productions. Each round numbers the
    symbols before it anew; those after the last are letters.
    """

    children: np.ndarray
    """[grammars * symbols * P, A] symbols, 0 beyond the production's length"""
    lengths: np.ndarray
    """[grammars * symbols * P] symbols on the right-hand side"""
    thresholds: np.ndarray
    """[grammars * symbols, P - 1] a uniform number at or above the k-th passes over production k"""
    even: np.ndarray | None
    """[grammars * symbols] productions of each, if all are equally probable: quicker to choose from"""
    concepts: np.ndarray
    """[symbols] which concept a symbol is, or NO_CONCEPT"""


class Tables(NamedTuple):
    """Several grammars, as far as some symbols lead; a pytree of arrays."""

    rounds: tuple[Round, ...]
    widths: tuple[int, ...]
    """The most symbols there can be before each round, and letters after the last"""

    @property
    def draws(self) -> int:
        """Uniform numbers that one text takes."""
        return sum(self.widths[:-1])


class Text(NamedTuple):
    """Letters derived from a symbol."""

    letters: jax.Array
    """[width] 0 beyond the length"""
    length: jax.Array
    concepts: jax.Array
    """[width] the concept each letter was derived from, or NO_CONCEPT"""


def tables(
    grammars: tuple[Grammar, ...], starts: tuple[str, ...], longest: int, whole: tuple[Grammar, ...] | None = None
) -> Tables:
    """The tables of derivation from `starts`, which every grammar has.

    A text of more than `longest` letters is cut there, its length still told. `whole` are the grammars that
    `grammars` are parts of: symbols are numbered as these reach them, so that the tables of a part have the
    same shape whichever of them the part happens to reach.
    """
    letters = {letter: i for i, letter in enumerate(grammars[0].letters)}
    levels = [{start: i for i, start in enumerate(starts)}]
    while not levels[-1].keys() <= letters.keys():
        reached = {
            child: None
            for symbol in levels[-1]
            for grammar in whole or grammars
            for production in _rewrites(grammar, symbol)
            for child in production.symbols
        }
        levels.append({symbol: i for i, symbol in enumerate(reached)})
    levels[-1] = letters
    widths = _widths(grammars, starts, len(levels) - 1)
    return Tables(
        rounds=tuple(_round(grammars, before, after) for before, after in itertools.pairwise(levels)),
        widths=(*widths[:-1], min(longest, widths[-1])),
    )


def _rewrites(grammar: Grammar, symbol: str) -> tuple[Production, ...]:
    """The productions of a nonterminal, itself for a letter, nothing for a symbol the grammar does not have."""
    return grammar.rules.get(symbol) or ((Production((symbol,), 1.0),) if symbol in grammar.letters else ())


def _round(grammars: tuple[Grammar, ...], before: dict[str, int], after: dict[str, int]) -> Round:
    """`before` and `after`: the numbers of the symbols there can be."""
    rows = [_rewrites(grammar, symbol) for grammar in grammars for symbol in before]
    most = max(len(row) for row in rows)
    width = max(len(production.symbols) for row in rows for production in row)
    children = np.zeros((len(rows), most, width), np.int32)
    # Symbols that a grammar does not have get the full length, so as not to make lengths look uneven.
    lengths = np.full((len(rows), most), width, np.int32)
    thresholds = np.full((len(rows), most - 1), np.inf, np.float32)
    for r, row in enumerate(rows):
        for p in range(most if row else 0):
            # Places that are never drawn repeat the last production, so that they add nothing to what is derived.
            symbols = row[min(p, len(row) - 1)].symbols
            children[r, p, : len(symbols)] = [after[child] for child in symbols]
            lengths[r, p] = len(symbols)
        thresholds[r, : max(len(row) - 1, 0)] = np.cumsum([production.probability for production in row])[:-1]
    even = all(np.allclose([p.probability for p in row], 1 / max(len(row), 1), rtol=1e-9) for row in rows)
    numbers = {concept: i for i, concept in enumerate(grammars[0].concepts)}
    return Round(
        children.reshape(-1, width),
        lengths.ravel(),
        thresholds,
        np.array([len(row) for row in rows], np.int32) if even else None,
        np.array([numbers.get(symbol, NO_CONCEPT) for symbol in before], np.int32),
    )


def _widths(grammars: tuple[Grammar, ...], starts: tuple[str, ...], rounds: int) -> list[int]:
    """The most symbols after 0, 1, ... rounds."""
    most = [dict.fromkeys([*grammar.letters, *grammar.rules], 1) for grammar in grammars]
    widths = [1]
    for _ in range(rounds):
        for i, grammar in enumerate(grammars):
            rewritten = {s: max(sum(most[i][c] for c in p.symbols) for p in rule) for s, rule in grammar.rules.items()}
            most[i] = most[i] | rewritten
        widths.append(max(counts[start] for counts in most for start in starts))
    return widths


def derive(tables: Tables, grammar: jax.Array, start: jax.Array, uniforms: jax.Array) -> Text:
    """The text that `uniforms` [tables.draws], each in [0, 1), choose.

    `grammar` is the number of the grammar, `start` that of the symbol among the tables' starts.
    Every production of a symbol is chosen with its probability, independently of all others.
    """
    symbols = jnp.reshape(start, (1,))
    concepts = jnp.full((1,), NO_CONCEPT)
    from_concepts = bool((tables.rounds[0].concepts != NO_CONCEPT).all())
    count, drawn = jnp.int32(1), 0
    for level, size, width in zip(tables.rounds, tables.widths, tables.widths[1:], strict=False):
        if drawn == 0 or not from_concepts:
            concepts = jnp.where(concepts == NO_CONCEPT, jnp.asarray(level.concepts)[symbols], concepts)
        number = grammar * level.concepts.size + symbols
        row = number * (level.thresholds.shape[1] + 1) + _production(level, number, uniforms[drawn : drawn + size])
        drawn += size
        children = jnp.asarray(level.children)[row]
        if (level.lengths == level.children.shape[1]).all():
            # Every right-hand side has the same length, so that nothing moves.
            place = jnp.arange(width) // level.children.shape[1]
            count = count * level.children.shape[1]
            symbols = jnp.where(jnp.arange(width) < count, children.reshape(-1)[:width], 0)
        else:
            lengths = jnp.where(jnp.arange(size) < count, jnp.asarray(level.lengths)[row], 0)
            place, column, count = _places(lengths, width)
            symbols = jnp.where(jnp.arange(width) < count, children[place, column], 0)
        concepts = jnp.broadcast_to(concepts[0], (width,)) if from_concepts else concepts[place]
    return Text(symbols, count, concepts)


def derives(tables: Tables, grammar: int, letters: Any, length: Any) -> Any:
    """[starts] bool: whether each of the tables' starts can be rewritten to a text, in grammar number `grammar`.

    `letters` [width], of which the first `length` >= 1 are the text; NumPy and JAX arrays alike. A
    symbol's chart is the boolean matrix of whether it derives the letters from i up to j, so a
    right-hand side is a product of matrices (as in `likelihood.log_probability`).
    """
    place = np.arange(letters.shape[0] + 1)
    same, after = (np.eye(place.size, k=k, dtype=bool)[None] for k in (0, 1))
    text = letters[np.minimum(place, letters.shape[0] - 1)]
    numbers = np.arange(1 + tables.rounds[-1].children.max())
    charts = ((text[None] == numbers[:, None]) & (place < length)[None])[:, :, None] & after
    for level in reversed(tables.rounds):
        symbols, productions = level.concepts.size, level.thresholds.shape[1] + 1
        here = slice(grammar * symbols * productions, (grammar + 1) * symbols * productions)
        children, lengths = level.children[here], level.lengths[here]
        derived = charts[children[:, 0]]
        for column in range(1, children.shape[1]):
            there = (column < lengths)[:, None, None]
            # What lies beyond a right-hand side leaves it as it is.
            factor = (charts[children[:, column]] & there) | (same & ~there)
            derived = (derived.astype(np.float32) @ factor.astype(np.float32)) > 0
        charts = derived.reshape(symbols, productions, place.size, place.size).any(1)
    return (charts[:, 0] & (place == length)[None]).any(1)


def _production(level: Round, symbol: jax.Array, uniform: jax.Array) -> jax.Array:
    """Which production of each symbol is used."""
    if level.even is not None:
        return (uniform * jnp.asarray(level.even)[symbol].astype(jnp.float32)).astype(jnp.int32)
    return jnp.sum(uniform[:, None] >= jnp.asarray(level.thresholds)[symbol], axis=-1, dtype=jnp.int32)


def _places(lengths: jax.Array, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each of `width` places: the row it is filled from and the place in it; how many are filled.

    Rows of the given lengths are laid end to end.
    """
    ends = jnp.cumsum(lengths)
    place = jnp.arange(width)
    row = jnp.minimum(jnp.sum(place[:, None] >= ends[None], axis=-1, dtype=jnp.int32), lengths.shape[0] - 1)
    column = jnp.maximum(place - (ends - lengths)[row], 0)
    return row, column, ends[-1]
