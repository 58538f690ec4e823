"""Tests of `analysis/chance.py`: closed forms against draws, SciPy's quadrature and cases known exactly."""

import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, ks_2samp

from analysis.chance import (
    expected_length,
    expected_outside,
    expected_sine,
    random_frames,
    random_sines,
    random_units,
    root_mean_beta,
)
from analysis.subspaces import outside, sines
from synth.keys import fold


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_random_frames_are_orthonormal_and_at_the_expected_angle(key: jax.Array) -> None:
    m, k = 64, 16
    frames = random_frames(m, 8, 200, key)
    np.testing.assert_allclose(np.einsum("qmi,qmj->qij", frames, frames), np.tile(np.eye(8), (200, 1, 1)), atol=1e-12)
    squares = [np.mean(sines(frame, np.eye(m)[:, :k]) ** 2) for frame in frames]
    # E sin^2 = 1 - k/m exactly; four standard errors of the 200 draws.
    assert abs(np.mean(squares) - (1 - k / m)) < 4 * np.std(squares) / np.sqrt(200)
    assert (random_frames(m, 8, 3, key) == random_frames(m, 8, 3, key)).all()


@pytest.mark.parametrize(("size", "rank", "vectors"), [(12, 5, 3), (12, 3, 5), (12, 10, 8), (6, 4, 6)])
def test_random_sines_are_distributed_as_those_of_random_frames(
    size: int, rank: int, vectors: int, key: jax.Array
) -> None:
    direct = random_sines(size, rank, vectors, 2000, key)
    frames = random_frames(size, vectors, 2000, fold(key, "frames"))
    by_frames = np.array([sines(frame, np.eye(size)[:, :rank]) for frame in frames])
    assert direct.shape == by_frames.shape
    # Of a frame jointly: the statistics depend on how its angles hang together.
    for statistic in (np.min, np.max, np.mean):
        assert ks_2samp(statistic(direct, axis=1), statistic(by_frames, axis=1)).pvalue > 1e-3


def test_random_sines_to_nothing_and_to_everything(key: jax.Array) -> None:
    np.testing.assert_allclose(random_sines(6, 0, 3, 4, key), 1)
    np.testing.assert_allclose(random_sines(6, 6, 3, 4, key), 0)


def test_random_units_are_what_random_right_vectors_make_of_any_input(key: jax.Array, rng: np.random.Generator) -> None:
    values, a = np.array([3.0, 1.0, 0.2]), rng.standard_normal(7)
    frames = random_frames(7, 3, 2000, fold(key, "frames"))
    effects = np.linalg.norm(np.einsum("dni,n->di", frames, a / np.linalg.norm(a)) * values, axis=1)
    direct = np.linalg.norm(random_units(7, 2000, key)[:, :3] * values, axis=1)
    assert ks_2samp(effects, direct).pvalue > 1e-3


@pytest.mark.parametrize(("size", "rank"), [(256, 60), (768, 170), (12, 5), (5, 4), (2, 1)])
def test_the_expected_sine_is_the_mean_over_a_beta_variable(size: int, rank: int, key: jax.Array) -> None:
    squared = beta((size - rank) / 2, rank / 2)
    by_quadrature = quad(lambda x: np.sqrt(x) * squared.pdf(x), 0, 1, points=[squared.mean()], limit=200)[0]
    assert expected_sine(size, rank) == pytest.approx(by_quadrature, rel=1e-6)
    drawn = random_sines(size, rank, 1, 4000, key)
    assert abs(drawn.mean() - expected_sine(size, rank)) < 4 * drawn.std() / np.sqrt(4000)


def test_sines_to_nothing_and_to_everything_are_exact() -> None:
    assert expected_sine(7, 0) == pytest.approx(1, abs=1e-12)
    assert expected_sine(7, 7) == expected_outside(7, 7) == 0
    assert expected_outside(7, 0) == 1
    # In a plane, the mean of |sin| over the circle; by energy the root of one half.
    assert expected_sine(2, 1) == pytest.approx(2 / np.pi)
    assert expected_outside(2, 1) == pytest.approx(np.sqrt(1 / 2))


@pytest.mark.parametrize("decay", [0.0, 0.3, 3.0])
def test_a_random_change_is_outside_as_expected(decay: float, key: jax.Array) -> None:
    """Whatever its singular values: the root mean square over draws."""
    basis, values = np.eye(20)[:, :6], np.exp(-decay * np.arange(5))
    drawn = [outside(frame * values, basis) ** 2 for frame in random_frames(20, 5, 2000, key)]
    assert abs(np.mean(drawn) - expected_outside(20, 6) ** 2) < 4 * np.std(drawn) / np.sqrt(2000)


@pytest.mark.parametrize("decay", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize(("count", "size"), [(64, 64), (64, 256), (15, 64), (3, 7), (1, 1)])
def test_the_expected_length_is_the_mean_over_random_units(count: int, size: int, decay: float, key: jax.Array) -> None:
    values = 3 * np.exp(-decay * np.arange(count))
    drawn = np.linalg.norm(random_units(size, 20_000, key)[:, :count] * values, axis=1)
    # Where the length does not vary at all, the draws have an error of rounding alone.
    assert abs(drawn.mean() - expected_length(values, size)) < 4 * drawn.std() / np.sqrt(20_000) + 1e-8


def test_expected_lengths_that_are_known_exactly() -> None:
    assert expected_length(np.zeros(4), 9) == 0
    assert expected_length(np.full(9, 2.5), 9) == pytest.approx(2.5, rel=1e-9)
    # Of one coordinate, and of d equal ones among n: the root of a Beta variable.
    for d, n in ((1, 64), (1, 2), (15, 64), (63, 64)):
        expected = root_mean_beta(d / 2, (n - d) / 2)
        assert expected_length(np.full(d, 0.1), n) == pytest.approx(0.1 * expected, rel=1e-9)
    assert expected_length(np.array([1.0]), 2) == pytest.approx(2 / np.pi, rel=1e-9)
    values = np.array([3.0, 1.0, 0.2])
    assert expected_length(1e-6 * values, 8) == pytest.approx(1e-6 * expected_length(values, 8), rel=1e-9)
    assert expected_length(np.append(values, 0.0), 8) == pytest.approx(expected_length(values, 8), rel=1e-12)
