"""How well safe and unsafe activations can be told apart, and what shape the two clusters have.

k-means accuracy and Fisher criterion are those of arXiv 2407.10264 (Figs. A.31-32, A.76-85), the
singular values of the clusters' covariances and the first one's share are what its Figs. A.19-22 show.
The control of each deals the labels at random; for the covariances it deals the rows about their
cluster's mean, so that it says what two clusters of the same shape would have, however far apart.

Fisher's criterion has the ridge of `SeparabilityConfig.ridge`, which decides it where the clusters hardly spread along
the direction that tells them apart: there the criterion can be several times as large without it. `fisher_unridged` is
that, where there are more prompts than dimensions; the permuted labels show how much of it the dimensions alone make.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.linalg import eigh

from analysis.clusters import MODULES, ROUNDING, activations, deal, per_prompt, row, unusable
from analysis.discriminant import discriminant, fisher, fisher_unridged
from analysis.kmeans import kmeans_accuracy, silhouette
from analysis.observe import Observation
from analysis.rows import Result, Subject
from synth.keys import fold
from synth.settings import require, require_above_zero, require_positive


@dataclass(unsafe_hash=True)
class SeparabilityConfig:
    """Settings of the separability measurements."""

    sites: tuple[str, ...] = ("mlp.post", "mlp.post_last", "resid_post_last")
    """Where to measure: sites of `analysis.clusters.MODULES`. The paper's covariances are of one position (q = 1),
    mlp.post_last; in the window of mlp.post, all refused prompts have read the same null tokens."""
    permutations: int = 100
    """Random relabellings behind the permuted-label controls."""
    deals: int = 5
    """Those of them behind the control of the covariances, which is dearer and varies less."""
    directions: int = 15
    """Singular values of each covariance that are reported."""
    silhouettes: int = 500
    """Safe and unsafe prompts each, the first ones, whose distances to one another the silhouette takes."""
    restarts: int = 64
    """Random starts of k-means (k-means++), of which the tightest result counts."""
    ridge: float = 1e-4
    """Added to the within-cluster covariance's diagonal, as a share of the total variance."""

    def __post_init__(self) -> None:
        self.sites = tuple(self.sites)
        for site in self.sites:
            require(site in MODULES, "sites", list(self.sites), f"{site} is none of {', '.join(MODULES)}", "take one")
        require_positive(self, "permutations", "deals", "directions", "silhouettes", "restarts")
        require(self.deals <= self.permutations, "deals", self.deals, "must be at most permutations", "set deals=5")
        require_above_zero(self, "ridge")


def spectrum(rows: np.ndarray) -> np.ndarray:
    """[F] singular values, largest first, of the covariance of rows [N, F]; NaN if they have no spread.

    The mean of (a - mu)(a - mu)^T over rows: what Eqs. A.1-2 of the paper sum, divided by N.
    """
    count, size = rows.shape
    centred = rows - rows.mean(0)
    if np.linalg.norm(centred) <= ROUNDING * np.linalg.norm(rows):
        return np.full(size, np.nan)
    # The smaller of the two Gram matrices has the same singular values but for zeros.
    squares = np.linalg.eigvalsh(centred @ centred.T if count < size else centred.T @ centred)[::-1]
    return np.pad(np.maximum(squares, 0), (0, size - len(squares))) / count


def spectral_share(rows: np.ndarray) -> float:
    """The first of the covariance's singular values over their sum: spectral over nuclear norm, NaN for no spread.

    1 where a cluster has collapsed to a line, 1 / F where it spreads alike in all directions.
    """
    values = spectrum(rows)
    return float(values[0] / values.sum())


