"""Subspaces of a matrix and of activations: their ranks, bases and angles (arXiv 2407.10264, App. B)."""

import numpy as np


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


def unit(activations: np.ndarray) -> np.ndarray:
    """The rows of `activations` [N, n], each scaled to length 1; zero stays zero."""
    norms = np.linalg.norm(activations, axis=-1, keepdims=True)
    return np.divide(activations, norms, out=np.zeros_like(activations), where=norms > 0)


def outside(matrix: np.ndarray, basis: np.ndarray) -> float:
    """||(I - P) X||_F / ||X||_F for X = `matrix` [m, n], not zero, and P projecting on the span of `basis` [m, r].

    `sines` of X's left singular vectors, each weighted by its share of X's squared norm, as a root mean square: the
    many small singular values of an optimiser's noise count for as little as they do in X.
    """
    return float(np.linalg.norm(matrix - basis @ (basis.T @ matrix)) / np.linalg.norm(matrix))


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
