"""Derivation trees, one at a time and outside jit: to look at, and to see what a grammar can write."""

from collections.abc import Container, Iterator
from typing import NamedTuple

import numpy as np

from synth.grammar import Grammar

TREES = 64
"""Derivations in which is looked for what a grammar can write: texts that are not covered, groups that meet in one"""


class Tree(NamedTuple):
    """A nonterminal and what it was rewritten to, or a letter without children."""

    symbol: str
    children: tuple["Tree", ...] = ()

    def letters(self, marked: Container[str] = (), mark: str | None = None) -> Iterator[tuple[str, str | None]]:
        """The text at the leaves, each letter with the last symbol above it that is among `marked`."""
        if not self.children:
            yield self.symbol, mark
        for child in self.children:
            yield from child.letters(marked, self.symbol if self.symbol in marked else mark)


def sample_tree(grammar: Grammar, symbol: str, rng: np.random.Generator) -> Tree:
    """A derivation from `symbol`, drawn with its probability."""
    if symbol not in grammar.rules:
        return Tree(symbol)
    left = rng.random()
    for production in grammar.rules[symbol]:
        left -= production.probability
        if left < 0:
            break
    return Tree(symbol, tuple(sample_tree(grammar, child, rng) for child in production.symbols))
