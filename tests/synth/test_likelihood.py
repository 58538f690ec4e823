"""Tests of `synth/likelihood.py` against enumeration in exact fractions and against NLTK's parsers."""

import itertools
import math
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import jax
import nltk
import numpy as np
import pytest

from synth import likelihood
from synth.grammar import Grammar, restrict
from synth.keys import fold
from synth.likelihood import derivation_entropy, entropy_rate, first_letters, length_distribution, log_probability
from synth.notation import parse_grammars, to_nltk
from synth.random_grammar import GrammarConfig, grammars

AMBIGUOUS = """
letters: a b
start: top
groups: {safe: [p], unsafe: [q]}
rules:
  top: {p q: 0.5, q a: 0.2, a: 0.3}
  p: {x y: 0.4, y x: 0.35, a b: 0.25}
  q: [x, b b, x x]
  x: {a: 0.6, a b: 0.4}
  y: {b: 0.5, b b: 0.2, a: 0.3}
"""
NAMES = ("hand-made", "even", "dirichlet", "doubly written", "unambiguous")

Text = tuple[str, ...]


def enumerate_texts(grammar: Grammar, symbol: str) -> dict[Text, Fraction]:
    """Every text `symbol` derives, with its exact probability."""
    if symbol not in grammar.rules:
        return {(symbol,): Fraction(1)}
    texts: defaultdict[Text, Fraction] = defaultdict(Fraction)
    for production in grammar.rules[symbol]:
        parts = [enumerate_texts(grammar, child).items() for child in production.symbols]
        for choice in itertools.product(*parts):
            text = tuple(itertools.chain.from_iterable(letters for letters, _ in choice))
            texts[text] += Fraction(production.probability) * math.prod(share for _, share in choice)
    return dict(texts)


@pytest.fixture(scope="module")
def made(key: jax.Array) -> dict[str, Grammar]:
    """Grammars of a few hundred texts."""
    tiny = GrammarConfig(
        alphabet=4, concepts=1, symbols=(3,), productions=(2,), branching=((2, 2), (1, 2)), leaf_length=(1, 2)
    )
    configs = {
        "even": tiny,
        "dirichlet": replace(tiny, dirichlet=0.7, productions=(3,)),
        "doubly written": replace(tiny, dirichlet=2.0, ambiguity=0.5),
        # All leaves differ and are equally long, so that a text tells its derivation.
        "unambiguous": replace(tiny, dirichlet=1.0, branching=((1, 2), (2, 2)), leaf_length=(2, 2)),
    }
    return {
        "hand-made": parse_grammars(AMBIGUOUS)[0],
        **{name: grammars(config, fold(key, name))[0] for name, config in configs.items()},
    }


@pytest.fixture(scope="module", params=NAMES)
def grammar(made: dict[str, Grammar], request: pytest.FixtureRequest) -> Grammar:
    return made[request.param]


@pytest.fixture(scope="module")
def unambiguous(made: dict[str, Grammar]) -> Grammar:
    return made["unambiguous"]


def start_of(grammar: Grammar) -> str:
    assert grammar.start is not None
    return grammar.start


def entropy(texts: dict[Text, Fraction]) -> float:
    return -math.fsum(float(p) * math.log(p) for p in texts.values())


def mean_length(texts: dict[Text, Fraction]) -> float:
    return float(sum(len(text) * p for text, p in texts.items()))


def draw(texts: dict[Text, Fraction], count: int, seed: int) -> list[Text]:
    shares = np.array([float(p) for p in texts.values()])
    listed = list(texts)
    return [listed[i] for i in np.random.default_rng(seed).choice(len(listed), size=count, p=shares / shares.sum())]


def test_log_probability_is_that_of_enumeration(grammar: Grammar) -> None:
    for symbol in grammar.rules:
        exact = enumerate_texts(grammar, symbol)
        np.testing.assert_allclose(
            log_probability(grammar, symbol, list(exact)), [math.log(p) for p in exact.values()], rtol=0, atol=1e-11
        )


def test_probabilities_of_all_texts_sum_to_one(grammar: Grammar) -> None:
    for symbol in grammar.rules:
        assert np.exp(log_probability(grammar, symbol, list(enumerate_texts(grammar, symbol)))).sum() == pytest.approx(
            1
        )


