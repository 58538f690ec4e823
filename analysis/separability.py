"""How well safe and unsafe activations can be told apart, and what shape the two clusters have.

k-means accuracy and Fisher criterion are those of arXiv 2407.10264 (Figs. A.31-32, A.76-85), the
singular values of the clusters' covariances and the first one's share are what its Figs. A.19-22 show.
The control of each deals the labels at random; for the covariances it deals the rows about their
cluster's mean, so that it says what two clusters of the same shape would have, however far apart.

Fisher's criterion has the ridge of `SeparabilityConfig.ridge`, which decides it where the clusters hardly spread along
the direction that tells them apart: there the criterion can be several times as large without it. `fisher_unridged` is
that, where there are more prompts than dimensions; the permuted labels show how much of it the dimensions alone make.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh

from analysis.clusters import MODULES, ROUNDING, activations, deal, per_prompt, row, unusable
from analysis.rows import Result, Subject
from synth.keys import fold
from synth.settings import require, require_above_zero, require_positive

LLOYD = 300
"""Iterations of k-means at most; some dozens are usual."""


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
    folds: int = 5
    """Parts of the prompts, each of which is held out from the linear probe once."""
    ridge: float = 1e-4
    """Added to the within-cluster covariance's diagonal, as a share of the total variance."""

    def __post_init__(self) -> None:
        self.sites = tuple(self.sites)
        for site in self.sites:
            require(site in MODULES, "sites", list(self.sites), f"{site} is none of {', '.join(MODULES)}", "take one")
        require_positive(self, "permutations", "deals", "directions", "silhouettes", "restarts")
        require(self.deals <= self.permutations, "deals", self.deals, "must be at most permutations", "set deals=5")
        require(2 <= self.folds <= 1000, "folds", self.folds, "must be from 2 to 1000", "set folds=5")
        require_above_zero(self, "ridge")


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


def held_out(rows: np.ndarray, is_safe: np.ndarray, fold_of: np.ndarray, ridge: float) -> np.ndarray:
    """[P, N] coordinate of each row of `rows` [N, F] on the discriminant of the other folds' rows."""
    coordinates = np.zeros(is_safe.shape)
    for part in np.unique(fold_of):
        out = fold_of == part
        found = discriminant(rows[~out], is_safe[:, ~out], ridge)
        coordinates[:, out] = found.coordinates(rows[out])
    return coordinates


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


def two_means(rows: np.ndarray, restarts: int, seed: int) -> np.ndarray:
    """[N] bool: the tightest of the partitions of rows [N, F] that k-means finds from `restarts` starts.

    Lloyd's iterations until nothing moves (or LLOYD of them), of all starts side by side: 64 of them cost what 4 one
    after the other do. A start is two rows, the second drawn by its squared distance to the first (k-means++, Arthur
    and Vassilvitskii 2007). Among partitions that are equally tight the first found counts.
    """
    rng = np.random.default_rng(seed)
    centred, count = rows - rows.mean(0), len(rows)
    squares = np.sum(centred**2, axis=1)
    first = rng.integers(count, size=restarts)
    far = np.cumsum(np.maximum(squares[first][:, None] + squares - 2 * centred[first] @ centred.T, 0), axis=1)
    second = np.argmax(far > rng.random((restarts, 1)) * far[:, -1:], axis=1)
    towards, middle = centred[second] - centred[first], (squares[second] - squares[first]) / 2
    found, between = np.zeros((restarts, count), bool), np.zeros(restarts)
    moving = np.arange(restarts)
    for _ in range(LLOYD):
        ones = towards @ centred.T > middle[:, None]
        moved = np.any(ones != found[moving], axis=1)
        found[moving] = ones
        moving, labels = moving[moved], ones[moved].astype(rows.dtype)
        # About the pooled mean the two sums of rows are opposite.
        sums, size = labels @ centred, labels.sum(axis=1, keepdims=True)
        means = sums / np.maximum(size, 1), -sums / np.maximum(count - size, 1)
        towards, middle = means[0] - means[1], np.sum(means[0] ** 2 - means[1] ** 2, axis=1) / 2
        # The tightest within is the widest between.
        between[moving] = np.sum(sums * towards, axis=1)
        if not len(moving):
            break
    best: np.ndarray = found[np.argmax(between)]
    return best


def kmeans_accuracy(rows: np.ndarray, is_safe: np.ndarray, restarts: int, seed: int) -> np.ndarray:
    """[P] share of rows [N, F] whose k-means cluster of two is that of their label, best matching of names."""
    share = np.mean(is_safe == two_means(rows, restarts, seed), axis=1)
    return np.maximum(share, 1 - share)


