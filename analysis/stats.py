"""Statistics over seeds: what a handful of models trained from different seeds can and cannot tell.

A study has few seeds, 3 to 10, and every model of a seed descends from the same pretrained
one, so models are compared within the seed: a sample here is one difference a seed. Two samples
are compared where studies share no pretraining.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

ROUNDING = 1e-12
"""Spread, as a share of the largest value, up to which values differ by rounding alone."""


def _beyond(t: Any, freedom: Any) -> Any:
    """How much of Student's t lies above `t`: `scipy.stats.t.sf`, to the bit, in a fiftieth of its time."""
    return stdtr(freedom, -t)


class Paired(NamedTuple):
    """What differences, one a seed, say of their mean; nan where they say nothing."""

    n: int
    mean: float
    low: float = np.nan
    """Of the interval"""
    high: float = np.nan
    p: float = np.nan
    """Two-sided, that the mean is 0"""
    spread: float = np.nan
    """Standard deviation over seeds"""
    effect_size: float = np.nan
    """Cohen's d_z: mean / spread"""


def paired_test(differences: np.ndarray, least_spread: float = 0.0, confidence: float = 0.95) -> Paired:
    """Paired t-test and interval of `differences` [n].

    A t-test although it takes the differences to be normal: the exact sign-flip test assumes
    only symmetry, but its p is never below 2^(1 - n), 0.25 for 3 seeds and 0.06 for 5, so that no
    effect, however large, could ever be told from chance. Each difference is itself of means over
    hundreds of prompts. What is bought by the assumption should be known: were differences only
    ever +a or -a, n of them would agree in one given sign with chance 2^-n, 1 in 8 for 3 seeds.

    `least_spread` is the resolution of the differences, below which their spread is not
    believed: shares of N prompts may agree in every seed, at 0 or at 1, and are still known to
    1 / N only. Without one, equal differences have an unknown spread and no p; differences of
    exactly 0 in every seed are no difference, with p = 1.
    """
    n = len(differences)
    mean = float(np.mean(differences)) if n else np.nan
    if n < 2:
        return Paired(n, mean)
    spread = float(np.std(differences, ddof=1))
    if spread <= ROUNDING * np.max(np.abs(differences)):
        spread = 0.0
    spread = max(spread, least_spread)
    if spread == 0:
        return Paired(n, mean) if mean else Paired(n, mean, 0.0, 0.0, 1.0, 0.0, 0.0)
    error = spread / np.sqrt(n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    p = float(2 * _beyond(abs(mean) / error, n - 1))
    return Paired(n, mean, mean - half, mean + half, p, spread, mean / spread)


class Unpaired(NamedTuple):
    """What two samples say of the difference of their means; nan where they say nothing."""

    n: tuple[int, int]
    mean: float
    """Of the first - of the second"""
    low: float = np.nan
    """Of the interval"""
    high: float = np.nan
    p: float = np.nan
    """Two-sided, that there is no difference"""


def welch_test(first: np.ndarray, second: np.ndarray, least_spread: float = 0.0, confidence: float = 0.95) -> Unpaired:
    """Welch's t-test and interval of the difference of the means of `first` [n] and `second` [m].

    For models that share no pretraining, whose seeds are therefore no pairs; the spreads may
    differ. `least_spread` is the resolution of the values, as in `paired_test`: without one, values
    that are equal within both samples have no known spread and no p, unless there is no difference.
    """
    n = np.array([len(first), len(second)])
    if n.min() == 0:
        return Unpaired((len(first), len(second)), np.nan)
    mean = float(np.mean(first) - np.mean(second))
    whole = Unpaired((len(first), len(second)), mean)
    if n.min() < 2:
        return whole
    rounding = ROUNDING * max(np.max(np.abs(first)), np.max(np.abs(second)))
    spread = np.array([np.std(first, ddof=1), np.std(second, ddof=1)])
    parts = np.where(spread <= rounding, least_spread, np.maximum(spread, least_spread)) ** 2 / n
    if parts.sum() == 0:
        return whole if abs(mean) > rounding else whole._replace(mean=0.0, low=0.0, high=0.0, p=1.0)
    error, freedom = np.sqrt(parts.sum()), parts.sum() ** 2 / np.sum(parts**2 / (n - 1))
    half = float(stdtrit(freedom, (1 + confidence) / 2) * error)
    return whole._replace(low=mean - half, high=mean + half, p=float(2 * _beyond(abs(mean) / error, freedom)))


def one_sided_p(test: Paired, bound: float = 0.0, above: bool = True) -> float:
    """p of Student's t that the mean does not lie above `bound` (or, if not `above`, below it).

    Equal differences have no spread: 1 unless there is a difference, nan where there is one.
    """
    if test.n < 2 or np.isnan(test.spread):
        return np.nan
    distance = test.mean - bound if above else bound - test.mean
    if test.spread == 0:
        return 0.0 if distance > 0 else 1.0
    return float(_beyond(distance / (test.spread / np.sqrt(test.n)), test.n - 1))


def variance_shares(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Shares of the variance of `values` [n] between and within `groups` [n], which sum to 1; nan where unknown.

    By the mean squares of a one-way random-effects analysis of variance, which allow for groups of
    unequal size; a negative estimate between groups counts as 0. Needs two groups and one with two values.
    """
    _, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n, k = len(values), len(sizes)
    if k < 2 or n == k:
        return np.nan, np.nan
    means = np.bincount(which, values) / sizes
    within = float(np.sum((values - means[which]) ** 2) / (n - k))
    between = float(np.sum(sizes * (means - np.mean(values)) ** 2) / (k - 1))
    typical = (n - np.sum(sizes**2) / n) / (k - 1)
    component = max(0.0, (between - within) / typical)
    whole = component + within
    return (component / whole, within / whole) if whole > 0 else (np.nan, np.nan)


def equivalence_p(test: Paired, margin: float) -> float:
    """p that the mean lies no further inside than +-`margin`: the larger of two one-sided t-tests (Schuirmann 1987)."""
    return float(np.maximum(one_sided_p(test, -margin), one_sided_p(test, margin, above=False)))


def holm(p: np.ndarray) -> np.ndarray:
    """[m] p-values after Holm's step-down correction (1979): all below 0.05 are rejected at once.

    The chance of even one false rejection is then 0.05 at most, however the tests depend on one
    another. A nan is no test and stays nan.
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def seeds_needed(test: Paired, level: float, most: int = 100) -> int | None:
    """Fewest seeds at which this mean and this spread would give a one-sided p < `level`; None if more than `most`."""
    n = np.arange(2, most + 1)
    enough = _beyond(abs(test.effect_size) * np.sqrt(n), n - 1) < level
    return int(n[enough.argmax()]) if enough.any() else None