def principal_axes(rows: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """[F, 2] the leading principal axes of rows [N, F], turned so that `towards` [F] lies on the positive side."""
    centred, last = rows - rows.mean(0), rows.shape[1] - 1
    axes = eigh(centred.T @ centred, subset_by_index=[last - 1, last])[1][:, ::-1]
    return axes * np.where((towards - rows.mean(0)) @ axes < 0, -1, 1)


class _Labels(NamedTuple):
    """What every place that is measured shares."""

    is_safe: np.ndarray
    """[1 + permutations, N] bool: the true labels, then those dealt at random"""
    fitted: np.ndarray
    """[1 + permutations, M] likewise, of the prompts of the validation side"""
    near: np.ndarray
    """Which of the N rows the silhouette is taken of"""
    seed: int
    """For k-means"""


NO_SPREAD = "the clusters have no spread"
FEW = "no more prompts than dimensions"

STATISTICS = (
    ("kmeans_accuracy", None),
    ("fisher", None),
    ("fisher_unridged", None),
    ("silhouette", None),
    ("probe_accuracy", None),
    ("spectral_share", "safe"),
    ("spectral_share", "unsafe"),
)
"""What is measured of safe and unsafe rows, and of which family."""

COORDINATES = (("pca", 1), ("pca", 2), ("lda", None))
"""What is measured of each prompt, and the component's number."""


def measure(subject: Subject, config: SeparabilityConfig) -> list[Result]:
    """At each of `config.sites`, per layer: statistics of safe and unsafe rows, and coordinates of every family.

    `pca` has two components, of safe and unsafe rows pooled; `lda` is the discriminant's coordinate, and
    `probe_accuracy` the share of safe and unsafe prompts on the right side of 0 by it. Axes and discriminant are those
    of `Subject.validation`, so that all prompts are as new to them.
    """
    labels = _labels(subject, config)
    results: list[Result] = []
    for site in config.sites:
        for layer in range(subject.model.layers):
            acts, fitted = (
                {family: activations(seen, site, layer) for family, seen in of.items()}
                for of in (subject.observations, subject.validation)
            )
            results += _layer(acts, fitted, labels, config, {"layer": layer + 1, "module": site})
    return results


def _labels(subject: Subject, config: SeparabilityConfig) -> _Labels:
    key = fold(subject.key, "separability")

    def dealt(of: Mapping[str, Observation], name: str) -> np.ndarray:
        safe, unsafe = (len(of[family].complied) for family in ("safe", "unsafe"))
        at_random = deal(safe, unsafe, config.permutations, fold(key, name))
        return np.concatenate([np.arange(safe + unsafe)[None] < safe, at_random])

    is_safe = dealt(subject.observations, "labels")
    safe = int(is_safe[0].sum())
    near = np.concatenate(
        [np.arange(safe)[: config.silhouettes], np.arange(safe, len(is_safe[0]))[: config.silhouettes]]
    )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(fold(key, "restarts"))))
    return _Labels(is_safe, dealt(subject.validation, "fitted"), near, int(rng.integers(2**31)))


def _layer(
    acts: dict[str, np.ndarray],
    fitted: dict[str, np.ndarray],
    labels: _Labels,
    config: SeparabilityConfig,
    where: dict[str, Any],
) -> list[Result]:
    missing = unusable(acts)
    found = [reason for of in (acts, fitted) for reason in _unusable(of)]
    why = found[0] if found else None
    known = {family: rows for family, rows in acts.items() if family not in missing}
    statistics, spectra, coordinates = ({}, {}, {}) if why else _measured(*_centred(known, fitted), labels, config)
    results: list[Result] = []
    for metric, family in STATISTICS:
        values = statistics.get((metric, family), np.full(2, np.nan))
        measured, null = values[0], values[1:]
        prompts = acts[family] if family else labels.near if metric == "silhouette" else labels.is_safe[0]
        low, high = np.quantile(null, [0.025, 0.975])
        because = why or (FEW if (metric, family) in statistics else NO_SPREAD)
        results.append(row(metric, measured, len(prompts), because, family=family, **where))
        for name, value in {"permuted": null.mean(), "permuted_low": low, "permuted_high": high}.items():
            results.append(row(f"{metric}_{name}", value, len(null), because, family=family, **where))
    for family in ("safe", "unsafe"):
        blank = np.full((2, min(config.directions, acts[family].shape[1])), np.nan)
        measured, null = np.split(spectra.get(family, blank), [1])
        sigmas = {"covariance_sigma": (measured[0], len(acts[family]))}
        sigmas["covariance_sigma_permuted"] = (null.mean(0), len(null))
        for metric, (values, n) in sigmas.items():
            at = {"family": family, **where}
            results += [row(metric, v, n, why or NO_SPREAD, index=i + 1, **at) for i, v in enumerate(values)]
    for family, rows in acts.items():
        for metric, index in COORDINATES:
            values = coordinates.get((family, metric, index), np.full(len(rows), np.nan))
            because = why or missing.get(family, NO_SPREAD)
            results.append(per_prompt(metric, values, because, family=family, index=index, **where))
    return results


