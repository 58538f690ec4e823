"""What a grammar says of its texts: log-probabilities, lengths, entropy. Exact, in float64."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from synth.grammar import Grammar, reachable_from, text_lengths

CELLS = 2**20
"""Entries of a symbol's charts that are held at once."""


def log_probability(grammar: Grammar, symbol: str, texts: Sequence[Sequence[str]]) -> np.ndarray:
    """[N] natural log of the probability that `symbol` derives each text; -inf where it cannot.

    The inside algorithm (Baker 1979; Lari and Young 1990). A symbol's chart is the matrix of
    the probabilities that it derives the letters from i up to j, so a right-hand side is a
    product of matrices and no binary form of the grammar is needed.
    """
    scales = _scales(grammar, symbol)
    size = max(map(len, texts), default=0) + 1
    chunk = max(1, CELLS // size**2)
    parts = [texts[begin : begin + chunk] for begin in range(0, len(texts), chunk)]
    out = np.concatenate([_inside(grammar, symbol, part, scales) for part in parts]) if parts else np.empty(0)
    for i in np.flatnonzero(~np.isfinite(out)):
        # An impossible text, or one too far from what is usual for float64: logarithms tell.
        out[i] = _log_inside(grammar, symbol, texts[int(i)])
    return out


def expected_counts(grammar: Grammar, symbol: str) -> dict[str, float]:
    """How often each nonterminal and letter occurs in a derivation of `symbol`, in the mean."""
    counts = dict.fromkeys([*grammar.letters, *grammar.rules], 0.0) | {symbol: 1.0}
    for name in reachable_from(grammar, symbol):
        for production in grammar.rules[name]:
            for child in production.symbols:
                counts[child] += counts[name] * production.probability
    return counts


def mean_length(grammar: Grammar, symbol: str) -> float:
    """Letters of a text derived from `symbol`, in the mean."""
    counts = expected_counts(grammar, symbol)
    return sum(counts[letter] for letter in grammar.letters)


def _scales(grammar: Grammar, symbol: str) -> dict[str, float]:
    """About -log p a letter, more for a rarer one: with a factor e^scale each, charts stay within float64."""
    counts = expected_counts(grammar, symbol)
    total = sum(counts[letter] for letter in grammar.letters)
    surprise = {x: -math.log(counts[x] / total) if counts[x] else 0.0 for x in grammar.letters}
    mean = sum(counts[x] / total * surprise[x] for x in grammar.letters)
    rate = derivation_entropy(grammar, symbol) / total
    return {x: surprise[x] * rate / mean if mean else rate for x in grammar.letters}


def _inside(grammar: Grammar, symbol: str, texts: Sequence[Sequence[str]], scales: Mapping[str, float]) -> np.ndarray:
    """[N] log-probabilities by charts of probabilities, each letter's times e^scale."""
    lengths = np.array([len(text) for text in texts])
    size = int(lengths.max()) + 1
    charts: dict[str, np.ndarray] = {}
    for letter in grammar.letters:
        charts[letter] = np.zeros((len(texts), size, size))
        for n, text in enumerate(texts):
            places = [i for i, found in enumerate(text) if found == letter]
            charts[letter][n, places, np.array(places, int) + 1] = math.exp(scales[letter])
    rules = reachable_from(grammar, symbol)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for name in reversed(list(rules)):
            charts[name] = np.zeros((len(texts), size, size))
            for production in rules[name]:
                product = charts[production.symbols[0]]
                for child in production.symbols[1:]:
                    product = product @ charts[child]
                charts[name] += production.probability * product
        inside = np.log(charts[symbol][np.arange(len(texts)), 0, lengths])
    return inside - [sum(scales.get(letter, 0.0) for letter in text) for text in texts]


def _log_inside(grammar: Grammar, symbol: str, text: Sequence[str]) -> float:
    """The same of one text by charts of log-probabilities: much slower, and never out of range."""
    if not _derives(grammar, symbol, text):
        return -np.inf
    size = len(text) + 1
    charts = {letter: np.full((size, size), -np.inf) for letter in grammar.letters}
    for i, letter in enumerate(text):
        if letter in charts:
            charts[letter][i, i + 1] = 0.0
    rules = reachable_from(grammar, symbol)
    for name in reversed(list(rules)):
        charts[name] = np.full((size, size), -np.inf)
        for production in rules[name]:
            product = charts[production.symbols[0]]
            for child in production.symbols[1:]:
                product = _log_matmul(product, charts[child])
            charts[name] = np.logaddexp(charts[name], product + math.log(production.probability))
    return float(charts[symbol][0, -1])


def _log_matmul(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    total = np.full_like(left, -np.inf)
    for middle in range(left.shape[0]):
        total = np.logaddexp(total, left[:, middle, None] + right[middle])
    return total


def _derives(grammar: Grammar, symbol: str, text: Sequence[str]) -> bool:
    """Whether `symbol` derives the text at all."""
    charts = {x: np.diag([float(found == x) for found in text], 1).astype(bool) for x in grammar.letters}
    rules = reachable_from(grammar, symbol)
    for name in reversed(list(rules)):
        charts[name] = np.zeros((len(text) + 1, len(text) + 1), bool)
        for production in rules[name]:
            product = charts[production.symbols[0]]
            for child in production.symbols[1:]:
                product = product.astype(np.float32) @ charts[child].astype(np.float32) > 0
            charts[name] |= product
    return bool(charts[symbol][0, -1])


def length_distribution(grammar: Grammar, symbol: str) -> np.ndarray:
    """[longest + 1] probability that a text derived from `symbol` has 0, 1, ... letters."""
    rules = reachable_from(grammar, symbol)
    found = {letter: np.array([0.0, 1.0]) for letter in grammar.letters}
    for name in reversed(list(rules)):
        parts = []
        for production in rules[name]:
            spread = np.array([production.probability])
            for child in production.symbols:
                spread = np.convolve(spread, found[child])
            parts.append(spread)
        found[name] = np.sum([np.pad(part, (0, max(map(len, parts)) - len(part))) for part in parts], axis=0)
    return found[symbol]


def first_letters(grammar: Grammar, symbol: str) -> np.ndarray:
    """[letters, longest + 1] probability that a text of `symbol` begins with the letter and has 0, 1, ... letters."""
    size = text_lengths(grammar, symbol)[1] + 1
    first = {letter: np.zeros((len(grammar.letters), size)) for letter in grammar.letters}
    for i, letter in enumerate(grammar.letters):
        first[letter][i, 1] = 1.0
    for name in reversed(list(reachable_from(grammar, symbol))):
        first[name] = np.zeros((len(grammar.letters), size))
        for production in grammar.rules[name]:
            spread = first[production.symbols[0]]
            for child in production.symbols[1:]:
                lengths = first[child].sum(axis=0)
                spread = np.stack([np.convolve(row, lengths)[:size] for row in spread])
            first[name] += production.probability * spread
    return first[symbol]


def derivation_entropy(grammar: Grammar, symbol: str) -> float:
    """Entropy in nats of the derivations of `symbol`; of its texts too, if the grammar is unambiguous."""
    found = dict.fromkeys(grammar.letters, 0.0)
    for name in reversed(list(reachable_from(grammar, symbol))):
        found[name] = sum(
            p.probability * (sum(found[child] for child in p.symbols) - math.log(p.probability))
            for p in grammar.rules[name]
        )
    return found[symbol]


class Estimate(NamedTuple):
    """A mean over samples and its standard error."""

    mean: float
    error: float


def entropy_rate(grammar: Grammar, symbol: str, texts: Sequence[Sequence[str]]) -> Estimate:
    """Nats a letter of the texts of `symbol`, from at least two texts drawn from it.

    The ratio of the mean of -log p to the mean length, with the ratio estimator's standard
    error: what a model that knows the grammar perfectly would reach.

    Raises ValueError if a text is none of the symbol's.
    """
    surprise = -log_probability(grammar, symbol, texts)
    if len(texts) < 2 or not np.isfinite(surprise).all():
        raise ValueError(f"entropy_rate needs 2 or more texts that {symbol} derives")
    lengths = np.array([len(text) for text in texts], float)
    rate = surprise.mean() / lengths.mean()
    residual = np.std(surprise - rate * lengths, ddof=1)
    return Estimate(float(rate), float(residual / lengths.mean() / math.sqrt(len(texts))))
