"""Where in weight space a tuned model changed (arXiv 2407.10264, sec. 4).

Matrices here act from the left, y = W x with W [m, n], as the paper writes them: for the
first MLP matrix m is the hidden width and n the width of the residual stream, and W is the
transpose of the stored `W_in`.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from analysis.rows import Result, Row, Samples, Subject
from synth.keys import fold
from synth.settings import require, require_positive


@dataclass(unsafe_hash=True)
class NullspaceConfig:
    """Settings of the null-space measurements."""

    rank_share: float = 0.99
    """Share of the squared Frobenius norm that the empirical rank must hold."""
    directions: int = 15
    """Right singular vectors of dW on which activations are projected."""
    draws: int = 100
    """Random frames behind the controls."""

    def __post_init__(self) -> None:
        require_positive(self, "directions", "draws")
        require(0 < self.rank_share <= 1, "rank_share", self.rank_share, "must be in (0, 1]", "set 0.99")


def empirical_rank(singular_values: np.ndarray, share: float = 0.99) -> int:
    """Fewest leading singular values [r] whose squares sum to `share` of all; 0 for a zero matrix."""
    energy = np.cumsum(np.square(singular_values))
    if energy[-1] == 0:
        return 0
    return int(np.searchsorted(energy, share * energy[-1]) + 1)


def column_basis(matrix: np.ndarray, share: float = 0.99) -> np.ndarray:
    """[m, r] the leading left singular vectors of `matrix` [m, n] up to its empirical rank r."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return left[:, : empirical_rank(values, share)]


def sines(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """[k] sine of the angle of each unit column of `vectors` [m, k] to the span of `basis` [m, r].

    0 inside the span, 1 orthogonal to it: the norm of the component outside.
    """
    outside = vectors - basis @ (basis.T @ vectors)
    return np.clip(np.linalg.norm(outside, axis=0), 0.0, 1.0)


def random_frames(size: int, vectors: int, draws: int, key: jax.Array) -> np.ndarray:
    """[draws, size, vectors] orthonormal columns in uniformly random position."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return np.linalg.qr(rng.standard_normal((draws, size, vectors)))[0]


def projections(matrix: np.ndarray, activations: np.ndarray, directions: int) -> np.ndarray:
    """[N, k] sigma_i v_i . a for the top k right singular vectors of `matrix` [m, n].

    Each row a of `activations` [N, n] is scaled to unit length first. The sign of a singular
    vector is arbitrary, so only the magnitude means anything across seeds.
    """
    _, values, right = np.linalg.svd(matrix, full_matrices=False)
    unit = activations / np.linalg.norm(activations, axis=-1, keepdims=True)
    return unit @ (right[:directions].T * values[:directions])


def measure(subject: Subject, config: NullspaceConfig) -> list[Result]:
    """Per layer, for the first MLP matrix; no rows for the untouched model, which has no dW."""
    results: list[Result] = []
    for name, block in subject.params["blocks"].items():
        layer = int(name)
        untuned = np.asarray(subject.reference["blocks"][name]["mlp"]["W_in"], float).T
        change = np.asarray(block["mlp"]["W_in"], float).T - untuned
        if not change.any():
            continue
        inputs = {
            family: np.asarray(seen.last["mlp.in"][:, layer], float) for family, seen in subject.observations.items()
        }
        key = fold(subject.key, "nullspace", layer)
        where: dict[str, Any] = {"layer": layer + 1, "module": "W_in"}
        results += _column_space(untuned, change, config, fold(key, "columns"), where)
        results += _row_space(change, inputs, config, fold(key, "rows"), where)
    return results


def _column_space(
    untuned: np.ndarray, change: np.ndarray, config: NullspaceConfig, key: jax.Array, where: dict[str, Any]
) -> list[Result]:
    basis = column_basis(untuned, config.rank_share)
    vectors = column_basis(change, config.rank_share)
    count = vectors.shape[1]
    measured = sines(vectors, basis)
    frames = random_frames(len(untuned), count, config.draws, key)
    null = np.sort([sines(frame, basis) for frame in frames], axis=1)
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    size = float(np.linalg.norm(change) / np.linalg.norm(untuned))
    summary = {
        "rank_untuned": basis.shape[1],
        "rank_change": count,
        "relative_change": size,
        "sine_mean": measured.mean(),
        "sine_random_mean": null.mean(),
        "sine_excess": measured.mean() - null.mean(),
    }
    results: list[Result] = [Row(metric, float(value), count, **where) for metric, value in summary.items()]
    curves = {
        "sine": measured,
        "sine_sorted": np.sort(measured),
        "sine_random_sorted": null.mean(0),
        "sine_random_sorted_low": low,
        "sine_random_sorted_high": high,
    }
    for metric, curve in curves.items():
        n = config.draws if "random" in metric else 1
        results += [Row(metric, float(v), n, index=i + 1, **where) for i, v in enumerate(curve)]
    return results


def _row_space(
    change: np.ndarray,
    inputs: dict[str, np.ndarray],
    config: NullspaceConfig,
    key: jax.Array,
    where: dict[str, Any],
) -> list[Result]:
    values = np.linalg.svd(change, compute_uv=False)[: config.directions]
    frames = random_frames(change.shape[1], len(values), config.draws, key)
    results: list[Result] = []
    for family, activations in inputs.items():
        unit = activations / np.linalg.norm(activations, axis=-1, keepdims=True)
        effect = np.linalg.norm(unit @ change.T, axis=-1)
        results.append(Samples("projection_total", effect, family=family, **where))
        along = projections(change, activations, config.directions)
        # The same singular values on random orthonormal directions: what size alone explains.
        null = np.abs(unit @ frames).mean(axis=(0, 1)) * values
        for i, column in enumerate(along.T):
            at: dict[str, Any] = {"family": family, "index": i + 1, **where}
            results.append(Samples("projection", column, **at))
            results.append(Samples("projection_abs", np.abs(column), **at))
            results.append(Row("projection_abs_random", float(null[i]), config.draws, **at))
    return results
