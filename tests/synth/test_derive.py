"""Tests of `synth/derive.py`: samples against a plain reference, NLTK's parser and exact probabilities."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import nltk
import numpy as np
import pytest
from scipy.stats import chi2

from synth.derive import NO_CONCEPT, Tables, derive, derives, tables
from synth.grammar import Grammar, Production, make_grammar, text_lengths
from synth.keys import fold
from synth.likelihood import length_distribution
from synth.notation import parse_grammars, to_nltk
from synth.random_grammar import GrammarConfig, grammars
from tests.synth.test_likelihood import enumerate_texts

SAMPLES = 12_000
LONGEST = 1000
LEVEL = 1e-3
"""One fixed seed: the level is the chance that a right sampler fails."""

# Letters at every level, also outside of concepts; a concept that is reached at two depths; numbers
# of productions that differ; symbols that only one of the grammars has.
WRITTEN = """
letters: a b c d
start: root
groups: {safe: [p, q], unsafe: [r]}
rules:
  root: {a p r: 0.5, b q: 0.3, r: 0.15, p between: 0.05}
  between: [r c, d]
  p: [x x, c]
  q: {x: 0.25, d y: 0.75}
  r: [y, a b, y y]
  x: {a: 0.6, b c: 0.4}
  y: [d, c a, b b b]
---
letters: a b c d
start: root
groups: {safe: [p, q], unsafe: [r]}
rules:
  root: [p q r, r a]
  p: {only here: 0.9, d: 0.1}
  q: [here d]
  r: {a: 0.01, b: 0.99}
  only: [a, b c]
  here: {d: 0.7, d d: 0.2, c here2: 0.1}
  here2: b b
"""


class Texts(NamedTuple):
    """Texts drawn with every grammar from every start."""

    grammars: tuple[Grammar, ...]
    starts: tuple[str, ...]
    tables: Tables
    grammar: np.ndarray
    """[N] number of the grammar"""
    start: np.ndarray
    """[N] index into `starts`"""
    uniforms: np.ndarray
    """[N, tables.draws]"""
    letters: np.ndarray
    """[N, width]"""
    length: np.ndarray
    concepts: np.ndarray
    """[N, width]"""

    def cases(self) -> list[tuple[Grammar, str, list[tuple[str, ...]]]]:
        """Each grammar and start with its texts."""
        found = []
        for (g, grammar), (s, start) in itertools.product(enumerate(self.grammars), enumerate(self.starts)):
            rows = np.flatnonzero((self.grammar == g) & (self.start == s))
            found.append((grammar, start, [self.text(int(row)) for row in rows]))
        return found

    def text(self, row: int) -> tuple[str, ...]:
        return tuple(self.grammars[0].letters[i] for i in self.letters[row, : self.length[row]])


def draw(made: tuple[Grammar, ...], starts: tuple[str, ...], key: jax.Array, longest: int = LONGEST) -> Texts:
    table = tables(made, starts, longest)
    uniforms = jax.random.uniform(key, (SAMPLES, table.draws))
    number = np.arange(SAMPLES, dtype=np.int32)
    grammar, start = number % len(made), number // len(made) % len(starts)
    text = jax.jit(jax.vmap(partial(derive, table)))(jnp.asarray(grammar), jnp.asarray(start), uniforms)
    return Texts(made, starts, table, grammar, start, np.asarray(uniforms), *map(np.asarray, text))


@pytest.fixture(scope="module")
def made(key: jax.Array) -> dict[str, tuple[Grammar, ...]]:
    tiny = GrammarConfig(count=2, alphabet=4, symbols=(4,), productions=(3, 2, 3), branching=((1, 2), (1, 2)))
    return {
        "written": parse_grammars(WRITTEN),
        # Of one length throughout: derived without moving anything.
        "even": grammars(replace(tiny, branching=((2, 2), (2, 2))), fold(key, "even")),
        "dirichlet": grammars(replace(tiny, dirichlet=1.0, leaf_length=(1, 2)), fold(key, "dirichlet")),
    }


@pytest.fixture(
    scope="module",
    params=[*itertools.product(("written", "even", "dirichlet"), ("concepts", "start")), ("written", "both")],
    ids=" from ".join,
)
def samples(made: dict[str, tuple[Grammar, ...]], key: jax.Array, request: pytest.FixtureRequest) -> Texts:
    name, top = request.param
    first = made[name][0]
    assert first.start is not None
    starts = {"concepts": first.concepts, "start": (first.start,), "both": ("r", first.start, "q")}
    return draw(made[name], starts[top], fold(key, name, top))


def reference(
    grammar: Grammar, start: str, uniforms: Sequence[float], widths: Sequence[int]
) -> tuple[tuple[str, ...], list[int]]:
    """The letters that the uniform numbers choose and each one's concept, by rewriting a list round after round."""
    numbers = {concept: i for i, concept in enumerate(grammar.concepts)}
    line, begin = [(start, numbers.get(start, NO_CONCEPT))], 0
    for width in widths[:-1]:
        following = []
        for (symbol, concept), uniform in zip(line, uniforms[begin : begin + width], strict=False):
            rule = grammar.rules.get(symbol, (Production((symbol,), 1.0),))
            edges = itertools.accumulate(production.probability for production in rule[:-1])
            for child in rule[sum(uniform >= edge for edge in edges)].symbols:
                following.append((child, numbers.get(child, NO_CONCEPT) if concept == NO_CONCEPT else concept))
        line, begin = following, begin + width
    return tuple(letter for letter, _ in line), [concept for _, concept in line]


