"""Tests of `synth/trees.py`."""

from collections import Counter

import numpy as np
from scipy.stats import chisquare

from synth.notation import parse_grammars
from synth.trees import Tree, sample_tree
from tests.synth.test_likelihood import enumerate_texts

GRAMMAR = parse_grammars(
    """
letters: a b c
start: s
groups: {A: p, B: q}
rules:
  s: {p q: 0.7, a q p: 0.3}
  p: {x a: 0.2, b: 0.8}
  q: [x x, c]
  x: {a: 0.4, b c: 0.6}
"""
)[0]
LEVEL = 1e-3
"""One fixed seed: the level is the chance that a right sampler fails."""


def test_texts_of_trees_have_their_exact_probabilities() -> None:
    rng, count = np.random.default_rng(0), 5000
    found = Counter(tuple(letter for letter, _ in sample_tree(GRAMMAR, "s", rng).letters()) for _ in range(count))
    exact = enumerate_texts(GRAMMAR, "s")
    assert set(found) <= set(exact)
    common = [text for text, share in exact.items() if share * count >= 10]
    observed = [found[text] for text in common] + [count - sum(found[text] for text in common)]
    expected = [float(exact[text]) * count for text in common]
    expected.append(count - sum(expected))
    if expected[-1] < 10:
        observed, expected = observed[:-1], [e * sum(observed[:-1]) / sum(expected[:-1]) for e in expected[:-1]]
    assert chisquare(observed, expected).pvalue > LEVEL


def test_letters_know_the_last_marked_symbol_above_them() -> None:
    tree = Tree("s", (Tree("a"), Tree("p", (Tree("x", (Tree("b"),)), Tree("q", (Tree("c"),))))))
    assert list(tree.letters({"p", "q"})) == [("a", None), ("b", "p"), ("c", "q")]
    assert list(tree.letters()) == [("a", None), ("b", None), ("c", None)]
