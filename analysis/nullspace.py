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

from analysis.clusters import row, unusable
from analysis.rows import Result, Row, Samples, Subject
from models.weights import flatten
from synth.keys import fold
from synth.settings import require, require_positive

MATRICES = {"W_in": "mlp.in", "W_out": "mlp.post"}
"""The MLP's matrices, and the site of what each acts on."""

ZERO = "dW is zero"


@dataclass(unsafe_hash=True)
class NullspaceConfig:
    """Settings of the null-space measurements."""

    rank_share: float = 0.99
    """Share of the squared Frobenius norm that the empirical rank must hold."""
    directions: int = 15
    """Right singular vectors of dW on which activations are projected."""
    neurons: int = 32
    """Hidden neurons reported, those most aligned with dW's first right singular vector."""
    angle_prompts: int = 128
    """Prompts of a family whose activations' span is compared before and after; its control needs as many others."""
    draws: int = 100
    """Random frames behind the controls."""

    def __post_init__(self) -> None:
        require_positive(self, "directions", "neurons", "angle_prompts", "draws")
        require(0 < self.rank_share <= 1, "rank_share", self.rank_share, "must be in (0, 1]", "set 0.99")


def empirical_rank(singular_values: np.ndarray, share: float = 0.99) -> int:
    """Fewest leading singular values [r] whose squares sum to `share` of all; 0 for a zero matrix."""
    energy = np.cumsum(np.square(singular_values))
    if energy[-1] == 0:
        return 0
    return int(np.searchsorted(energy, share * energy[-1]) + 1)


def effective_rank(singular_values: np.ndarray) -> float:
    """exp of the entropy of the singular values [r] scaled to sum 1 (Roy and Vetterli 2007); not of a zero matrix."""
    shares = singular_values / singular_values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def stable_rank(singular_values: np.ndarray) -> float:
    """||W||_F^2 / ||W||_2^2 from the singular values [r], largest first; not of a zero matrix."""
    return float(np.sum(np.square(singular_values / singular_values[0])))


