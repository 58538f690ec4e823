"""Tests of `analysis/separability.py`: planted clusters, scikit-learn and plain loops."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import silhouette_score

from analysis.clusters import MODULES, deal
from analysis.discriminant import discriminant, fisher, fisher_unridged
from analysis.kmeans import kmeans_accuracy, silhouette, two_means
from analysis.rows import Result, Row, Samples
from analysis.rows import rows as rows_of
from analysis.separability import (
    COORDINATES,
    STATISTICS,
    SeparabilityConfig,
    measure,
    principal_axes,
    spectral_share,
)
from models.transformer import ModelConfig
from synth.settings import SettingError
from tests.analysis.planted import observation, subject, value

FAMILIES = ("safe", "unsafe", "attack")
SHORT: dict[str, Any] = {"permutations": 20, "deals": 4, "restarts": 2, "sites": ("mlp.post",)}
AT: dict[str, Any] = {"layer": 1, "module": "mlp.post"}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def pooled(rng: np.random.Generator) -> np.ndarray:
    """30 safe and 50 unsafe rows of five correlated columns, far from the origin."""
    rows = rng.standard_normal((80, 5)) @ rng.standard_normal((5, 5)) + 4
    rows[30:, :2] += 1.5
    return rows


@pytest.fixture
def labels(key: jax.Array) -> np.ndarray:
    return np.concatenate([np.arange(80)[None] < 30, deal(30, 50, 6, key)])


def by_definition(rows: np.ndarray, is_safe: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Direction and middle [F] and criterion of one labelling, from the scatter within clusters itself."""
    clusters = rows[is_safe], rows[~is_safe]
    means = [cluster.mean(0) for cluster in clusters]
    within = sum((rows - mean).T @ (rows - mean) for rows, mean in zip(clusters, means, strict=True)) / len(rows)
    total = np.trace(np.cov(rows.T, bias=True))
    direction = np.linalg.solve(within + ridge * total * np.eye(rows.shape[1]), means[0] - means[1])
    criterion = (direction @ (means[0] - means[1])) ** 2 / (direction @ within @ direction)
    return direction, (means[0] + means[1]) / 2, criterion


@pytest.mark.parametrize("ridge", [1e-12, 0.1])
def test_discriminants_of_all_labellings_by_the_definition(
    pooled: np.ndarray, labels: np.ndarray, ridge: float
) -> None:
    found, criteria = discriminant(pooled, labels, ridge), fisher(pooled, labels, ridge)
    for i, is_safe in enumerate(labels):
        direction, middle, criterion = by_definition(pooled, is_safe, ridge)
        cosine = found.direction[i] @ direction / np.linalg.norm(found.direction[i]) / np.linalg.norm(direction)
        assert cosine == pytest.approx(1)
        assert found.middle[i] == pytest.approx(found.direction[i] @ middle)
        assert criteria[i] == pytest.approx(criterion)
        along = found.coordinates(pooled)[i]
        clusters = along[is_safe], along[~is_safe]
        assert clusters[0].mean() == pytest.approx(-clusters[1].mean())
        assert sum(np.sum((cluster - cluster.mean()) ** 2) for cluster in clusters) == pytest.approx(len(pooled))


def test_discriminant_is_scikit_learns(pooled: np.ndarray, labels: np.ndarray) -> None:
    """Of as many safe as unsafe rows, where its threshold has no prior and lies half-way too."""
    rows, is_safe = pooled[:60], labels[0, :60]
    theirs = LinearDiscriminantAnalysis().fit(rows, is_safe).decision_function(rows)
    ours = discriminant(rows, is_safe[None], 1e-12).coordinates(rows)[0]
    assert np.corrcoef(ours, theirs)[0, 1] == pytest.approx(1)
    assert ((ours > 0) == (theirs > 0)).all()


