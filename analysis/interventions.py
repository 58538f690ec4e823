"""Which part of dW, or of an activation, carries refusal: change it alone, and see (arXiv 2407.10264, Eq. A.3).

Matrices act from the left here as in `analysis/nullspace.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.chance import random_frames, random_units
from analysis.nullspace import MATRICES, column_basis, layer_of, part, unit
from analysis.observe import LAST
from analysis.rows import Result, Subject
from analysis.scores import Scores, few_at_once, judge, results_of, scores, stacked
from models.fork import fork
from models.taps import capture, edit
from models.transformer import ModelConfig, Params
from models.weights import flatten, unflatten
from synth.keys import fold
from synth.lookup import split_name
from synth.sequences import Prompts
from synth.settings import require, require_among, require_positive

PARTS = ("attention", "mlp", "embeddings")


@dataclass(unsafe_hash=True)
class InterventionsConfig:
    """Settings of the interventions."""

    prompts: int = 64
    """Prompts of each family that every changed model is tried on; patches on half of all at most."""
    scan_prompts: int = 128
    """Prompts of each family whose activations and Lipschitzness are measured under multiples of dW."""
    families: tuple[str, ...] | None = ("safe", "unsafe")
    """Families that parts of dW and patches are tried on, null for all of them; multiples of dW are tried on all."""
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    """Multiples of dW."""
    matrices: tuple[str, ...] = ("W_in",)
    """MLP matrices, W_in or W_out, whose dW is taken apart, each alone."""
    top: tuple[int, ...] = (1, 2, 4)
    """How many right singular vectors of dW are removed."""
    rank_share: float = 0.99
    """Share of the squared Frobenius norm that the empirical rank must hold."""
    site: str = "resid_post"
    """Where the activation is patched."""
    draws: int = 1
    """Random splits, directions and axes in each layer behind the controls."""

    def __post_init__(self) -> None:
        self.alphas, self.matrices, self.top = tuple(self.alphas), tuple(self.matrices), tuple(self.top)
        require_positive(self, "prompts", "scan_prompts", "draws")
        if self.families is not None:
            self.families = tuple(self.families)
            require(len(self.families) > 0, "families", "[]", "must name a family", "set [safe,unsafe]")
            for name in self.families:
                split_name(name, "families")
        require(
            {0.0, 1.0} <= set(self.alphas),
            "alphas",
            list(self.alphas),
            "must contain 0 and 1, which the others are compared with",
            "add 0 and 1",
        )
        require(0 < self.rank_share <= 1, "rank_share", self.rank_share, "must be in (0, 1]", "set 0.99")
        require(min(self.top, default=1) >= 1, "top", list(self.top), "must be at least 1 each", "set [1,2,4]")
        require(
            set(self.matrices) <= set(MATRICES),
            "matrices",
            list(self.matrices),
            f"must be among {', '.join(MATRICES)}",
            "set [W_in]",
        )
        require_among(self, "site", LAST)


def only(untuned: Params, tuned: Params, where: str) -> Params:
    """`untuned` with dW in one place; with the arguments swapped, `tuned` without dW there.

    `where` is attention, mlp, norms or embeddings, a layer ("layer 1" is the first), or the name
    of a weight such as W_in. Raises ValueError for a place that has no weights.
    """
    before, after = flatten(untuned), flatten(tuned)
    chosen = {name: after[name] for name in before if where in _places(name)}
    if not chosen:
        known = sorted({place for name in before for place in _places(name)})
        raise ValueError(f"where={where!r}: must be a place that has weights; choose from {', '.join(known)}")
    return unflatten({**before, **chosen})


def _places(name: str) -> set[str]:
    layer = layer_of(name)
    return {part(name), name.split(".")[-1]} | (set() if layer is None else {f"layer {layer + 1}"})


def split(change: np.ndarray, untuned: np.ndarray, rank_share: float = 0.99) -> tuple[np.ndarray, np.ndarray]:
    """(P dW, (I - P) dW) for dW = `change` [m, n], P projecting on the column space of `untuned` [m, n]
    up to its empirical rank."""
    return split_by(change, column_basis(untuned, rank_share))


def split_by(change: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`change` [m, n] inside and outside the span of the orthonormal columns of `basis` [m, r]."""
    inside = basis @ (basis.T @ change)
    return inside, change - inside


