"""Tests of `analysis/clusters.py`: planted clusters and a second implementation."""

import jax
import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances

from analysis.clusters import ClustersConfig, permuted_separations, separation, spread, tau
from synth.settings import SettingError


def planted(distance: float, rng: np.random.Generator, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    safe, unsafe = rng.standard_normal((2, size, 3))
    unsafe[:, 0] += distance
    return safe, unsafe


def test_tau_of_known_points() -> None:
    safe, unsafe = np.array([0.0, 0.0]), np.array([4.0, 0.0])
    points = np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 9.0], [1.0, 0.0], [0.0, 3.0]])
    assert tau(points, safe, unsafe).tolist() == [4.0, -4.0, 0.0, 2.0, 2.0]


def test_separation_of_two_points_is_twice_their_distance() -> None:
    assert separation(np.array([[0.0, 3.0]] * 4), np.array([[4.0, 0.0]] * 6)) == 10.0


def test_separation_equals_scikit_learns_distances() -> None:
    safe, unsafe = planted(2.0, np.random.default_rng(1))
    means = np.stack([safe.mean(0), unsafe.mean(0)])
    to_safe, to_unsafe = euclidean_distances(np.concatenate([safe, unsafe]), means).T
    taus = to_unsafe - to_safe
    assert separation(safe, unsafe) == pytest.approx(taus[:200].mean() - taus[200:].mean())


def test_spread_is_the_within_cluster_deviation() -> None:
    safe, unsafe = planted(50.0, np.random.default_rng(2), size=5000)
    assert spread(safe, unsafe) == pytest.approx(np.sqrt(3), rel=0.02)
    assert spread(safe * 2, unsafe * 2) == pytest.approx(2 * spread(safe, unsafe))


def test_permuted_values_are_those_of_relabelled_rows(key: jax.Array) -> None:
    """Of two rows a label there are three relabellings, all of which can be written out."""
    rows = np.concatenate(planted(30.0, np.random.default_rng(5), size=2))
    splits = [(rows[[0, i]], rows[[j for j in (1, 2, 3) if j != i]]) for i in (1, 2, 3)]
    possible = [(separation(*split), spread(*split)) for split in splits]
    for value in zip(*permuted_separations(rows[:2], rows[2:], 40, key), strict=True):
        assert min(np.abs(np.subtract(value, other)).max() for other in possible) < 1e-9


def test_permuted_labels_separate_nothing_and_true_ones_do(key: jax.Array) -> None:
    safe, unsafe = planted(3.0, np.random.default_rng(3))
    null, _ = permuted_separations(safe, unsafe, 50, key)
    assert null.shape == (50,)
    assert (null >= -1e-9).all()
    assert separation(safe, unsafe) > 10 * np.quantile(null, 0.975)
    alike = planted(0.0, np.random.default_rng(4))
    assert separation(*alike) < np.quantile(permuted_separations(*alike, 200, key)[0], 0.999)


def test_the_window_must_be_a_position_at_least() -> None:
    with pytest.raises(SettingError, match="window=0: must be at least 1"):
        ClustersConfig(window=0)