def test_fisher_of_one_column_is_the_squared_distance_in_deviations(rng: np.random.Generator) -> None:
    safe, unsafe = rng.standard_normal((2, 20_000, 1)) * 3
    criterion = fisher(np.concatenate([safe, unsafe + 6]), np.arange(40_000)[None] < 20_000, 1e-9)
    assert criterion == pytest.approx(4, rel=0.05)


def test_a_cluster_that_lacks_a_label_is_told_apart_by_nothing(pooled: np.ndarray) -> None:
    assert (discriminant(pooled, np.ones((1, 80), bool), 0.01).coordinates(pooled) == 0).all()


def test_kmeans_matches_clusters_to_labels_either_way(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((100, 3))
    rows[40:, 0] += 50
    truth = np.arange(100) < 40
    swapped, three_wrong = ~truth, truth.copy()
    three_wrong[:3] = False
    found = kmeans_accuracy(rows, np.stack([truth, swapped, three_wrong, np.arange(100) % 2 == 0]), 2, 0)
    np.testing.assert_allclose(found, [1, 1, 0.97, 0.5])


def inertia(rows: np.ndarray, ones: np.ndarray) -> float:
    """Summed squared distance of rows [N, F] to the mean of their side of a partition [N]."""
    return float(sum(np.sum((side - side.mean(0)) ** 2) for side in (rows[ones], rows[~ones])))


@pytest.mark.parametrize("decay", [3.0, 10.0, 30.0])
def test_kmeans_finds_what_many_restarts_of_scikit_learns_find(decay: float) -> None:
    """Clouds of one piece, which have local optima; in the one with few dimensions all of both starts end alike."""
    rng = np.random.default_rng(int(decay))
    rows = (rng.standard_normal((300, 64)) * np.exp(-np.arange(64) / decay)).astype(np.float32)
    rows[:150, 0] += 1
    restarts = SeparabilityConfig().restarts
    theirs = KMeans(2, n_init=300, random_state=0).fit(rows).inertia_
    ours = [inertia(rows.astype(float), two_means(rows, restarts, seed)) for seed in range(3)]
    # Where optima abound, what is left lies within a thousandth of what labels at random leave to be explained.
    single = inertia(rows.astype(float), np.arange(300) % 2 == 0)
    assert max(ours) - theirs < 1e-3 * (single - theirs)


def test_kmeans_takes_the_better_of_two_partitions_that_are_nearly_as_good() -> None:
    """Four clusters at the corners of a rectangle: along its long sides one start in two goes wrong and stays."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((400, 6)).astype(np.float32) * 0.3
    right, up = np.arange(400) % 2 == 0, np.arange(400) < 200
    rows[:, 0] += 5.2 * right
    rows[:, 1] += 5.0 * up
    labels = np.stack([right, up])
    single = [kmeans_accuracy(rows, labels, 1, seed) for seed in range(40)]
    assert 5 < sum(accuracy[0] < 0.6 for accuracy in single) < 35
    for seed in range(10):
        np.testing.assert_allclose(kmeans_accuracy(rows, labels, SeparabilityConfig().restarts, seed), [1, 0.5])


def test_of_partitions_exactly_as_good_kmeans_takes_one_and_the_same_again() -> None:
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    rows = np.repeat(corners, 5, axis=0)
    for seed in range(10):
        ones = two_means(rows, 64, seed)
        assert inertia(rows, ones) == pytest.approx(5)
        np.testing.assert_array_equal(two_means(rows, 64, seed), ones)


def test_kmeans_of_rows_that_are_few_or_repeated() -> None:
    assert two_means(np.array([[0.0], [1.0]]), 4, 0).sum() == 1
    rows = np.array([[0.0, 1.0]] * 9 + [[3.0, 1.0]])
    assert two_means(rows, 4, 0).sum() in (1, 9)
    assert two_means(np.ones((4, 2)), 3, 0).shape == (4,)


@pytest.mark.parametrize("count", [80, 60])
def test_fisher_without_a_ridge_is_the_squared_mahalanobis_distance_of_the_means(
    pooled: np.ndarray, labels: np.ndarray, count: int
) -> None:
    """Also with rows of a subspace; the ridge's criterion approaches it from below."""
    rows, labels = pooled[:count], labels[:, :count]
    found = fisher_unridged(rows, labels)
    wide = rows @ np.linalg.qr(np.random.default_rng(2).standard_normal((9, 5)))[0].T
    np.testing.assert_allclose(fisher_unridged(wide, labels), found, rtol=1e-6)
    for i, is_safe in enumerate(labels):
        clusters = rows[is_safe], rows[~is_safe]
        gap = clusters[0].mean(0) - clusters[1].mean(0)
        within = sum(len(c) * np.cov(c.T, bias=True) for c in clusters) / count
        assert found[i] == pytest.approx(gap @ np.linalg.solve(within, gap))
        ridges = [fisher(rows, is_safe[None], ridge)[0] for ridge in (0.1, 1e-2, 1e-6)]
        assert ridges == sorted(ridges)
        assert ridges[-1] == pytest.approx(found[i], rel=1e-3)


def test_fisher_without_a_ridge_needs_more_prompts_than_dimensions(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    assert np.isnan(fisher_unridged(rng.standard_normal((10, 8)), np.arange(10)[None] < 5)).all()
    assert np.isfinite(fisher_unridged(rng.standard_normal((11, 8)), np.arange(11)[None] < 5)).all()
    results = measured(model, key, planted(rng, 5))
    for part in ("", "_permuted", "_permuted_low", "_permuted_high"):
        assert value(results, f"fisher_unridged{part}").missing == "no more prompts than dimensions"
        assert value(results, f"fisher{part}").missing is None


def test_a_direction_without_spread_is_decided_by_the_ridge_alone(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    """The clusters lie apart along a direction of a thousandth of the others' spread."""
    acts = planted(rng, 200)
    acts["unsafe"] = rng.standard_normal((200, 1, 8)).astype(np.float32)
    for i, family in enumerate(("safe", "unsafe")):
        acts[family][:, :, 3] = 0.001 * acts[family][:, :, 3] + 0.005 * i
    results = measured(model, key, acts)
    ridged, unridged = (value(results, metric).value for metric in ("fisher", "fisher_unridged"))
    assert unridged == pytest.approx(25, rel=0.3)
    assert ridged < unridged / 2
    assert value(results, "fisher_unridged_permuted_high").value < 0.2


def test_silhouettes_are_scikit_learns(pooled: np.ndarray, labels: np.ndarray) -> None:
    theirs = [silhouette_score(pooled, is_safe) for is_safe in labels]
    np.testing.assert_allclose(silhouette(pooled, labels), theirs, rtol=1e-9)
    # Single precision: distances of about 3 between rows of about 10.
    np.testing.assert_allclose(silhouette(pooled.astype(np.float32), labels), theirs, atol=1e-5)


def test_silhouette_of_rows_alone_or_alike(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((6, 2))
    alone = np.arange(6) == 0
    assert silhouette(rows, alone[None])[0] == pytest.approx(silhouette_score(rows, alone))
    assert silhouette(np.zeros((6, 2)), alone[None])[0] == 0
    assert silhouette(rows, np.ones((1, 6), bool))[0] == 0


def test_spectral_share_is_spectral_over_nuclear_norm(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((50, 8)) * np.arange(1, 9) + 3
    values = np.linalg.svd(np.cov(rows.T), compute_uv=False)
    assert spectral_share(rows) == pytest.approx(values[0] / values.sum())
    assert spectral_share(np.outer(rng.standard_normal(20), np.ones(4)) + 5) == pytest.approx(1)
    assert np.isnan(spectral_share(np.full((9, 4), 0.1)))


@pytest.mark.parametrize(("count", "width"), [(60, 8), (30, 40)])
def test_singular_values_of_each_clusters_covariance(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator, count: int, width: int
) -> None:
    """Also where there are fewer prompts than dimensions."""
    acts = planted(rng, count, width)
    results = measured(model, key, acts, directions=5, sites=("mlp.post",))
    for family in ("safe", "unsafe"):
        theirs = np.linalg.svd(np.cov(acts[family][:, 0].astype(float).T, bias=True), compute_uv=False)
        found = [value(results, "covariance_sigma", family=family, index=i + 1) for i in range(5)]
        np.testing.assert_allclose([row.value for row in found], theirs[:5], rtol=1e-4)
        assert {row.n for row in found} == {count}
    # Dealt rows have the mean of both covariances: of unsafe ones' variance of 36 along a direction and safe ones' 1.
    first = [value(results, f"covariance_sigma{part}", family="unsafe", index=1).value for part in ("", "_permuted")]
    assert first[1] == pytest.approx(first[0] / 2, rel=0.35)
    assert not [r for r in results if r.metric.startswith("covariance_sigma") and r.index not in range(1, 6)]


def test_principal_axes_are_scikit_learns_turned_to_the_safe_side(pooled: np.ndarray) -> None:
    theirs = PCA(2).fit(pooled)
    for towards in (pooled[0], pooled[40]):
        axes = principal_axes(pooled, towards)
        np.testing.assert_allclose(np.abs(np.sum(axes.T * theirs.components_, axis=1)), 1)
        assert ((towards - theirs.mean_) @ axes >= 0).all()


def planted(rng: np.random.Generator, count: int = 60, width: int = 8) -> dict[str, np.ndarray]:
    """One layer: unsafe rows are far off and stretched along the second column, attacks are where safe ones are."""
    rows = {family: rng.standard_normal((count, 1, width)).astype(np.float32) for family in FAMILIES}
    rows["unsafe"][:, :, 0] += 20
    rows["unsafe"][:, :, 1] *= 6
    return rows


def measured(
    model: ModelConfig,
    key: jax.Array,
    acts: dict[str, np.ndarray],
    fitted: dict[str, np.ndarray] | None = None,
    **settings: Any,
) -> list[Result]:
    """Axes and probes are of the rows `fitted`, or of `acts` themselves."""
    seen, of = ({family: observation(rows) for family, rows in given.items()} for given in (acts, fitted or acts))
    return measure(subject(model, key, seen, of), SeparabilityConfig(**{**SHORT, **settings}))


def test_a_probe_of_noise_is_no_better_than_chance_on_new_rows(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    """More columns than rows, so that a probe tells its own rows apart without error."""
    own, new = ({name: rng.standard_normal((100, 1, 220)) for name in ("safe", "unsafe")} for _ in range(2))
    assert value(measured(model, key, own, own, ridge=1e-6), "probe_accuracy").value == 1
    found = value(measured(model, key, new, own, ridge=1e-6), "probe_accuracy")
    assert abs(found.value - 0.5) < 4 * 0.5 / np.sqrt(200)
    assert found.n == 200


def test_probe_and_coordinates_are_of_the_validation_prompts_alone(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    acts, fitted = planted(rng), planted(rng, 40)
    swapped = {"safe": fitted["unsafe"], "unsafe": fitted["safe"]}
    assert value(measured(model, key, acts, fitted), "probe_accuracy", **AT).value == 1
    assert value(measured(model, key, acts, swapped), "probe_accuracy", **AT).value == 0

    def coordinates(acts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = measured(model, key, acts, fitted)
        found = {r.metric: r.values for r in results if isinstance(r, Samples) and (r.family, r.index) != ("safe", 2)}
        return {name: values for name, values in found.items() if len(values) == len(acts["attack"])}

    one, other = coordinates(acts), coordinates({**acts, "safe": acts["safe"] + 30})
    for name, values in one.items():
        # About another origin, which no distance along an axis knows.
        np.testing.assert_allclose(np.diff(other[name]), np.diff(values), atol=1e-3)
    own = np.concatenate([fitted["safe"], fitted["unsafe"]])[:, 0]
    found = {
        (r.family, r.metric, r.index): r.values for r in measured(model, key, acts, fitted) if isinstance(r, Samples)
    }
    axes = PCA(2).fit(own)
    for i, along in enumerate(axes.transform(acts["attack"][:, 0]).T):
        ours = found["attack", "pca", i + 1]
        np.testing.assert_allclose(np.abs(np.diff(ours)), np.abs(np.diff(along)), atol=1e-3)


def test_planted_clusters_are_told_apart_and_dealt_labels_are_not(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    results = measured(model, key, planted(rng), silhouettes=10)
    assert len({(r.metric, r.family, r.index) for r in results}) == len(results)
    assert not [result for result in results if isinstance(result, Row) and result.missing]
    for metric in ("kmeans_accuracy", "probe_accuracy", "silhouette", "fisher", "fisher_unridged"):
        parts = [value(results, f"{metric}_permuted{part}", **AT).value for part in ("_low", "", "_high")]
        assert parts == sorted(parts)
        assert value(results, metric, **AT).value > parts[2] + 0.2
    for metric in ("kmeans_accuracy", "probe_accuracy"):
        assert value(results, metric, **AT).value == 1
        assert value(results, metric, **AT).n == 120
        assert value(results, f"{metric}_permuted", **AT).value == pytest.approx(0.5, abs=0.1)
    assert value(results, "silhouette", **AT).n == 20
    share = {family: value(results, "spectral_share", family=family, **AT) for family in ("safe", "unsafe")}
    assert share["safe"].value < 0.3 < 0.7 < share["unsafe"].value
    assert share["safe"].n == 60
    assert value(results, "spectral_share_permuted", family="safe", **AT).n == SHORT["deals"]


def test_clusters_of_one_shape_have_the_share_of_their_control(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    """However far apart they are: rows dealt with their clusters' means would have a share of nearly 1."""
    acts = planted(rng, 500)
    acts["unsafe"] = acts["safe"] + 100
    results = measured(model, key, acts)
    for family in ("safe", "unsafe"):
        share, null = (value(results, f"spectral_share{part}", family=family, **AT).value for part in ("", "_permuted"))
        assert share == pytest.approx(null, rel=0.1)
        assert share < 0.25


def test_coordinates_of_every_familys_prompts(model: ModelConfig, key: jax.Array, rng: np.random.Generator) -> None:
    acts = planted(rng)
    samples = {(r.family, r.metric, r.index): r.values for r in measured(model, key, acts) if isinstance(r, Samples)}
    assert set(samples) == {(family, *place) for family in FAMILIES for place in COORDINATES}
    theirs = PCA(2).fit(np.concatenate([acts["safe"], acts["unsafe"]])[:, 0])
    for family in FAMILIES:
        for i, along in enumerate(theirs.transform(acts[family][:, 0]).T):
            ours = samples[family, "pca", i + 1]
            sign = np.sign(ours @ along)
            np.testing.assert_allclose(ours, sign * along, atol=1e-4)
    assert samples["safe", "pca", 1].mean() > 5 > -5 > samples["unsafe", "pca", 1].mean()
    assert (samples["safe", "lda", None] > 0).all()
    assert (samples["attack", "lda", None] > 0).all()
    assert (samples["unsafe", "lda", None] < 0).all()
    # In deviations within clusters, as new prompts are.
    assert np.std(samples["attack", "lda", None]) == pytest.approx(np.std(samples["safe", "lda", None]), rel=0.3)


def test_more_columns_than_rows_change_nothing_if_they_hold_nothing(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    acts = planted(rng, 10)
    turn = np.linalg.qr(rng.standard_normal((50, 8)))[0].T
    wide = {family: (rows @ turn).astype(np.float32) for family, rows in acts.items()}
    narrow, spread = (rows_of(measured(model, key, rows, directions=8)) for rows in (acts, wide))
    for one, other in zip(narrow, spread, strict=True):
        assert (one.metric, one.family, one.missing) == (other.metric, other.family, other.missing)
        # The activations themselves are turned in single precision.
        assert other.value == pytest.approx(one.value, rel=1e-4, abs=1e-4)


def test_equal_keys_give_equal_results(model: ModelConfig, key: jax.Array, rng: np.random.Generator) -> None:
    acts = planted(rng, 12)
    one, same = (rows_of(measured(model, key, acts)) for _ in range(2))
    assert one == same
    other = rows_of(measured(model, jax.random.key(1), acts))
    assert [row for row in other if "permuted" in row.metric] != [row for row in one if "permuted" in row.metric]


DAMAGES = {
    "empty": ("safe", "no safe prompts"),
    "nan": ("unsafe", "activations of unsafe prompts are not finite"),
    "one": ("unsafe", "fewer than two safe or unsafe prompts"),
    "alike": (None, "all safe and unsafe activations are alike"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_measured_says_why(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator, damage: str
) -> None:
    acts = planted(rng, 12)
    if damage == "empty":
        acts["safe"] = acts["safe"][:0]
    elif damage == "nan":
        acts["unsafe"][3, 0, 2] = np.nan
    elif damage == "one":
        acts["unsafe"] = acts["unsafe"][:1]
    else:
        acts = dict.fromkeys(FAMILIES, np.full((12, 1, 8), 0.1, np.float32))
    results = measured(model, key, acts)
    assert not [result for result in results if isinstance(result, Samples)]
    assert {row.missing for row in rows_of(results)} == {DAMAGES[damage][1]}
    sigmas = 2 * 2 * 8
    assert len(results) == 4 * len(STATISTICS) + sigmas + len(FAMILIES) * len(COORDINATES)


def test_one_family_that_is_not_finite_spoils_no_other(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    acts = planted(rng, 12)
    acts["attack"][0, 0, 0] = np.inf
    for row in rows_of(measured(model, key, acts)):
        spoiled = "activations of attack prompts are not finite" if row.family == "attack" else None
        assert row.missing == spoiled
        assert np.isfinite(row.value) == (spoiled is None)


def test_clusters_without_spread(model: ModelConfig, key: jax.Array) -> None:
    acts = {"safe": np.ones((6, 1, 8), np.float32), "unsafe": np.full((6, 1, 8), 0.1, np.float32)}
    results = measured(model, key, acts)
    for metric in ("kmeans_accuracy", "probe_accuracy"):
        assert value(results, metric).value == 1
    for metric, family in itertools.product(["spectral_share", "lda"], ["safe", "unsafe"]):
        assert value(results, metric, family=family).missing == "the clusters have no spread"
    for metric in ("fisher", "fisher_unridged"):
        assert value(results, metric).missing == "the clusters have no spread"
    sigmas = [row for row in rows_of(results) if row.metric.startswith("covariance_sigma")]
    assert {row.missing for row in sigmas} == {"the clusters have no spread"}
    assert {row.index for row in sigmas} == set(range(1, 9))


def test_two_prompts_a_family_are_enough_to_be_measured(
    model: ModelConfig, key: jax.Array, rng: np.random.Generator
) -> None:
    for row in rows_of(measured(model, key, planted(rng, 2))):
        assert np.isfinite(row.value) == (row.missing is None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites": ("mlp.in",)}, "mlp.in is none of mlp.pre, mlp.pre_last"),
        ({"permutations": 0}, "permutations=0: must be at least 1"),
        ({"directions": 0}, "directions=0: must be at least 1"),
        ({"deals": 101}, "deals=101: must be at most permutations"),
        ({"ridge": 0.0}, "ridge=0.0: must be a finite number above 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SeparabilityConfig(**settings)


def test_every_module_can_be_a_site() -> None:
    assert "mlp.post_last" in SeparabilityConfig().sites
    assert SeparabilityConfig(sites=MODULES).sites == MODULES