def without(change: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """`change` [m, n] made to map the orthonormal columns of `directions` [n, k] to 0."""
    return change - (change @ directions) @ directions.T


def without_top(change: np.ndarray, k: int) -> np.ndarray:
    """`change` [m, n] without its top k right singular directions."""
    return without(change, np.linalg.svd(change, full_matrices=False)[2][:k].T)


class _Place(NamedTuple):
    intervention: str
    strength: float | None = None
    layer: int | None = None
    module: str | None = None


def pieces(
    change: np.ndarray, untuned: np.ndarray, config: InterventionsConfig, key: jax.Array
) -> Iterator[tuple[_Place, np.ndarray]]:
    """Parts of dW = `change` [m, n], each with its control; a control comes once per draw."""
    m, n = change.shape
    basis = column_basis(untuned, config.rank_share)
    parts = split_by(change, basis)
    frames = random_frames(m, basis.shape[1], config.draws, fold(key, "columns"))
    by_chance = [split_by(change, frame) for frame in frames]
    for i, (name, control) in enumerate((("only", "random"), ("without", "without random"))):
        yield _Place(f"{name} columns"), parts[i]
        for random in by_chance:
            yield _Place(f"{control} columns"), random[i]
            yield _Place(f"{control} columns scaled"), _to_norm(random[i], parts[i])
    for k in config.top:
        yield _Place("without top", k), without_top(change, k)
        for frame in random_frames(n, min(k, n), config.draws, fold(key, "rows", k)):
            yield _Place("without random", k), without(change, frame)


def _to_norm(matrix: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`matrix` scaled to the norm of `other`; zero stays zero."""
    norm = np.linalg.norm(matrix)
    return matrix * (np.linalg.norm(other) / norm if norm > 0 else 0.0)


def with_coordinate(x: jax.Array, axis: jax.Array, values: jax.Array, where: jax.Array) -> jax.Array:
    """`x` [..., F] with its coordinate along the unit vector `axis` [F] set to `values` [...] where `where` [...]."""
    shift = jnp.where(where, values - x @ axis, 0)
    return x + shift[..., None] * jnp.broadcast_to(axis, x.shape)


@partial(jax.jit, static_argnames=("model", "site"))
def coordinates(model: ModelConfig, params: Params, prompts: Prompts, site: str, axes: jax.Array) -> jax.Array:
    """[families, N, S, L, A] the activation at `site` of each layer along its unit vectors `axes` [L, A, F],
    at the S places of `prompts` and both responses as a `Fork`."""

    def of_piece(prompts: Prompts) -> jax.Array:
        names, forked = _sites(model, site), fork(model, *prompts)
        seen = capture(model, params, forked.tokens, names, forked.layout)
        return jnp.stack([seen[name] @ axes[i].T for i, name in enumerate(names)], axis=-2)

    found: jax.Array = few_at_once(of_piece, prompts, prompts)
    return found


@partial(jax.jit, static_argnames=("model", "site"))
def patched(
    model: ModelConfig, params: Params, prompts: Prompts, site: str, axes: jax.Array, values: jax.Array, at: Any
) -> Scores:
    """The model with its coordinate along `axes` [L, F] set to `values` [families, N, S, L], in the layers
    `at` [L], at the last position of the prompt and all of the response."""

    def of_piece(piece: tuple[Prompts, jax.Array]) -> Scores:
        prompts, values = piece
        forked = fork(model, *prompts)
        late = forked.layout.positions >= prompts.complying.go[:, None]
        edits = {
            name: partial(with_coordinate, axis=axes[i], values=values[..., i], where=late & at[i])
            for i, name in enumerate(_sites(model, site))
        }
        return judge(edit(model, params, forked.tokens, edits, forked.layout), forked)

    return few_at_once(of_piece, prompts, (prompts, values))


def _sites(model: ModelConfig, site: str) -> list[str]:
    return [f"blocks.{layer}.{site}" for layer in range(model.layers)]


def measure(subject: Subject, config: InterventionsConfig) -> list[Result]:
    """Behaviour of `config.families` under every change but multiples of dW (`analysis/multiples.py`), on the same
    prompts as these; no rows for the untouched model.

    only X, without X dW in one part of the model, and in all but that part
    With module W_in or W_out, the rest of the model untuned, so that the whole is `only W_in`:
    only columns      the part of dW inside the column space of the untuned matrix
    without columns   the part outside, in its left null space
    without top K     dW without its top K right singular directions
    random, in their place: a random subspace of as many dimensions, as it is and scaled so that
    the part of dW has the norm of the part that it is the control of.
    With a layer:
    patch to tuned    the untuned model, its coordinate along the axis from the unsafe to the safe mean of
                      the tuned one's activations, on the prompts that are not tried, set to the tuned one's
    patch to untuned  the tuned model, the same coordinate set to the untuned one's
    patch random to   the same along random axes
    """
    if subject.untouched:
        return []
    families = [name for name in subject.prompts if config.families is None or name in config.families]
    prompts = stacked(subject.prompts, config.prompts, families)
    found: dict[_Place, list[Scores]] = {}
    for place, params in _parts(subject, config):
        found.setdefault(place, []).append(scores(subject.model, params, prompts))
    for place, seen in _patches(subject, config, prompts):
        found.setdefault(place, []).append(seen)
    return [r for place, draws in found.items() for r in results_of(families, draws, **place._asdict())]


def _parts(subject: Subject, config: InterventionsConfig) -> Iterator[tuple[_Place, Params]]:
    untuned, tuned = subject.reference, subject.params
    for where in (*PARTS, *MATRICES):
        yield _Place("only", module=where), only(untuned, tuned, where)
    for layer in range(1, subject.model.layers + 1):
        yield _Place("only", layer=layer), only(untuned, tuned, f"layer {layer}")
    for where in PARTS:
        yield _Place("without", module=where), only(tuned, untuned, where)
    before, after = flatten(untuned), flatten(tuned)
    for module in config.matrices:
        matrices = {name: np.asarray(before[name], float).T for name in before if name.endswith(f".mlp.{module}")}
        key = fold(subject.key, "interventions", module)
        by_layer = [
            pieces(np.asarray(after[name], float).T - matrix, matrix, config, fold(key, layer))
            for layer, (name, matrix) in enumerate(matrices.items())
        ]
        for parts in zip(*by_layer, strict=True):
            weights = {
                name: (matrix + change).T.astype(before[name].dtype)
                for (name, matrix), (_, change) in zip(matrices.items(), parts, strict=True)
            }
            yield parts[0][0]._replace(module=module), unflatten({**before, **weights})


def _patches(subject: Subject, config: InterventionsConfig, prompts: Prompts) -> Iterator[tuple[_Place, Scores]]:
    model, site = subject.model, config.site
    safe, unsafe = (np.asarray(subject.observations[family].last[site], float) for family in ("safe", "unsafe"))
    # The axis is of other prompts than those that it is tried on.
    tried = min(prompts.complying.go.shape[1], len(safe) // 2, len(unsafe) // 2)
    prompts = jax.tree.map(lambda x: x[:, :tried], prompts)
    means = safe[tried:].mean(0) - unsafe[tried:].mean(0)
    random = random_units(means.shape[1], config.draws * model.layers, fold(subject.key, "interventions", "axes"))
    # [A, L, F]: the cluster axis of each layer, then random ones.
    axes = jnp.asarray(np.concatenate([[unit(means)], random.reshape(-1, *means.shape)]), jnp.float32)
    models = {"tuned": subject.params, "untuned": subject.reference}
    for goal, other in (("tuned", "untuned"), ("untuned", "tuned")):
        values = coordinates(model, models[goal], prompts, site, axes.swapaxes(0, 1))
        for i in range(len(axes)):
            for layer in range(model.layers):
                at = np.arange(model.layers) == layer
                seen = patched(model, models[other], prompts, site, axes[i], values[..., i], at)
                yield _Place(f"patch {'random ' if i else ''}to {goal}", None, layer + 1, site), seen