def silhouette(rows: np.ndarray, is_safe: np.ndarray) -> np.ndarray:
    """[P] mean of (b - a) / max(a, b) over rows [N, F]; 0 for a row without another of its label.

    a and b are a row's mean distances to the others of its label and to those of the other label.
    """
    centred = rows - rows.mean(0)
    squares = np.sum(centred**2, axis=1)
    between = np.sqrt(np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0))
    np.fill_diagonal(between, 0)
    labels = is_safe.astype(rows.dtype)
    to_safe, to_all = labels @ between, between.sum(axis=0)
    own, other = np.where(is_safe, (to_safe, to_all - to_safe), (to_all - to_safe, to_safe))
    count_safe = labels.sum(axis=1, keepdims=True)
    size = np.where(is_safe, count_safe, len(rows) - count_safe)
    own, other = own / np.maximum(size - 1, 1), other / np.maximum(len(rows) - size, 1)
    larger = np.maximum(own, other)
    known = (larger > 0) & (size > 1) & (size < len(rows))
    return np.mean(np.divide(other - own, larger, out=np.zeros_like(own), where=known), axis=1)


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
    fold_of: np.ndarray
    """[N]"""
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

    `pca` has two components, of safe and unsafe rows pooled; `lda` is the discriminant's coordinate.
    Safe and unsafe prompts have that of a discriminant of the other folds, so that they are as new
    to it as the prompts of the other families.
    """
    labels = _labels(subject, config)
    results: list[Result] = []
    for site in config.sites:
        for layer in range(subject.model.layers):
            acts = {family: activations(seen, site, layer) for family, seen in subject.observations.items()}
            results += _layer(acts, labels, config, {"layer": layer + 1, "module": site})
    return results


def _labels(subject: Subject, config: SeparabilityConfig) -> _Labels:
    safe, unsafe = (len(subject.observations[family].complied) for family in ("safe", "unsafe"))
    key = fold(subject.key, "separability")
    dealt = deal(safe, unsafe, config.permutations, fold(key, "labels"))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(fold(key, "folds"))))
    is_safe = np.concatenate([np.arange(safe + unsafe)[None] < safe, dealt])
    fold_of = rng.permutation(safe + unsafe) % config.folds
    near = np.concatenate([np.arange(safe)[: config.silhouettes], np.arange(safe, safe + unsafe)[: config.silhouettes]])
    return _Labels(is_safe, fold_of, near, int(rng.integers(2**31)))


def _layer(
    acts: dict[str, np.ndarray], labels: _Labels, config: SeparabilityConfig, where: dict[str, Any]
) -> list[Result]:
    missing = unusable(acts)
    why = missing.get("safe") or missing.get("unsafe") or _indistinct(acts["safe"], acts["unsafe"])
    known = {} if why else _centred({family: rows for family, rows in acts.items() if family not in missing})
    statistics, spectra, coordinates = _measured(known, labels, config) if known else ({}, {}, {})
    results: list[Result] = []
    for metric, family in STATISTICS:
        values = statistics.get((metric, family), np.full(2, np.nan))
        measured, null = values[0], values[1:]
        prompts = acts[family] if family else labels.near if metric == "silhouette" else labels.fold_of
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


def _indistinct(safe: np.ndarray, unsafe: np.ndarray) -> str | None:
    """Why rows cannot be told apart at all, if so."""
    if min(len(safe), len(unsafe)) < 2:
        return "fewer than two safe or unsafe prompts"
    pooled = np.concatenate([safe, unsafe])
    alike = np.linalg.norm(pooled - pooled.mean(0)) <= ROUNDING * np.linalg.norm(pooled)
    return "all safe and unsafe activations are alike" if alike else None


def _centred(acts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows in double precision about the mean of safe and unsafe ones, in the span of these if it is the smaller.

    Directions outside the span change no statistic and no coordinate.
    """
    pooled = np.concatenate([acts["safe"], acts["unsafe"]]).astype(float)
    origin = pooled.mean(0)
    moved = {family: rows - origin for family, rows in acts.items()}
    if pooled.shape[1] <= len(pooled):
        return moved
    span = np.linalg.qr((pooled - origin).T)[0]
    return {family: rows @ span for family, rows in moved.items()}


def _measured(
    acts: dict[str, np.ndarray], labels: _Labels, config: SeparabilityConfig
) -> tuple[
    dict[tuple[str, str | None], np.ndarray], dict[str, np.ndarray], dict[tuple[str, str, int | None], np.ndarray]
]:
    """STATISTICS and the covariances' singular values, for the true labels and then for those dealt, and COORDINATES
    of each family."""
    safe, unsafe, is_safe = acts["safe"], acts["unsafe"], labels.is_safe
    pooled = np.concatenate([safe, unsafe])
    # Distances between thousands of rows: single precision halves the time.
    single = pooled.astype(np.float32)
    new = held_out(pooled, is_safe, labels.fold_of, config.ridge)
    few = is_safe[: 1 + config.deals]
    statistics: dict[tuple[str, str | None], np.ndarray] = {
        ("kmeans_accuracy", None): kmeans_accuracy(single, is_safe, config.restarts, labels.seed),
        ("silhouette", None): silhouette(single[labels.near], is_safe[:, labels.near]),
        ("probe_accuracy", None): np.mean((new > 0) == is_safe, axis=1),
    }
    spectra: dict[str, np.ndarray] = {}
    residuals = np.concatenate([safe - safe.mean(0), unsafe - unsafe.mean(0)]).astype(np.float32)
    rounding = ROUNDING * np.linalg.norm(pooled)
    for family, chosen in (("safe", few), ("unsafe", ~few)):
        if np.linalg.norm(residuals[chosen[0]]) > rounding:
            values = np.array([spectrum(residuals[rows]) for rows in chosen], float)
            statistics["spectral_share", family] = values[:, 0] / values.sum(axis=1)
            spectra[family] = values[:, : config.directions]
    axes = principal_axes(pooled, safe.mean(0))
    coordinates: dict[tuple[str, str, int | None], np.ndarray] = {
        (family, "pca", i + 1): along for family, rows in acts.items() for i, along in enumerate((rows @ axes).T)
    }
    # Clusters without spread are infinitely many deviations apart.
    if np.linalg.norm(residuals) > rounding:
        statistics["fisher", None] = fisher(pooled, is_safe, config.ridge)
        statistics["fisher_unridged", None] = fisher_unridged(pooled, is_safe)
        found = discriminant(pooled, is_safe[:1], config.ridge)
        coordinates |= {(family, "lda", None): found.coordinates(rows)[0] for family, rows in acts.items()}
        coordinates["safe", "lda", None], coordinates["unsafe", "lda", None] = np.split(new[0], [len(safe)])
    return statistics, spectra, coordinates
