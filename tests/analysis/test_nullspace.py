"""Tests of `analysis/nullspace.py`: planted truths, and SciPy's angles."""

import jax
import numpy as np
import pytest
from scipy.linalg import subspace_angles

from analysis.nullspace import column_basis, empirical_rank, projections, random_frames, sines


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_empirical_rank_is_the_fewest_values_that_hold_the_share() -> None:
    assert empirical_rank(np.array([3.0, 4.0, 0.0])[::-1].copy(), 1.0) == 3
    assert empirical_rank(np.array([10.0, 1.0, 0.1]), 0.99) == 1
    assert empirical_rank(np.array([10.0, 1.1, 0.1]), 0.99) == 2
    assert empirical_rank(np.ones(100), 0.99) == 99
    assert empirical_rank(np.zeros(4)) == 0


def test_a_change_planted_inside_or_outside_the_column_space(rng: np.random.Generator) -> None:
    weights = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 20))
    full = np.linalg.svd(weights)[0]
    inside, outside = full[:, :6], full[:, 6:]
    basis = column_basis(weights, 1 - 1e-12)
    assert basis.shape == (40, 6)
    for columns, expected in ((inside, 0.0), (outside, 1.0)):
        change = columns @ rng.standard_normal((columns.shape[1], 20))
        vectors = column_basis(change, 1 - 1e-12)
        np.testing.assert_allclose(sines(vectors, basis), expected, atol=1e-7)


def test_one_sine_is_scipys_angle(rng: np.random.Generator) -> None:
    basis = np.linalg.qr(rng.standard_normal((12, 4)))[0]
    vector = np.linalg.qr(rng.standard_normal((12, 1)))[0]
    np.testing.assert_allclose(sines(vector, basis), np.sin(subspace_angles(vector, basis)), rtol=1e-10)


def test_random_frames_are_orthonormal_and_at_the_expected_angle(key: jax.Array) -> None:
    m, k = 64, 16
    frames = random_frames(m, 8, 200, key)
    np.testing.assert_allclose(np.einsum("qmi,qmj->qij", frames, frames), np.tile(np.eye(8), (200, 1, 1)), atol=1e-12)
    squares = [np.mean(sines(frame, np.eye(m)[:, :k]) ** 2) for frame in frames]
    # E sin^2 = 1 - k/m exactly; four standard errors of the 200 draws.
    assert abs(np.mean(squares) - (1 - k / m)) < 4 * np.std(squares) / np.sqrt(200)
    assert (random_frames(m, 8, 3, key) == random_frames(m, 8, 3, key)).all()


def test_projections_add_up_to_the_whole_effect(rng: np.random.Generator) -> None:
    change, acts = rng.standard_normal((30, 10)), rng.standard_normal((5, 10)) * 7
    unit = acts / np.linalg.norm(acts, axis=1, keepdims=True)
    along = projections(change, acts, 10)
    np.testing.assert_allclose(np.sum(along**2, axis=1), np.sum((unit @ change.T) ** 2, axis=1))
    _, values, right = np.linalg.svd(change, full_matrices=False)
    for i in range(3):
        np.testing.assert_allclose(np.abs(along[:, i]), np.abs(values[i] * unit @ right[i]))
