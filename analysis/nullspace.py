"""Where in weight space a tuned model changed (arXiv 2407.10264, sec. 4).

Matrices here act from the left, y = W x with W [m, n], as the paper writes them, and are the
transposes of the stored ones: for the first MLP matrix `W_in` m is the hidden width and n the
width of the residual stream, for the second one `W_out` the other way round.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from analysis.chance import expected_length, expected_outside, expected_sine, random_sines, root_mean_beta
from analysis.clusters import of_successful, row, unusable
from analysis.rows import Result, Row, Samples, Subject
from analysis.subspaces import (
    by_alignment,
    column_basis,
    effective_rank,
    empirical_rank,
    outside,
    sines,
    span,
    stable_rank,
    unit,
)
from models.weights import flatten
from synth.keys import fold
from synth.settings import require, require_positive

MATRICES = {"W_in": "mlp.in", "W_out": "mlp.post"}
"""The MLP's matrices, and the site of what each acts on."""

ZERO = "dW is zero"

COLUMNS = (
    "effective_rank",
    "stable_rank",
    "sine_mean",
    "sine_random_mean",
    "sine_excess",
    "outside_energy",
    "outside_energy_random",
    "outside_top",
    "outside_top_random",
)
"""What a dW of zero has no value of, per layer and matrix."""

ROWS = (
    "projection_total",
    "projection_total_random",
    "projection_total_successful",
    "projection_rms",
    "projection_top",
    "projection_top_random",
)
"""Likewise, per family too."""

NEURONS = ("neuron_effect_mean", "neuron_sample")
"""Likewise, of W_in."""


@dataclass(unsafe_hash=True)
class NullspaceConfig:
    """Settings of the null-space measurements."""

    rank_share: float = 0.99
    """Share of the squared Frobenius norm that the empirical rank must hold."""
    directions: int = 15
    """Right singular vectors of dW on which activations are projected (the paper's 15)."""
    neurons: int = 32
    """Hidden neurons reported, those most aligned with dW's first right singular vector."""
    angle_prompts: int = 128
    """Prompts of a family whose activations' span is compared before and after; its control needs as many others."""
    draws: int = 100
    """Random frames behind the control of the sorted sines; the other controls are exact."""

    def __post_init__(self) -> None:
        require_positive(self, "directions", "neurons", "angle_prompts", "draws")
        require(0 < self.rank_share <= 1, "rank_share", self.rank_share, "must be in (0, 1]", "set 0.99")


def part(name: str) -> str:
    """Which part of a model the weight of dotted name `name` belongs to."""
    parts = {".attn.": "attention", ".mlp.": "mlp", "ln": "norms"}
    return next((part for mark, part in parts.items() if mark in name), "embeddings")


def layer_of(name: str) -> int | None:
    """The layer, from 0, that the weight of dotted name `name` is in, if any."""
    return int(name.split(".")[1]) if name.startswith("blocks.") else None


def shares(sizes: dict[str, float], group: Callable[[str], Any]) -> dict[Any, float]:
    """The share of the sum of `sizes`, by weight's name, that each group of weights has."""
    found: dict[Any, float] = {}
    for name, size in sizes.items():
        found[group(name)] = found.get(group(name), 0.0) + size
    return {name: size / sum(sizes.values()) for name, size in found.items()}


def measure(subject: Subject, config: NullspaceConfig) -> list[Result]:
    """Where in the model dW is; per layer and MLP matrix, its column and row space; the angles between
    activations before and after. No rows for the untouched model, which has no dW."""
    if subject.untouched:
        return []
    results = _change_share(subject)
    for layer in range(subject.model.layers):
        for module in MATRICES:
            results += _matrix(subject, layer, module, config)
        results += _activation_angles(subject, layer, config)
    return results


