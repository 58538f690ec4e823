"""Fisher's linear discriminant of two clusters, of many labellings at once."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from analysis.clusters import ROUNDING


class Discriminant(NamedTuple):
    """Fisher's linear discriminant of P labellings: a row's coordinate is (a . direction - middle) / deviation."""

    direction: np.ndarray
    """[P, F]"""
    middle: np.ndarray
    """[P] half-way between the means"""
    distance: np.ndarray
    """[P] of the means"""
    deviation: np.ndarray
    """[P] standard deviation within clusters, so that coordinates are in units of it"""

    def coordinates(self, rows: np.ndarray) -> np.ndarray:
        """[P, N] of rows [N, F]: above 0 on the safe side."""
        along = rows @ self.direction.T - self.middle
        return (along / self.deviation).T


def discriminant(rows: np.ndarray, is_safe: np.ndarray, ridge: float) -> Discriminant:
    """Of rows [N, F] for labels [P, N]: w = (S_W + rho I)^-1 (mu_S - mu_U), the same for all P at once.

    S_W is the covariance within clusters and rho = `ridge` times the total variance, without which
    as many dimensions as rows would always be told apart. The total covariance S_T = S_W + c m m^T,
    m = mu_S - mu_U and c = n_S n_U / N^2, depends on no labels, and (S_T + rho I)^-1 m has the same
    direction (Sherman-Morrison): one factorisation serves every labelling.
    """
    mean, count = rows.mean(0), len(rows)
    centred = rows - mean
    total = centred.T @ centred / count
    count_safe = is_safe.sum(axis=1)
    share, pairs = count_safe / count, count_safe * (count - count_safe)
    # Of few rows, one label may be all there is: then nothing is between the means.
    gap = is_safe @ centred * np.divide(count, pairs, out=np.zeros_like(share), where=pairs > 0)[:, None]
    penalty = ridge * np.trace(total) + np.finfo(float).tiny
    direction = cho_solve(cho_factor(total + penalty * np.eye(len(total))), gap.T).T
    distance = np.sum(direction * gap, axis=1)
    along = np.sum(direction @ total * direction, axis=1)
    floor = np.maximum(ROUNDING**2 * along, np.finfo(float).tiny)
    deviation = np.sqrt(np.maximum(along - share * (1 - share) * distance**2, floor))
    return Discriminant(direction, direction @ mean + (0.5 - share) * distance, distance, deviation)


def fisher(rows: np.ndarray, is_safe: np.ndarray, ridge: float) -> np.ndarray:
    """[P] J = (w . (mu_S - mu_U))^2 / w^T S_W w along the discriminant w of rows [N, F].

    Variance between clusters over variance within (Bishop, Pattern Recognition and Machine Learning,
    Eqs. 4.25-4.26), times N: S_W is the clusters' mean covariance, not their summed scatter.
    """
    found = discriminant(rows, is_safe, ridge)
    return (found.distance / found.deviation) ** 2


def fisher_unridged(rows: np.ndarray, is_safe: np.ndarray) -> np.ndarray:
    """[P] `fisher` of rows [N, F] in the limit of no ridge, NaN unless N - 2 is above the dimensions they vary in.

    A direction in which they vary by less than `ROUNDING` of their size is none.
    """
    centred = rows - rows.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(rows))
    kept = variances > ROUNDING**2 * np.mean(np.sum(rows**2, axis=1))
    if len(rows) - 2 <= np.sum(kept):
        return np.full(len(is_safe), np.nan)
    return fisher(centred @ (axes[:, kept] / np.sqrt(variances[kept])), is_safe, 0.0)