def pooled_pvalue(tests: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The chi-square p-value of independent (observed, expected) counts taken together.

    What is expected less than five times counts as one case.
    """
    statistic, freedom = 0.0, 0
    for observed, expected in tests:
        assert observed.sum() == pytest.approx(expected.sum())
        rare = expected < 5
        observed = np.r_[observed[~rare], observed[rare].sum()]
        expected = np.r_[expected[~rare], expected[rare].sum()]
        observed, expected = observed[expected > 0], expected[expected > 0]
        statistic += ((observed - expected) ** 2 / expected).sum()
        freedom += len(expected) - 1
    assert freedom > 0
    return float(chi2.sf(statistic, freedom))


def test_letters_lengths_and_concepts_are_those_of_the_reference(samples: Texts) -> None:
    for row in range(1000):
        grammar, start = samples.grammars[samples.grammar[row]], samples.starts[samples.start[row]]
        letters, concepts = reference(grammar, start, samples.uniforms[row].tolist(), samples.tables.widths)
        assert samples.length[row] == len(letters)
        assert samples.text(row) == letters
        assert samples.concepts[row, : len(letters)].tolist() == concepts


def test_what_is_derived_is_what_enumeration_finds(samples: Texts, key: jax.Array) -> None:
    # Texts of the grammars, and others that are mostly none of theirs.
    rows = np.arange(0, SAMPLES, 61)
    other = np.asarray(jax.random.randint(key, (200, samples.letters.shape[1]), 0, len(samples.grammars[0].letters)))
    cases = [*zip(samples.letters[rows], samples.length[rows], strict=True)]
    cases += [(text, 1 + n % len(text)) for n, text in enumerate(other)]
    letters, lengths = (np.array(part) for part in zip(*cases, strict=True))
    for g, grammar in enumerate(samples.grammars):
        found = jax.jit(jax.vmap(partial(derives, samples.tables, g)))(letters, lengths)
        texts = [set(enumerate_texts(grammar, start)) for start in samples.starts]
        words = [tuple(grammar.letters[i] for i in text[:length]) for text, length in cases]
        want = np.array([[word in of for of in texts] for word in words])
        assert 0 < want.mean() < 1
        np.testing.assert_array_equal(found, want)
        # The same of NumPy arrays, outside of jit.
        np.testing.assert_array_equal([derives(samples.tables, g, *case) for case in cases[::20]], want[::20])


def test_letters_are_zero_beyond_the_length(samples: Texts) -> None:
    beyond = np.arange(samples.letters.shape[1]) >= samples.length[:, None]
    assert (samples.letters[beyond] == 0).all()


def test_there_is_room_for_the_longest_text_and_no_more(samples: Texts) -> None:
    longest = max(text_lengths(grammar, start)[1] for grammar in samples.grammars for start in samples.starts)
    assert samples.letters.shape == samples.concepts.shape == (SAMPLES, longest)
    assert samples.tables.widths[-1] == longest
    assert samples.tables.draws == sum(samples.tables.widths[:-1])


def test_every_text_parses_under_the_exported_grammar(samples: Texts) -> None:
    for grammar, start, texts in samples.cases():
        parser = nltk.ChartParser(nltk.PCFG.fromstring(to_nltk(grammar, start)))
        distinct = sorted(set(texts))
        for text in distinct[:: len(distinct) // 60 + 1]:
            assert next(iter(parser.parse(list(text))), None) is not None, text


def test_text_frequencies_are_the_exact_probabilities(samples: Texts) -> None:
    tests = []
    for grammar, start, texts in samples.cases():
        exact, counts = enumerate_texts(grammar, start), Counter(texts)
        assert set(counts) <= set(exact)
        observed = np.array([counts[text] for text in exact])
        tests.append((observed, len(texts) * np.array([float(p) for p in exact.values()])))
    assert pooled_pvalue(tests) > LEVEL


def test_length_frequencies_are_the_length_distribution(samples: Texts) -> None:
    tests = []
    for grammar, start, texts in samples.cases():
        exact = length_distribution(grammar, start)
        observed = np.bincount([len(text) for text in texts], minlength=len(exact))
        assert len(observed) == len(exact)
        assert (observed[exact == 0] == 0).all()
        tests.append((observed, len(texts) * exact))
    # Texts of one length leave nothing to test.
    if any((expected > 0).sum() > 1 for _, expected in tests):
        assert pooled_pvalue(tests) > LEVEL


@pytest.fixture(scope="module")
def counted(key: jax.Array) -> Texts:
    """Texts whose letters are the productions of one symbol, which stands in each of them five times."""
    letters = " ".join("abcdefg")
    even = (
        f"{{letters: {letters}, groups: {{A: [p], B: [q]}}, rules: {{p: x x x x x, x: [a, b, c, d, e, f, g], q: a}}}}"
    )
    uneven = even.replace("[a, b, c, d, e, f, g]", "{a: 0.4, b: 0.3, c: 0.1, d: 0.1, e: 0.05, f: 0.04, g: 0.01}")
    return draw((parse_grammars(uneven)[0], parse_grammars(even)[0]), ("p",), fold(key, "counted"))


@pytest.mark.parametrize("number", [0, 1])
def test_production_frequencies_are_the_probabilities(counted: Texts, number: int) -> None:
    shares = np.array([p.probability for p in counted.grammars[number].rules["x"]])
    letters = counted.letters[counted.grammar == number]
    tests = [(np.bincount(column, minlength=7), len(column) * shares) for column in letters.T]
    assert len(tests) == 5
    assert pooled_pvalue(tests) > LEVEL


@pytest.mark.parametrize("number", [0, 1])
def test_productions_are_chosen_independently(counted: Texts, number: int) -> None:
    shares = np.array([p.probability for p in counted.grammars[number].rules["x"]])
    letters = counted.letters[counted.grammar == number]
    pairs = [letters[:, 0] * 7 + letters[:, 1], letters[:, 2] * 7 + letters[:, 4]]
    tests = [(np.bincount(pair, minlength=49), len(pair) * np.outer(shares, shares).ravel()) for pair in pairs]
    assert pooled_pvalue(tests) > LEVEL


@pytest.mark.parametrize("name", ["written", "even"])
def test_longest_cuts_texts_but_tells_their_length(
    made: dict[str, tuple[Grammar, ...]], name: str, key: jax.Array
) -> None:
    whole, cut = (draw(made[name], made[name][0].concepts, fold(key, "cut"), longest) for longest in (LONGEST, 3))
    assert cut.letters.shape == cut.concepts.shape == (SAMPLES, 3)
    assert cut.uniforms.shape == whole.uniforms.shape
    np.testing.assert_array_equal(cut.letters, whole.letters[:, :3])
    np.testing.assert_array_equal(cut.length, whole.length)
    assert (cut.length > 3).any()
    inside = np.arange(3) < whole.length[:, None]
    np.testing.assert_array_equal(cut.concepts[inside], whole.concepts[:, :3][inside])


def test_equal_uniforms_give_equal_texts_alone_and_among_many(samples: Texts) -> None:
    alone = jax.jit(partial(derive, samples.tables))
    for row in range(0, 50, 7):
        text = alone(jnp.int32(samples.grammar[row]), jnp.int32(samples.start[row]), jnp.asarray(samples.uniforms[row]))
        np.testing.assert_array_equal(text.letters, samples.letters[row])
        assert text.length == samples.length[row]
        np.testing.assert_array_equal(text.concepts, samples.concepts[row])


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(np.float32(1), np.float32(0))])
def test_the_ends_of_the_uniform_numbers_choose_the_first_and_last_productions(uniform: float) -> None:
    letters = [f"x{i}" for i in range(41)]
    source = (
        f"letters: {' '.join(letters)}\ngroups: {{A: [p], B: [q]}}\nrules: {{p: y y, y: [{', '.join(letters)}], q: x0}}"
    )
    even = parse_grammars(source)[0]
    rising = tuple(Production(p.symbols, 2 * i / (41 * 42)) for i, p in enumerate(even.rules["y"], 1))
    uneven = make_grammar(even.letters, {**even.rules, "y": rising}, even.groups, None)
    for grammar in (even, uneven):
        table = tables((grammar,), ("p",), LONGEST)
        text = derive(table, jnp.int32(0), jnp.int32(0), jnp.full(table.draws, uniform, jnp.float32))
        assert text.letters.tolist() == [0 if uniform == 0 else 40] * 2


def test_a_deep_grammar_has_tables() -> None:
    chain = {f"n{i}": (Production((f"n{i + 1}",), 1.0),) for i in range(200)}
    rules = {**chain, "n200": (Production(("a", "b"), 1.0),), "q": (Production(("b",), 1.0),)}
    table = tables((make_grammar(("a", "b"), rules, {"A": ("n0",), "B": ("q",)}, None),), ("n0",), LONGEST)
    assert table.widths == (*(1 for _ in range(201)), 2)