def _unusable(acts: Mapping[str, np.ndarray]) -> list[str]:
    """Why safe and unsafe rows cannot be told apart at all, if so."""
    missing = unusable(acts)
    safe, unsafe = acts["safe"], acts["unsafe"]
    if "safe" in missing or "unsafe" in missing:
        return [missing[family] for family in ("safe", "unsafe") if family in missing]
    if min(len(safe), len(unsafe)) < 2:
        return ["fewer than two safe or unsafe prompts"]
    pooled = np.concatenate([safe, unsafe])
    alike = np.linalg.norm(pooled - pooled.mean(0)) <= ROUNDING * np.linalg.norm(pooled)
    return ["all safe and unsafe activations are alike"] if alike else []


Rows = dict[str, np.ndarray]


def _centred(acts: Rows, fitted: Rows) -> tuple[Rows, Rows]:
    """Rows in double precision about the mean of safe and unsafe ones, in the span of these if it is the smaller.

    Directions outside the span of what is fitted and judged change no statistic and no coordinate.
    """
    judged = np.concatenate([acts["safe"], acts["unsafe"]]).astype(float)
    origin, width = judged.mean(0), judged.shape[1]
    moved = [{family: rows - origin for family, rows in of.items()} for of in (acts, fitted)]
    spanning = np.concatenate([of[family] for of in moved for family in ("safe", "unsafe")])
    if width > len(spanning):
        basis = np.linalg.qr(spanning.T)[0]
        moved = [{family: rows @ basis for family, rows in of.items()} for of in moved]
    return moved[0], moved[1]


def _measured(
    acts: Rows, fitted: Rows, labels: _Labels, config: SeparabilityConfig
) -> tuple[
    dict[tuple[str, str | None], np.ndarray], dict[str, np.ndarray], dict[tuple[str, str, int | None], np.ndarray]
]:
    """STATISTICS and the covariances' singular values, for the true labels and then for those dealt, and COORDINATES
    of each family."""
    safe, unsafe, is_safe = acts["safe"], acts["unsafe"], labels.is_safe
    pooled, own = (np.concatenate([of["safe"], of["unsafe"]]) for of in (acts, fitted))
    # Distances between thousands of rows: single precision halves the time.
    single = pooled.astype(np.float32)
    probe = discriminant(own, labels.fitted, config.ridge)
    few = is_safe[: 1 + config.deals]
    statistics: dict[tuple[str, str | None], np.ndarray] = {
        ("kmeans_accuracy", None): kmeans_accuracy(single, is_safe, config.restarts, labels.seed),
        ("silhouette", None): silhouette(single[labels.near], is_safe[:, labels.near]),
        ("probe_accuracy", None): np.mean((probe.coordinates(pooled) > 0) == is_safe, axis=1),
    }
    spectra: dict[str, np.ndarray] = {}
    residuals = np.concatenate([safe - safe.mean(0), unsafe - unsafe.mean(0)]).astype(np.float32)
    rounding = ROUNDING * np.linalg.norm(pooled)
    for family, chosen in (("safe", few), ("unsafe", ~few)):
        if np.linalg.norm(residuals[chosen[0]]) > rounding:
            values = np.array([spectrum(residuals[rows]) for rows in chosen], float)
            statistics["spectral_share", family] = values[:, 0] / values.sum(axis=1)
            spectra[family] = values[:, : config.directions]
    axes = principal_axes(own, fitted["safe"].mean(0))
    coordinates: dict[tuple[str, str, int | None], np.ndarray] = {
        (family, "pca", i + 1): along for family, rows in acts.items() for i, along in enumerate((rows @ axes).T)
    }
    # Clusters without spread are infinitely many deviations apart.
    if np.linalg.norm(residuals) > rounding:
        statistics["fisher", None] = fisher(pooled, is_safe, config.ridge)
        statistics["fisher_unridged", None] = fisher_unridged(pooled, is_safe)
        coordinates |= {(family, "lda", None): probe.coordinates(rows)[0] for family, rows in acts.items()}
    return statistics, spectra, coordinates
