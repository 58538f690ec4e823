"""Tests of `analysis/clusters.py`: planted clusters and a second implementation."""

from typing import Any

import jax
import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances

from analysis.clusters import MODULES, ClustersConfig, deal, measure, relabelled, separation, spread, tau
from analysis.rows import Result, Row
from analysis.rows import rows as rows_of
from models.transformer import ModelConfig
from synth.settings import SettingError
from tests.analysis.planted import observation, subject, value


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


def test_dealt_labels_are_as_many_at_other_places(key: jax.Array) -> None:
    labels = deal(3, 5, 200, key)
    assert (labels.sum(axis=1) == 3).all()
    # Each place is safe in 3 of 8 deals; four standard errors of 200.
    assert np.abs(labels.mean(axis=0) - 3 / 8).max() < 4 * np.sqrt(15 / 64 / 200)
    assert (deal(3, 5, 200, key) == labels).all()


def relabelled_by_loop(pooled: np.ndarray, is_safe: np.ndarray) -> np.ndarray:
    """[3, P] by the definitions, one labelling after the other."""
    values = []
    for labels in is_safe:
        safe, unsafe = pooled[labels], pooled[~labels]
        distance = np.linalg.norm(safe.mean(0) - unsafe.mean(0))
        values.append((separation(safe, unsafe), spread(safe, unsafe), distance))
    return np.transpose(values)


def test_relabelled_rows_by_a_loop(key: jax.Array) -> None:
    """Unequal clusters, far from the origin."""
    rng = np.random.default_rng(5)
    pooled = np.concatenate([rng.standard_normal((30, 4)) + 7, rng.standard_normal((50, 4)) * 2 + 9])
    is_safe = deal(30, 50, 20, key)
    np.testing.assert_allclose(relabelled(pooled, is_safe), relabelled_by_loop(pooled, is_safe), rtol=1e-9)


def test_single_precision_agrees_with_double(key: jax.Array) -> None:
    """At the size of a study. Rows of size 16 are rounded at 1e-6, and separations by chance are about 0.7."""
    pooled = np.random.default_rng(6).standard_normal((2000, 256)).astype(np.float32)
    is_safe = deal(1000, 1000, 5, key)
    double = relabelled_by_loop(pooled.astype(float), is_safe)
    single = relabelled(pooled, is_safe)
    assert all(values.dtype == np.float32 for values in single)
    np.testing.assert_allclose(single, double, rtol=2e-5)


def test_permuted_labels_separate_nothing_and_true_ones_do(key: jax.Array) -> None:
    safe, unsafe = planted(3.0, np.random.default_rng(3))
    null, _, _ = relabelled(np.concatenate([safe, unsafe]), deal(200, 200, 50, key))
    assert null.shape == (50,)
    assert (null >= -1e-9).all()
    assert separation(safe, unsafe) > 10 * np.quantile(null, 0.975)
    alike = planted(0.0, np.random.default_rng(4))
    null, _, _ = relabelled(np.concatenate(alike), deal(200, 200, 200, key))
    assert separation(*alike) < np.quantile(null, 0.999)


FAMILIES = ("safe", "unsafe", "attack")


@pytest.fixture(scope="module")
def acts() -> dict[str, np.ndarray]:
    """Of two layers; attacks lie where safe prompts do in the first layer, with unsafe ones in the second."""
    rng = np.random.default_rng(8)
    rows = {family: rng.standard_normal((40, 2, 6)).astype(np.float32) for family in FAMILIES}
    rows["unsafe"][:, :, 0] += 9
    rows["attack"][:, 1, 0] += 9
    return rows


def test_measured_values_are_those_of_the_definitions(
    model: ModelConfig, key: jax.Array, acts: dict[str, np.ndarray]
) -> None:
    complied = np.arange(40) < 10
    seen = {family: observation(rows, complied) for family, rows in acts.items()}
    results = measure(subject(model, key, seen), ClustersConfig(permutations=30))
    assert len({(r.metric, r.family, r.layer, r.module) for r in results}) == len(results)
    assert not [result for result in results if isinstance(result, Row) and result.missing]
    for module, factor in (("mlp.pre", 1.0), ("resid_post_last", 2.0)):
        for layer in (0, 1):
            where = {"layer": layer + 1, "module": module}
            safe, unsafe, attack = (factor * acts[family][:, layer].astype(float) for family in FAMILIES)
            means = safe.mean(0), unsafe.mean(0)
            taus = tau(attack, *means)
            expected = {
                "tau_sd": np.std(taus, ddof=1),
                "tau_successful": taus[:10].mean(),
                "tau": taus.mean(),
            }
            for metric, number in expected.items():
                assert value(results, metric, family="attack", **where).value == pytest.approx(number, rel=1e-5)
            apart = {
                "separation": separation(safe, unsafe),
                "spread": spread(safe, unsafe),
                "separation_scaled": separation(safe, unsafe) / spread(safe, unsafe),
                "mean_distance": np.linalg.norm(means[0] - means[1]),
            }
            for metric, number in apart.items():
                assert value(results, metric, **where).value == pytest.approx(number, rel=1e-5)
                if metric != "spread":
                    assert value(results, f"{metric}_permuted_high", **where).value < number / 2
    assert value(results, "tau", family="attack", layer=1, module="mlp.post").value > 5
    assert value(results, "tau", family="attack", layer=2, module="mlp.post").value < -5
    assert value(results, "tau_successful", family="attack", layer=1, module="mlp.post").n == 10
    assert {result.module for result in results} == set(MODULES)