def _matrix(subject: Subject, layer: int, module: str, config: NullspaceConfig) -> list[Result]:
    untuned, tuned = (
        np.asarray(params["blocks"][str(layer)]["mlp"][module], float).T
        for params in (subject.reference, subject.params)
    )
    change = tuned - untuned
    seen = subject.observations
    acts = {family: np.asarray(of.last[MATRICES[module]][:, layer], float) for family, of in seen.items()}
    missing = unusable(acts)
    inputs = {family: unit(rows) for family, rows in acts.items() if family not in missing}
    key = fold(subject.key, "nullspace", layer, module)
    where: dict[str, Any] = {"layer": layer + 1, "module": module}
    results = _column_space(untuned, change, config, fold(key, "columns"), where)
    metrics = (*ROWS, *NEURONS) if module == "W_in" else ROWS
    if change.any():
        complied = {family: seen[family].complied for family in inputs}
        results += _row_space(change, inputs, complied, config, where)
        if module == "W_in":
            results += _neurons(change, inputs, config, where)
    else:
        missing = dict.fromkeys(inputs, ZERO) | missing
    return results + [r for name, why in missing.items() for r in _absent({"family": name, **where}, *metrics, why=why)]


def _change_share(subject: Subject) -> list[Result]:
    """Shares of dW's squared norm; `change_share_even` is what a change by equally much everywhere would give."""
    before, after = (
        {name: np.asarray(array, float) for name, array in flatten(params).items()}
        for params in (subject.reference, subject.params)
    )
    change = {name: float(np.sum(np.square(after[name] - before[name]))) for name in after}
    parameters = {name: float(array.size) for name, array in after.items()}
    results: list[Result] = []
    for group in (part, layer_of):
        even = shares(parameters, group)
        found = shares(change, group) if any(change.values()) else dict.fromkeys(even, np.nan)
        for name, share in found.items():
            if name is None:
                continue
            where: dict[str, Any] = {"module": name} if group is part else {"layer": name + 1}
            results.append(Row("change_share", share, 1, **where, missing=ZERO if np.isnan(share) else None))
            results.append(Row("change_share_even", even[name], 1, **where))
    return results


def _column_space(
    untuned: np.ndarray, change: np.ndarray, config: NullspaceConfig, key: jax.Array, where: dict[str, Any]
) -> list[Result]:
    """dW's left singular vectors against the span of W's, each alike and by energy.

    `outside_top` is `outside_energy` of the leading vectors that hold half of dW's squared norm. Chance is a dW with
    random left singular vectors, in closed form: the mean of a sine, and the root mean square of what is by energy.
    """
    basis = column_basis(untuned, config.rank_share)
    left, values, _ = np.linalg.svd(change, full_matrices=False)
    count = empirical_rank(values, config.rank_share)
    sizes = {
        "rank_untuned": basis.shape[1],
        "rank_change": count,
        "relative_change": np.linalg.norm(change) / np.linalg.norm(untuned),
    }
    results: list[Result] = [Row(metric, float(value), 1, **where) for metric, value in sizes.items()]
    if count == 0:
        return results + _absent(where, *COLUMNS)
    measured = sines(left[:, :count], basis)
    size, rank = basis.shape
    by_chance = expected_sine(size, rank)
    null = np.sort(random_sines(size, rank, count, config.draws, key), axis=1)
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    top = empirical_rank(values, 0.5)
    leading = left[:, :top] * values[:top]
    summary = {
        "effective_rank": (effective_rank(values), 1),
        "stable_rank": (stable_rank(values), 1),
        "sine_mean": (measured.mean(), count),
        "sine_random_mean": (by_chance, 1),
        "sine_excess": (measured.mean() - by_chance, count),
        "outside_energy": (outside(change, basis), 1),
        "outside_energy_random": (expected_outside(size, rank), 1),
        "outside_top": (outside(leading, basis), top),
        "outside_top_random": (expected_outside(size, rank), 1),
    }
    curves = {
        "sine": (measured, 1),
        "sine_sorted": (np.sort(measured), 1),
        "sine_random_sorted": (null.mean(0), config.draws),
        "sine_random_sorted_low": (low, config.draws),
        "sine_random_sorted_high": (high, config.draws),
    }
    results += [Row(metric, float(value), n, **where) for metric, (value, n) in summary.items()]
    for metric, (curve, n) in curves.items():
        results += [Row(metric, float(v), n, index=i + 1, **where) for i, v in enumerate(curve)]
    return results


