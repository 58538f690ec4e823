"""Which part of dW carries refusal: keep it alone, or take it away, and see (cf. arXiv 2407.10264, Eq. A.3).

Matrices act from the left here as in `analysis/nullspace.py`.
"""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from analysis.chance import random_frames
from analysis.edit import Kind, Label, Made, Weights, made_of
from analysis.edits.settings import InterventionsConfig
from analysis.nullspace import MATRICES, layer_of, part
from analysis.rows import Subject
from analysis.subspaces import column_basis
from models.transformer import Params
from models.weights import flatten, unflatten
from synth.keys import fold

PARTS = ("attention", "mlp", "embeddings")


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


def pieces(
    change: np.ndarray, untuned: np.ndarray, config: InterventionsConfig, key: jax.Array
) -> Iterator[tuple[Label, np.ndarray]]:
    """Parts of dW = `change` [m, n], each with its control; a control comes once per draw."""
    m, n = change.shape
    basis = column_basis(untuned, config.rank_share)
    parts = split_by(change, basis)
    frames = random_frames(m, basis.shape[1], config.draws, fold(key, "columns"))
    by_chance = [split_by(change, frame) for frame in frames]
    for i, (name, control) in enumerate((("only", "random"), ("without", "without random"))):
        yield Label(f"{name} columns"), parts[i]
        for random in by_chance:
            yield Label(f"{control} columns"), random[i]
            yield Label(f"{control} columns scaled"), _to_norm(random[i], parts[i])
    for k in config.top:
        yield Label("without top", k), without_top(change, k)
        for frame in random_frames(n, min(k, n), config.draws, fold(key, "rows", k)):
            yield Label("without random", k), without(change, frame)


def _to_norm(matrix: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`matrix` scaled to the norm of `other`; zero stays zero."""
    norm = np.linalg.norm(matrix)
    return matrix * (np.linalg.norm(other) / norm if norm > 0 else 0.0)


def edits(subject: Subject, config: InterventionsConfig) -> Iterator[Made[Weights]]:
    """only X, without X  dW in one part of the model or one layer, and in all but that part

    With the matrix as module, W_in or W_out, the rest of the model untuned, so that the whole is `only` of it:
    only columns      the part of dW inside the column space of the untuned matrix
    without columns   the part outside, in its left null space
    without top       dW without as many of its top right singular directions as `strength` says
    random, in their place: a random subspace of as many dimensions, as it is and scaled so that the part of dW
    has the norm of the part that it is the control of.
    """
    kept = partial(made_of, subject.model, only, subject.reference, subject.params)
    for where in (*PARTS, *MATRICES):
        yield Made(Label("only", module=where), partial(kept, where))
    for layer in range(1, subject.model.layers + 1):
        yield Made(Label("only", layer=layer), partial(kept, f"layer {layer}"))
    removed = partial(made_of, subject.model, only, subject.params, subject.reference)
    for where in PARTS:
        yield Made(Label("without", module=where), partial(removed, where))
    for module in config.matrices:
        yield from _of_matrix(subject, config, module)


def _of_matrix(subject: Subject, config: InterventionsConfig, module: str) -> Iterator[Made[Weights]]:
    before, after = flatten(subject.reference), flatten(subject.params)
    matrices = {name: np.asarray(before[name], float).T for name in before if name.endswith(f".mlp.{module}")}
    key = fold(subject.key, "interventions", module)
    by_layer = [
        pieces(np.asarray(after[name], float).T - matrix, matrix, config, fold(key, layer))
        for layer, (name, matrix) in enumerate(matrices.items())
    ]
    for found in zip(*by_layer, strict=True):
        weights = {
            name: (matrix + change).T.astype(before[name].dtype)
            for (name, matrix), (_, change) in zip(matrices.items(), found, strict=True)
        }
        make = partial(made_of, subject.model, unflatten, {**before, **weights})
        yield Made(found[0][0]._replace(module=module), make)


KIND = Kind(
    __name__,
    "interventions",
    edits,
    controls={
        "only columns": "random columns scaled",
        "without columns": "without random columns scaled",
        "without top": "without random",
    },
)