def test_tau_of_each_concept_group_by_a_loop(model: ModelConfig, key: jax.Array, acts: dict[str, np.ndarray]) -> None:
    """A text of two groups counts in both; a group that no text is of has no value; unknown groups have no rows."""
    groups = np.zeros((40, 3), bool)
    groups[:15, 0] = groups[10:, 1] = True
    given = subject(model, key, {family: observation(rows) for family, rows in acts.items()})
    results = measure(given._replace(groups={"attack": groups}), ClustersConfig(permutations=5))
    assert {r.family for r in results if r.metric == "tau_group"} == {"attack"}
    for module, factor in (("mlp.post", 1.0), ("resid_post_last", 2.0)):
        safe, unsafe, attack = (factor * acts[family][:, 1].astype(float) for family in FAMILIES)
        where: dict[str, Any] = {"family": "attack", "layer": 2, "module": module}
        for group, chosen in ((1, range(15)), (2, range(10, 40))):
            distances = [
                np.linalg.norm(attack[i] - unsafe.mean(0)) - np.linalg.norm(attack[i] - safe.mean(0)) for i in chosen
            ]
            found = value(results, "tau_group", index=group, **where)
            assert found.value == pytest.approx(np.mean(distances), rel=1e-5)
            assert found.n == len(distances)
        empty = value(results, "tau_group", index=3, **where)
        assert (empty.n, empty.missing) == (0, "no prompt of the group")
    assert not [r for r in measure(given, ClustersConfig(permutations=5)) if r.metric == "tau_group"]


def measured(model: ModelConfig, key: jax.Array, acts: dict[str, np.ndarray]) -> list[Result]:
    seen = {family: observation(rows) for family, rows in acts.items()}
    return measure(subject(model, key, seen), ClustersConfig(permutations=5))


def test_attacks_that_never_succeed_have_no_tau_of_successes(
    model: ModelConfig, key: jax.Array, acts: dict[str, np.ndarray]
) -> None:
    row = value(measured(model, key, acts), "tau_successful", family="attack", layer=1, module="mlp.post")
    assert np.isnan(row.value)
    assert (row.n, row.missing) == (0, "no success")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("damage", ["empty", "nan", "inf"])
def test_what_cannot_be_measured_says_why(
    model: ModelConfig, key: jax.Array, acts: dict[str, np.ndarray], family: str, damage: str
) -> None:
    rows = acts[family][: 0 if damage == "empty" else 5].copy()
    rows[3:, 0, 1] = np.nan if damage == "nan" else np.inf
    results = measured(model, key, {**acts, family: rows})
    reason = f"no {family} prompts" if damage == "empty" else f"activations of {family} prompts are not finite"
    where: dict[str, Any] = {"layer": 1, "module": "mlp.post"}
    for row in rows_of(results):
        assert np.isfinite(row.value) == (row.missing is None)
    assert value(results, "tau", family=family, **where).missing == reason
    others = None if family == "attack" else reason
    assert value(results, "separation_permuted", **where).missing == others
    assert value(results, "tau", family="attack" if others else "safe", **where).missing == others
    if damage != "empty":
        assert value(results, "separation", layer=2, module="mlp.post").missing is None


def test_clusters_without_spread_have_no_scaled_separation(model: ModelConfig, key: jax.Array) -> None:
    rows = {"safe": np.ones((3, 1, 2), np.float32), "unsafe": np.full((3, 1, 2), 0.1, np.float32)}
    results = measured(model, key, rows)
    where: dict[str, Any] = {"layer": 1, "module": "mlp.post"}
    assert value(results, "separation", **where).value == pytest.approx(2 * 0.9 * np.sqrt(2))
    assert value(results, "separation_scaled", **where).missing == "the clusters have no spread"


def test_one_prompt_has_no_deviation(model: ModelConfig, key: jax.Array, acts: dict[str, np.ndarray]) -> None:
    results = measured(model, key, {**acts, "attack": acts["attack"][:1]})
    row = value(results, "tau_sd", family="attack", layer=1, module="mlp.post")
    assert (row.n, row.missing) == (1, "one prompt has no spread")


def test_the_window_must_be_a_position_at_least() -> None:
    with pytest.raises(SettingError, match="window=0: must be at least 1"):
        ClustersConfig(window=0)
