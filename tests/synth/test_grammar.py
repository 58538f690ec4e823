"""Tests of `synth/grammar.py` against exact enumeration."""

import itertools
from collections import Counter
from fractions import Fraction

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from synth.grammar import Grammar, GrammarConfig, derive_text, random_grammar
from synth.keys import fold
from synth.settings import SettingError
from synth.world import World

SAMPLES = 20_000


def enumerate_texts(grammar: Grammar, level: int, symbol: int) -> dict[tuple[int, ...], Fraction]:
    """Every text `symbol` derives, with its exact probability."""
    if level == len(grammar.levels):
        return {(symbol,): Fraction(1)}
    table = grammar.levels[level]
    productions = table.lengths.shape[1]
    texts: dict[tuple[int, ...], Fraction] = {}
    for row, length in zip(table.children[symbol], table.lengths[symbol], strict=True):
        parts = [enumerate_texts(grammar, level + 1, int(child)) for child in row[:length]]
        for choice in itertools.product(*(part.items() for part in parts)):
            text = tuple(itertools.chain.from_iterable(letters for letters, _ in choice))
            probability = Fraction(1, productions)
            for _, share in choice:
                probability *= share
            texts[text] = texts.get(text, Fraction(0)) + probability
    return texts


@pytest.fixture(scope="module")
def samples(world: World, key: jax.Array) -> list[tuple[int, ...]]:
    """Texts of concept 3."""
    uniforms = jax.random.uniform(fold(key, "texts"), (SAMPLES, world.grammar.draws))
    text, length = jax.jit(jax.vmap(lambda u: derive_text(world.grammar, u, jax.numpy.int32(3))))(uniforms)
    assert (np.asarray(text)[np.arange(world.max_text) >= np.asarray(length)[:, None]] == 0).all()
    return [tuple(row[:n].tolist()) for row, n in zip(np.asarray(text), np.asarray(length), strict=True)]


def test_every_sample_is_a_text_of_its_concept(world: World, samples: list[tuple[int, ...]]) -> None:
    assert set(samples) <= set(enumerate_texts(world.grammar, 0, 3))


def test_sample_frequencies_are_the_exact_probabilities(world: World, samples: list[tuple[int, ...]]) -> None:
    exact = enumerate_texts(world.grammar, 0, 3)
    assert sum(exact.values()) == 1
    counts = Counter(samples)
    common = [text for text, p in exact.items() if p * SAMPLES >= 20]
    observed = [counts[text] for text in common]
    expected = [float(exact[text]) * SAMPLES for text in common]
    observed.append(SAMPLES - sum(observed))
    expected.append(SAMPLES - sum(expected))
    if expected[-1] < 5:
        observed, expected = observed[:-1], (np.array(expected[:-1]) / sum(expected[:-1]) * sum(observed[:-1])).tolist()
    # One fixed seed: the level is the chance that a right sampler fails here.
    assert chisquare(observed, expected).pvalue > 1e-3


def test_text_lengths_are_the_bounds(world: World) -> None:
    lengths = [len(text) for c in range(6) for text in enumerate_texts(world.grammar, 0, c)]
    low, high = world.config.grammar.text_lengths()
    assert low <= min(lengths)
    assert max(lengths) <= high == world.max_text


@pytest.mark.parametrize(("overlap", "shared"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_concept_overlap_is_the_share_of_symbols_in_common(overlap: float, shared: int, key: jax.Array) -> None:
    config = GrammarConfig(symbols=8, productions=12, branching=(3, 3), concept_overlap=overlap)
    top = random_grammar(config, groups=2, concepts_per_group=3, key=key).levels[0].children
    first, second = set(top[:3].ravel().tolist()), set(top[3:].ravel().tolist())
    assert len(first & second) == shared
    assert len(first | second) == 8


def test_letter_strings_of_all_productions_are_distinct(world: World) -> None:
    leaves = world.grammar.levels[-1]
    strings = [
        tuple(string[:n].tolist())
        for row, lengths in zip(leaves.children, leaves.lengths, strict=True)
        for string, n in zip(row, lengths, strict=True)
    ]
    assert len(strings) == len(set(strings))


def test_without_overlap_and_with_one_leaf_length_a_text_gives_away_its_group(key: jax.Array) -> None:
    config = GrammarConfig(symbols=4, productions=3, alphabet=5, branching=(1, 3))
    grammar = random_grammar(config, groups=2, concepts_per_group=2, key=key)
    texts = [set(enumerate_texts(grammar, 0, concept)) for concept in range(4)]
    assert not (texts[0] | texts[1]) & (texts[2] | texts[3])


def test_equal_keys_give_equal_grammars(key: jax.Array) -> None:
    one, two = (random_grammar(GrammarConfig(), 2, 2, key) for _ in range(2))
    other = random_grammar(GrammarConfig(), 2, 2, fold(key, "other"))
    same = [np.array_equal(a.children, b.children) for a, b in zip(one.levels, two.levels, strict=True)]
    assert all(same)
    assert not np.array_equal(one.levels[0].children, other.levels[0].children)


def test_too_few_symbols_for_the_groups_is_an_error(key: jax.Array) -> None:
    with pytest.raises(SettingError, match=r"symbols=2: must give each of the 3 concept groups"):
        random_grammar(GrammarConfig(symbols=2), 3, 1, key)
