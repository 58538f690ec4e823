"""How far apart a layer holds safe and unsafe prompts (arXiv 2407.10264, Eqs. 1-2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from analysis.observe import WINDOW, Observation
from analysis.rows import Result, Row, Samples, Subject
from synth.keys import fold
from synth.settings import require_positive

MODULES = tuple(module for site in WINDOW for module in (site, f"{site}_last"))
"""A site alone is the mean over the window (the paper's); SITE_last is the last position before the
response, where no response token has been read: there a tuned model cannot look separated merely
because it has just read different responses."""

ROUNDING = 1e-6
"""Share of the rows' size below which a distance between float32 activations says nothing."""


@dataclass(unsafe_hash=True)
class ClustersConfig:
    """Settings of the cluster measurements."""

    window: int = 4
    """Positions averaged from the one that predicts the first response token on (the paper's q)."""
    permutations: int = 100
    """Random relabellings behind the permuted-label control."""

    def __post_init__(self) -> None:
        require_positive(self, "window", "permutations")


def activations(seen: Observation, module: str, layer: int) -> np.ndarray:
    """[N, width] what a layer (from 0) holds at one of MODULES."""
    site = module.removesuffix("_last")
    return np.asarray((seen.window if site == module else seen.last)[site])[:, layer]


def unusable(acts: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Why activations [N, width] cannot be measured, for each family where they cannot."""
    reasons = {}
    for family, rows in acts.items():
        if len(rows) == 0:
            reasons[family] = f"no {family} prompts"
        elif not np.isfinite(rows).all():
            reasons[family] = f"activations of {family} prompts are not finite"
    return reasons


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


def deal(safe: int, unsafe: int, permutations: int, key: jax.Array) -> np.ndarray:
    """[permutations, safe + unsafe] bool: in each row, `safe` of the labels are safe, at random places."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return rng.permuted(np.tile(np.arange(safe + unsafe) < safe, (permutations, 1)), axis=1)


def relabelled(pooled: np.ndarray, is_safe: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Separation, spread and distance of the means of rows [N, F], each [P], for labels [P, N].

    All labellings at once, in the precision of `pooled`.
    """
    centred = pooled - pooled.mean(0)
    labels = is_safe.astype(pooled.dtype)
    count, count_safe = len(pooled), labels.sum(axis=1, keepdims=True)
    count_unsafe = count - count_safe
    # About the pooled mean the two sums of rows are opposite, so one of them tells both means.
    sums, gap = labels @ centred, 1 / count_safe + 1 / count_unsafe
    along, size = sums @ centred.T, np.sum(sums**2, axis=1, keepdims=True)
    squares = np.sum(centred**2, axis=1)
    to_safe, to_unsafe = (
        np.sqrt(np.maximum(squares - 2 / n * along + size / n**2, 0)) for n in (count_safe, -count_unsafe)
    )
    separations = np.sum((to_unsafe - to_safe) * (labels * gap - 1 / count_unsafe), axis=1)
    within = np.maximum(squares.sum() - (size * gap)[:, 0], 0)
    return separations, np.sqrt(within / count), np.sqrt(size[:, 0]) * gap[:, 0]


def row(metric: str, value: float, n: int, why: str | None, **at: Any) -> Row:
    """A row that says `why` its value is missing, where it is not finite."""
    return Row(metric, float(value), n, missing=None if np.isfinite(value) else why, **at)


def per_prompt(metric: str, values: np.ndarray, why: str | None, **at: Any) -> Result:
    """Samples, or if any of `values` [N] is not finite or there are none, the row that says `why`."""
    if len(values) and np.isfinite(values).all():
        return Samples(metric, values, **at)
    return row(metric, np.nan, len(values), why, **at)


def of_successful(metric: str, values: np.ndarray, complied: np.ndarray, why: str | None, **at: Any) -> Row:
    """The mean of `values` [N] over the prompts that were complied with [N]: of a jailbreak, its successes."""
    chosen = values[complied]
    mean = float(np.mean(chosen)) if len(chosen) else np.nan
    return row(metric, mean, len(chosen), why or "no success", **at)


def measure(subject: Subject, config: ClustersConfig) -> list[Result]:
    """At each of MODULES, per layer: tau of each family, how far the clusters are apart, and the null of that.

    `tau_successful` is over the prompts that were complied with: of a jailbreak, the successful attacks. `tau_group`
    is over those with a letter from the concept group `index`, from 1 (cf. Figs. A.29-30); a text of several groups
    counts in each, and the family's `tau` is what a group that makes no difference would have.
    """
    seen = subject.observations
    sizes = len(seen["safe"].complied), len(seen["unsafe"].complied)
    # The same relabellings everywhere: what is compared between layers has the same null.
    is_safe = deal(*sizes, config.permutations, fold(subject.key, "clusters"))
    results: list[Result] = []
    for module in MODULES:
        for layer in range(subject.model.layers):
            where: dict[str, Any] = {"layer": layer + 1, "module": module}
            acts = {family: activations(of, module, layer) for family, of in seen.items()}
            missing = unusable(acts)
            without = missing.get("safe", missing.get("unsafe"))
            results += _apart(acts["safe"], acts["unsafe"], is_safe, without, where)
            means = None if without else (acts["safe"].mean(0), acts["unsafe"].mean(0))
            for family, of in seen.items():
                known = None if family in missing else means
                why, at = without or missing.get(family), {"family": family, **where}
                values = tau(acts[family], *known).astype(float) if known else np.full(len(acts[family]), np.nan)
                results += _taus(values, of.complied, why, at)
                results += _by_group(values, subject.groups.get(family), why, at)
    return results


def _taus(values: np.ndarray, complied: np.ndarray, why: str | None, at: dict[str, Any]) -> list[Result]:
    deviation = values.std(ddof=1) if len(values) > 1 else np.nan
    return [
        per_prompt("tau", values, why, **at),
        row("tau_sd", deviation, len(values), why or "one prompt has no spread", **at),
        of_successful("tau_successful", values, complied, why, **at),
    ]


def _by_group(values: np.ndarray, groups: np.ndarray | None, why: str | None, at: dict[str, Any]) -> list[Result]:
    """The mean of `values` [N] over the prompts of each of `groups` [N, groups]; no rows where these are not known."""
    results: list[Result] = []
    for i, chosen in enumerate(() if groups is None else groups.T):
        mean = values[chosen].mean() if chosen.any() else np.nan
        because = why or "no prompt of the group"
        results.append(row("tau_group", mean, int(chosen.sum()), because, index=i + 1, **at))
    return results


def _apart(
    safe: np.ndarray, unsafe: np.ndarray, is_safe: np.ndarray, why: str | None, where: dict[str, Any]
) -> list[Result]:
    null = dict.fromkeys(("separation", "separation_scaled", "mean_distance"), np.full(len(is_safe), np.nan))
    measured = dict.fromkeys((*null, "spread"), np.nan)
    if not why:
        pooled = np.concatenate([safe, unsafe])
        null["separation"], within, null["mean_distance"] = relabelled(pooled, is_safe)
        measured["separation"], measured["spread"] = separation(safe, unsafe), spread(safe, unsafe)
        measured["mean_distance"] = float(np.linalg.norm(safe.mean(0) - unsafe.mean(0)))
        if measured["spread"] > ROUNDING * np.sqrt(np.mean(np.sum(pooled**2, axis=1))) and within.min() > 0:
            measured["separation_scaled"] = measured["separation"] / measured["spread"]
            null["separation_scaled"] = null["separation"] / within
    why = why or "the clusters have no spread"
    results: list[Result] = [row(metric, v, len(safe) + len(unsafe), why, **where) for metric, v in measured.items()]
    for metric, values in null.items():
        summary = {"permuted": np.mean(values), "permuted_high": np.quantile(values, 0.975)}
        results += [row(f"{metric}_{name}", float(v), len(values), why, **where) for name, v in summary.items()]
    return results