def test_impossible_texts_have_probability_zero(grammar: Grammar) -> None:
    symbol = grammar.concepts[0]
    exact = enumerate_texts(grammar, symbol)
    strings = [text for n in range(5) for text in itertools.product(grammar.letters, repeat=n)]
    impossible = [text for text in strings if text not in exact]
    assert () in impossible
    impossible += [(*max(exact, key=len), grammar.letters[0]), ("?",), ("a", "?"), (symbol,)]
    assert (log_probability(grammar, symbol, impossible) == -np.inf).all()


def test_a_text_has_the_same_probability_alone_and_among_many(
    grammar: Grammar, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = start_of(grammar)
    texts = [*draw(enumerate_texts(grammar, start), 40, seed=0), ("?",)]
    monkeypatch.setattr(likelihood, "CELLS", 1000)
    together = log_probability(grammar, start, texts)
    alone = [log_probability(grammar, start, [text])[0] for text in texts]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


def test_no_texts_have_no_probabilities(unambiguous: Grammar) -> None:
    assert log_probability(unambiguous, start_of(unambiguous), []).shape == (0,)


def test_parse_trees_of_nltk_sum_to_the_probability(grammar: Grammar) -> None:
    start = start_of(grammar)
    parser = nltk.InsideChartParser(nltk.PCFG.fromstring(to_nltk(grammar)))
    texts = sorted(enumerate_texts(grammar, start))[::7]
    summed = [math.fsum(tree.prob() for tree in parser.parse(list(text))) for text in texts]
    np.testing.assert_allclose(np.exp(log_probability(grammar, start, texts)), summed, rtol=1e-10)


def test_the_hand_made_grammar_is_ambiguous(made: dict[str, Grammar]) -> None:
    parser = nltk.InsideChartParser(nltk.PCFG.fromstring(to_nltk(made["hand-made"], "p")))
    assert len(list(parser.parse(["a", "b", "b"]))) == 2
    assert log_probability(made["hand-made"], "p", ["abb"])[0] == pytest.approx(math.log(0.4 * (0.6 * 0.2 + 0.4 * 0.5)))


def test_the_only_parse_of_an_unambiguous_text_has_its_probability(unambiguous: Grammar) -> None:
    parser = nltk.ViterbiParser(nltk.PCFG.fromstring(to_nltk(unambiguous)))
    texts = sorted(enumerate_texts(unambiguous, start_of(unambiguous)))[::9]
    best = [next(iter(parser.parse(list(text)))).prob() for text in texts]
    np.testing.assert_allclose(np.exp(log_probability(unambiguous, start_of(unambiguous), texts)), best, rtol=1e-10)


def test_productions_left_out_have_no_texts(grammar: Grammar) -> None:
    first = restrict(grammar, lambda concept, i: i == 0)
    for concept in grammar.concepts:
        exact, kept = enumerate_texts(grammar, concept), enumerate_texts(first, concept)
        got = dict(zip(exact, log_probability(first, concept, list(exact)), strict=True))
        assert {text for text, value in got.items() if value > -np.inf} == set(kept)
        assert all(got[text] == pytest.approx(math.log(p)) for text, p in kept.items())


def test_length_distribution_is_that_of_enumeration(grammar: Grammar) -> None:
    for symbol in grammar.rules:
        exact = enumerate_texts(grammar, symbol)
        expected = np.zeros(max(map(len, exact)) + 1)
        for text, p in exact.items():
            expected[len(text)] += float(p)
        np.testing.assert_allclose(length_distribution(grammar, symbol), expected, rtol=0, atol=1e-12)


def test_derivation_entropy_is_the_text_entropy_of_an_unambiguous_grammar(unambiguous: Grammar) -> None:
    for symbol in unambiguous.rules:
        texts = enumerate_texts(unambiguous, symbol)
        assert derivation_entropy(unambiguous, symbol) == pytest.approx(entropy(texts), abs=1e-12)


def test_derivations_of_an_ambiguous_grammar_have_more_entropy_than_its_texts(made: dict[str, Grammar]) -> None:
    grammar = made["hand-made"]
    assert derivation_entropy(grammar, "p") > entropy(enumerate_texts(grammar, "p")) + 0.01


def test_entropy_rate_is_near_the_exact_one(grammar: Grammar) -> None:
    start = start_of(grammar)
    exact = enumerate_texts(grammar, start)
    estimate = entropy_rate(grammar, start, draw(exact, 4000, seed=1))
    assert abs(estimate.mean - entropy(exact) / mean_length(exact)) < 4 * estimate.error
    assert 0 < estimate.error < 0.05


def test_the_standard_error_is_the_spread_of_estimates(made: dict[str, Grammar]) -> None:
    exact = enumerate_texts(made["hand-made"], "top")
    texts = draw(exact, 200 * 60, seed=2)
    estimates = [entropy_rate(made["hand-made"], "top", texts[i : i + 60]) for i in range(0, len(texts), 60)]
    spread = np.std([estimate.mean for estimate in estimates], ddof=1)
    # The spread of 200 estimates is itself known to 5 %.
    assert spread == pytest.approx(np.mean([estimate.error for estimate in estimates]), rel=0.2)


@pytest.mark.parametrize("texts", [[], ["ab"], ["ab", "bbb"], ["ab", ""], ["ab", "a?"]])
def test_entropy_rate_needs_two_texts_of_the_symbol(made: dict[str, Grammar], texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"needs 2 or more texts that p derives"):
        entropy_rate(made["hand-made"], "p", texts)


@pytest.fixture(scope="module")
def long_grammar() -> Grammar:
    """Texts of 800 letters, each independent of the others."""
    return parse_grammars(
        """
        letters: a b c
        groups: {safe: [p], unsafe: [q]}
        rules:
          p: r r r r r r r r
          r: s s s s s s s s s s
          s: x x x x x x x x x x
          x: {a: 0.7, b: 0.2, c: 0.1}
          q: a
        """
    )[0]


LONG_SHARES = {"a": 0.7, "b": 0.2, "c": 0.1}


def test_long_texts_do_not_underflow(long_grammar: Grammar) -> None:
    text = np.random.default_rng(3).choice(list(LONG_SHARES), size=800, p=list(LONG_SHARES.values())).tolist()
    expected = math.fsum(math.log(LONG_SHARES[letter]) for letter in text)
    assert log_probability(long_grammar, "p", [text])[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("letter", LONG_SHARES)
def test_long_texts_far_from_typical_do_not_underflow(long_grammar: Grammar, letter: str) -> None:
    found = log_probability(long_grammar, "p", [letter * 800])[0]
    assert found == pytest.approx(800 * math.log(LONG_SHARES[letter]), rel=1e-10)


def test_a_long_text_among_short_ones_does_not_overflow() -> None:
    grammar = parse_grammars(
        """
        letters: a b c d e f g h i j
        groups: {safe: [p], unsafe: [q]}
        rules:
          p: {short: 0.999, long: 0.001}
          short: [a, b, c, d, e, f, g, h, i, j]
          long: r r r r r
          r: s s s s s s s s s s
          s: a a a a a a a a a a
          q: a
        """
    )[0]
    found = log_probability(grammar, "p", ["a" * 500, "b"])
    np.testing.assert_allclose(found, [math.log(0.001), math.log(0.0999)], rtol=1e-10)


def test_a_text_that_is_certain_has_log_probability_zero() -> None:
    certain = parse_grammars("letters: a b\ngroups: {safe: [p], unsafe: [q]}\nrules: {p: x x, x: a b, q: b}")[0]
    np.testing.assert_array_equal(log_probability(certain, "p", ["abab", "abba"]), [0.0, -np.inf])
    assert derivation_entropy(certain, "p") == 0
    assert entropy_rate(certain, "p", ["abab", "abab"]) == (0.0, 0.0)


@pytest.mark.parametrize("symbol", ["start", "A0", "B1"])
def test_first_letters_are_those_of_enumeration(symbol: str, key: jax.Array) -> None:
    config = GrammarConfig(
        alphabet=4, symbols=(4,), productions=(3,), branching=((1, 2), (1, 2)), leaf_length=(1, 2), dirichlet=1.0
    )
    (grammar,) = grammars(config, key)
    found = first_letters(grammar, symbol)
    expected = np.zeros_like(found)
    for text, share in enumerate_texts(grammar, symbol).items():
        expected[grammar.letters.index(text[0]), len(text)] += float(share)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(1)