def _row_space(
    change: np.ndarray,
    inputs: dict[str, np.ndarray],
    complied: dict[str, np.ndarray],
    config: NullspaceConfig,
    where: dict[str, Any],
) -> list[Result]:
    """Effects of dW [m, n], not zero, on unit inputs, and of a dW with the same singular values and random right
    vectors: exact means, the same for all inputs, since V^T a is a random unit vector whatever a is.

    `projection_rms` is the root mean square over prompts of ||dW a|| sqrt(n) / ||dW||_F, for which chance is 1:
    E ||dW a||^2 = ||dW||_F^2 / n. `projection_top` is the length of the first `directions` projections together.
    """
    results: list[Result] = []
    size, most = change.shape[1], config.directions
    _, values, right = np.linalg.svd(change, full_matrices=False)
    null = root_mean_beta(1 / 2, (size - 1) / 2) * values
    total_null, top_null = (expected_length(of, size) for of in (values, values[:most]))
    for family, units in inputs.items():
        at: dict[str, Any] = {"family": family, **where}
        columns = units @ (right[:most].T * values[:most])
        totals = np.linalg.norm(units @ change.T, axis=-1)
        rms = np.sqrt(np.mean(totals**2) * size) / np.linalg.norm(change)
        results.append(Samples("projection_total", totals, **at))
        results.append(Row("projection_total_random", total_null, 1, **at))
        results.append(of_successful("projection_total_successful", totals, complied[family], None, **at))
        results.append(Row("projection_rms", float(rms), len(units), **at))
        results.append(Row("projection_top", float(np.linalg.norm(columns, axis=1).mean()), len(units), **at))
        results.append(Row("projection_top_random", top_null, 1, **at))
        sizes = np.abs(columns).mean(0)
        for i, column in enumerate(columns.T):
            results.append(Samples("projection", column, index=i + 1, **at))
            results.append(Row("projection_abs", float(sizes[i]), len(column), index=i + 1, **at))
            results.append(Row("projection_abs_random", float(null[i]), 1, index=i + 1, **at))
    return results


def _neurons(
    change: np.ndarray, inputs: dict[str, np.ndarray], config: NullspaceConfig, where: dict[str, Any]
) -> list[Result]:
    """Mean |dW a| of the hidden neurons most aligned with v_1 (cf. Fig. A.38), and of all: `neuron_effect_mean`.

    `neuron_sample` is dW a of those neurons for the family's first prompt alone, with its sign (cf. Figs. A.39-42).
    """
    order = by_alignment(change)[: config.neurons]
    results: list[Result] = []
    for family, units in inputs.items():
        at: dict[str, Any] = {"family": family, **where}
        effects = units @ change.T
        mean = np.abs(effects).mean(0)
        results.append(Row("neuron_effect_mean", float(mean.mean()), len(units), **at))
        for metric, by_neuron, n in (("neuron_effect", mean, len(units)), ("neuron_sample", effects[0], 1)):
            results += [Row(metric, float(v), n, index=i + 1, **at) for i, v in enumerate(by_neuron[order])]
    return results


def _absent(where: dict[str, Any], *metrics: str, why: str = ZERO) -> list[Result]:
    return [Row(metric, np.nan, 0, **where, missing=why) for metric in metrics]


def _activation_angles(subject: Subject, layer: int, config: NullspaceConfig) -> list[Result]:
    """Sines of what the tuned model's activations span to what the untuned one's do (Fig. A.16).

    The control `activation_angle_untuned` compares the untuned model with itself on as many other
    prompts: the angles that a finite sample makes without any tuning.
    """
    results: list[Result] = []
    for family, seen in subject.observations.items():
        before, after = (np.asarray(last["mlp.post"][:, layer], float) for last in (subject.before[family], seen.last))
        at: dict[str, Any] = {"family": family, "layer": layer + 1, "module": "mlp.post"}
        count = min(config.angle_prompts, len(before) // 2)
        why = unusable({family: np.concatenate([before, after])}).get(family)
        if why is None and min(count, np.abs(before[:count]).sum()) == 0:
            why = "activations before tuning are all zero" if count else "one prompt is too few to compare two halves"
        if why:
            results += _absent(at, "activation_angle_mean", "activation_angle_untuned_mean", why=why)
            continue
        basis = span(before[:count], config.rank_share)
        compared = {"activation_angle": after[:count], "activation_angle_untuned": before[count : 2 * count]}
        for metric, acts in compared.items():
            found = sines(span(acts, config.rank_share), basis)
            mean = found.mean() if len(found) else np.nan
            results.append(row(f"{metric}_mean", mean, len(found), "activations are all zero", **at))
            results += [Row(metric, float(v), count, index=i + 1, **at) for i, v in enumerate(found)]
    return results