def column_basis(matrix: np.ndarray, share: float = 0.99) -> np.ndarray:
    """[m, r] the leading left singular vectors of `matrix` [m, n] up to its empirical rank r."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return left[:, : empirical_rank(values, share)]


def span(activations: np.ndarray, share: float = 0.99) -> np.ndarray:
    """[F, r] basis of what the rows of `activations` [N, F] span, up to their empirical rank r.

    The column space of the paper's Fo (app. C.1), a column of which is a prompt's activation.
    By the smaller of the two Gram matrices: an SVD of so many rows takes ten times as long.
    """
    wide = len(activations) < activations.shape[1]
    squares, vectors = np.linalg.eigh(activations @ activations.T if wide else activations.T @ activations)
    values = np.sqrt(np.maximum(squares[::-1], 0.0))
    vectors = vectors[:, ::-1][:, : empirical_rank(values, share)]
    return activations.T @ vectors / values[: vectors.shape[1]] if wide else vectors


def sines(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """[k] sine of the angle of each unit column of `vectors` [m, k] to the span of `basis` [m, r].

    0 inside the span, 1 orthogonal to it: the norm of the component outside.
    """
    outside = vectors - basis @ (basis.T @ vectors)
    return np.clip(np.linalg.norm(outside, axis=0), 0.0, 1.0)


def random_frames(size: int, vectors: int, draws: int, key: jax.Array) -> np.ndarray:
    """[draws, size, vectors] orthonormal columns in uniformly random position."""
    return np.linalg.qr(_generator(key).standard_normal((draws, size, vectors)))[0]


def random_sines(size: int, rank: int, vectors: int, draws: int, key: jax.Array) -> np.ndarray:
    """[draws, vectors] `sines` of random frames [size, vectors] to a subspace of dimension `rank`.

    Exact, and without the frames. A frame is G R^-1 with G normal and R^T R = G^T G, and the
    angles depend only on the Gram matrices of the parts of G inside and outside the subspace.
    Those are Wishart, with triangular roots that can be drawn directly (Bartlett 1933).
    """
    rng = _generator(key)

    def root(degrees: int) -> np.ndarray:
        width = min(vectors, degrees)
        lower, i = np.tril(rng.standard_normal((draws, vectors, width)), -1), np.arange(width)
        lower[:, i, i] = np.sqrt(rng.chisquare(degrees - i, (draws, width)))
        return lower

    inside, outside = root(rank), root(size - rank)
    gram = inside @ inside.swapaxes(1, 2) + outside @ outside.swapaxes(1, 2)
    return np.clip(np.linalg.norm(np.linalg.solve(np.linalg.cholesky(gram), outside), axis=2), 0.0, 1.0)


def random_units(size: int, draws: int, key: jax.Array) -> np.ndarray:
    """[draws, size] uniformly random unit vectors: V^T a of any unit vector a for random orthogonal V."""
    normal = _generator(key).standard_normal((draws, size))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def unit(activations: np.ndarray) -> np.ndarray:
    """The rows of `activations` [N, n], each scaled to length 1; zero stays zero."""
    norms = np.linalg.norm(activations, axis=-1, keepdims=True)
    return np.divide(activations, norms, out=np.zeros_like(activations), where=norms > 0)


def projections(matrix: np.ndarray, activations: np.ndarray, directions: int) -> np.ndarray:
    """[N, k] sigma_i v_i . a for the top k right singular vectors of `matrix` [m, n].

    Each row a of `activations` [N, n] is scaled to unit length first. The sign of a singular
    vector is arbitrary, so only the magnitude means anything across seeds.
    """
    _, values, right = np.linalg.svd(matrix, full_matrices=False)
    return unit(activations) @ (right[:directions].T * values[:directions])


def by_alignment(change: np.ndarray) -> np.ndarray:
    """[m] the rows of dW = `change` [m, n], by |cos| with its first right singular vector, largest first."""
    first = np.linalg.svd(change, full_matrices=False)[2][0]
    norms = np.linalg.norm(change, axis=1)
    cosines = np.divide(np.abs(change @ first), norms, out=np.zeros_like(norms), where=norms > 0)
    return np.argsort(-cosines, kind="stable")


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
    acts = {
        family: np.asarray(seen.last[MATRICES[module]][:, layer], float)
        for family, seen in subject.observations.items()
    }
    unknown = unusable(acts)
    inputs = {family: unit(rows) for family, rows in acts.items() if family not in unknown}
    key = fold(subject.key, "nullspace", layer, module)
    where: dict[str, Any] = {"layer": layer + 1, "module": module}
    results = _column_space(untuned, change, config, fold(key, "columns"), where)
    results += _row_space(change, inputs, config, fold(key, "rows"), where)
    metrics = ["projection_total", "projection_total_random"]
    if module == "W_in":
        results += _neurons(change, inputs, config, where)
        metrics.append("neuron_effect_mean")
    return results + [r for name, why in unknown.items() for r in _absent({"family": name, **where}, *metrics, why=why)]


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


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
        return results + _absent(where, "effective_rank", "stable_rank", "sine_mean", "sine_random_mean", "sine_excess")
    measured = sines(left[:, :count], basis)
    null = np.sort(random_sines(len(basis), basis.shape[1], count, config.draws, key), axis=1)
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    summary = {
        "sine_mean": measured.mean(),
        "sine_random_mean": null.mean(),
        "sine_excess": measured.mean() - null.mean(),
    }
    curves = {
        "sine": measured,
        "sine_sorted": np.sort(measured),
        "sine_random_sorted": null.mean(0),
        "sine_random_sorted_low": low,
        "sine_random_sorted_high": high,
    }
    results.append(Row("effective_rank", effective_rank(values), 1, **where))
    results.append(Row("stable_rank", stable_rank(values), 1, **where))
    results += [Row(metric, float(value), count, **where) for metric, value in summary.items()]
    for metric, curve in curves.items():
        n = config.draws if "random" in metric else 1
        results += [Row(metric, float(v), n, index=i + 1, **where) for i, v in enumerate(curve)]
    return results


def _row_space(
    change: np.ndarray, inputs: dict[str, np.ndarray], config: NullspaceConfig, key: jax.Array, where: dict[str, Any]
) -> list[Result]:
    """Effects of dW on unit inputs, and of a dW with the same singular values and random right vectors.

    The latter are the same for all inputs, since V^T a is a random unit vector whatever a is.
    """
    results: list[Result] = []
    if not change.any() or not inputs:
        for family in inputs:
            results += _absent({"family": family, **where}, "projection_total", "projection_total_random")
        return results
    values = np.linalg.svd(change, compute_uv=False)
    coordinates = random_units(change.shape[1], config.draws, key)
    total_null = float(np.linalg.norm(coordinates[:, : len(values)] * values, axis=1).mean())
    null = np.abs(coordinates).mean() * values
    along = projections(change, np.concatenate(list(inputs.values())), config.directions)
    cuts = np.cumsum([len(units) for units in inputs.values()])[:-1]
    for (family, units), columns in zip(inputs.items(), np.split(along, cuts), strict=True):
        at: dict[str, Any] = {"family": family, **where}
        results.append(Samples("projection_total", np.linalg.norm(units @ change.T, axis=-1), **at))
        results.append(Row("projection_total_random", total_null, config.draws, **at))
        size = np.abs(columns).mean(0)
        for i, column in enumerate(columns.T):
            results.append(Samples("projection", column, index=i + 1, **at))
            results.append(Row("projection_abs", float(size[i]), len(column), index=i + 1, **at))
            results.append(Row("projection_abs_random", float(null[i]), config.draws, index=i + 1, **at))
    return results


def _neurons(
    change: np.ndarray, inputs: dict[str, np.ndarray], config: NullspaceConfig, where: dict[str, Any]
) -> list[Result]:
    """Mean |dW a| of the hidden neurons most aligned with v_1 (cf. Fig. A.38), and of all: `neuron_effect_mean`."""
    order = by_alignment(change)[: config.neurons]
    results: list[Result] = []
    for family, units in inputs.items():
        at: dict[str, Any] = {"family": family, **where}
        if not change.any():
            results += _absent(at, "neuron_effect_mean")
            continue
        effect = np.abs(units @ change.T).mean(0)
        results.append(Row("neuron_effect_mean", float(effect.mean()), len(units), **at))
        results += [Row("neuron_effect", float(v), len(units), index=i + 1, **at) for i, v in enumerate(effect[order])]
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
