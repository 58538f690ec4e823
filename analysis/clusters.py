"""How far apart a layer holds safe and unsafe prompts (arXiv 2407.10264, Eqs. 1-2)."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from analysis.rows import Result, Row, Samples, Subject
from synth.keys import fold
from synth.settings import require_positive


@dataclass(unsafe_hash=True)
class ClustersConfig:
    """Settings of the cluster measurements."""

    window: int = 4
    """Positions averaged from the one that predicts the first response token on (the paper's q)."""
    permutations: int = 100
    """Random relabellings behind the permuted-label control."""

    def __post_init__(self) -> None:
        require_positive(self, "window", "permutations")


def tau(activations: np.ndarray, mean_safe: np.ndarray, mean_unsafe: np.ndarray) -> np.ndarray:
    """||a - mu_U|| - ||a - mu_S|| for each row of `activations` [N, F] -> [N] (Eq. 2).

    Above 0 for what lies nearer the safe mean [F], below 0 for what lies nearer the unsafe one.
    """
    to_unsafe = np.linalg.norm(activations - mean_unsafe, axis=-1)
    to_safe = np.linalg.norm(activations - mean_safe, axis=-1)
    return to_unsafe - to_safe


def separation(safe: np.ndarray, unsafe: np.ndarray) -> float:
    """Mean tau over safe rows minus mean tau over unsafe rows [N, F], about their own means."""
    means = safe.mean(0), unsafe.mean(0)
    return float(tau(safe, *means).mean() - tau(unsafe, *means).mean())


def spread(safe: np.ndarray, unsafe: np.ndarray) -> float:
    """Root mean squared distance of rows [N, F] to their own cluster's mean."""
    residuals = np.concatenate([safe - safe.mean(0), unsafe - unsafe.mean(0)])
    return float(np.sqrt(np.mean(np.sum(residuals**2, axis=-1))))


def permuted_separations(
    safe: np.ndarray, unsafe: np.ndarray, permutations: int, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Separation and spread, each [permutations], when the labels safe and unsafe are dealt at random."""
    pooled = np.concatenate([safe, unsafe])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    is_safe = rng.permuted(np.tile(np.arange(len(pooled)) < len(safe), (permutations, 1)), axis=1)
    # All relabellings at once, by ||a - m||^2 = ||a||^2 - 2 a.m + ||m||^2 about a common origin.
    centred = pooled - pooled.mean(0)
    squares = np.sum(centred**2, axis=-1)
    distances, within = [], np.full(permutations, squares.sum())
    for labels in (~is_safe, is_safe):
        means = labels @ centred / labels.sum(axis=1, keepdims=True)
        squared = squares - 2 * means @ centred.T + np.sum(means**2, axis=-1, keepdims=True)
        distances.append(np.sqrt(np.maximum(squared, 0.0)))
        within -= labels.sum(axis=1) * np.sum(means**2, axis=-1)
    taus = distances[0] - distances[1]
    of_safe, of_unsafe = (np.sum(taus * labels, axis=1) / labels.sum(axis=1) for labels in (is_safe, ~is_safe))
    return of_safe - of_unsafe, np.sqrt(np.maximum(within, 0.0) / len(pooled))


def measure(subject: Subject, config: ClustersConfig) -> list[Result]:
    """Per layer: tau of each family, separation raw and divided by the spread, and their null.

    Module `mlp.post` is the paper's window; `mlp.post_last` is the last position before the
    response alone, where no response token has been read yet: there a tuned model cannot
    look separated merely because it has just read different responses.
    """
    results: list[Result] = []
    for module, last in (("mlp.post", False), ("mlp.post_last", True)):
        for layer in range(subject.model.layers):
            acts = {
                family: np.asarray((seen.last if last else seen.window)["mlp.post"][:, layer], float)
                for family, seen in subject.observations.items()
            }
            where: dict[str, Any] = {"layer": layer + 1, "module": module}
            results += _layer(acts, config, fold(subject.key, "clusters", module, layer), where)
    return results


def _layer(acts: dict[str, np.ndarray], config: ClustersConfig, key: jax.Array, where: dict[str, Any]) -> list[Result]:
    safe, unsafe = acts["safe"], acts["unsafe"]
    means, scale, pairs = (safe.mean(0), unsafe.mean(0)), spread(safe, unsafe), len(safe) + len(unsafe)
    raw = separation(safe, unsafe)
    null, null_spread = permuted_separations(safe, unsafe, config.permutations, key)
    null_scaled = null / null_spread
    results: list[Result] = []
    for family, rows_of in acts.items():
        values = tau(rows_of, *means)
        results.append(Samples("tau", values, family=family, **where))
        results.append(Row("tau_sd", float(values.std(ddof=1)), len(values), family=family, **where))
    statistics = {
        "separation": raw,
        "separation_scaled": raw / scale,
        "spread": scale,
        "separation_permuted": float(null.mean()),
        "separation_permuted_high": float(np.quantile(null, 0.975)),
        "separation_scaled_permuted": float(null_scaled.mean()),
        "separation_scaled_permuted_high": float(np.quantile(null_scaled, 0.975)),
    }
    return results + [Row(metric, value, pairs, **where) for metric, value in statistics.items()]
