"""Tests of `analysis/nullspace.py`: planted truths, and SciPy's angles."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import entropy, ks_2samp

from analysis import nullspace
from analysis.attacks import AttacksConfig
from analysis.nullspace import (
    NullspaceConfig,
    by_alignment,
    column_basis,
    effective_rank,
    empirical_rank,
    layer_of,
    part,
    projections,
    random_frames,
    random_sines,
    random_units,
    shares,
    sines,
    span,
    stable_rank,
)
from analysis.observe import LAST
from analysis.rows import Result, Subject, rows
from analysis.suite import AnalysisConfig
from models.transformer import ModelConfig, Params
from models.weights import flatten, unflatten
from synth.keys import fold
from synth.settings import SettingError
from tests.analysis.planted import observation, value

CONFIG = NullspaceConfig(directions=3, neurons=4, draws=20, angle_prompts=12)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_empirical_rank_is_the_fewest_values_that_hold_the_share() -> None:
    assert empirical_rank(np.array([3.0, 4.0, 0.0])[::-1].copy(), 1.0) == 3
    assert empirical_rank(np.array([10.0, 1.0, 0.1]), 0.99) == 1
    assert empirical_rank(np.array([10.0, 1.1, 0.1]), 0.99) == 2
    assert empirical_rank(np.ones(100), 0.99) == 99
    assert empirical_rank(np.zeros(4)) == 0


def test_soft_ranks_count_equal_singular_values_and_ignore_scale(rng: np.random.Generator) -> None:
    for rank in (effective_rank, stable_rank):
        assert rank(np.array([3.0] * 5 + [0.0] * 2)) == pytest.approx(5)
        assert rank(np.array([7.0])) == pytest.approx(1)
    matrix = rng.standard_normal((9, 6))
    values = np.linalg.svd(matrix, compute_uv=False)
    assert effective_rank(values) == pytest.approx(np.exp(entropy(values)))
    assert stable_rank(values) == pytest.approx(np.linalg.norm(matrix) ** 2 / np.linalg.norm(matrix, 2) ** 2)
    assert effective_rank(5 * values) == pytest.approx(effective_rank(values))
    assert 1 < stable_rank(values) < effective_rank(values) < 6


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


@pytest.mark.parametrize("count", [8, 30])
def test_a_span_is_the_column_space_of_the_stacked_activations(count: int, rng: np.random.Generator) -> None:
    acts = rng.standard_normal((count, 20)) * np.linspace(3, 0.01, 20)
    found, expected = span(acts, 0.9), column_basis(acts.T, 0.9)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-10)
    np.testing.assert_allclose(sines(found, expected), 0, atol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1)


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


def test_projections_add_up_to_the_whole_effect(rng: np.random.Generator) -> None:
    change, acts = rng.standard_normal((30, 10)), rng.standard_normal((5, 10)) * 7
    unit = acts / np.linalg.norm(acts, axis=1, keepdims=True)
    along = projections(change, acts, 10)
    np.testing.assert_allclose(np.sum(along**2, axis=1), np.sum((unit @ change.T) ** 2, axis=1))
    _, values, right = np.linalg.svd(change, full_matrices=False)
    for i in range(3):
        np.testing.assert_allclose(np.abs(along[:, i]), np.abs(values[i] * unit @ right[i]))


def test_random_units_are_what_random_right_vectors_make_of_any_input(key: jax.Array, rng: np.random.Generator) -> None:
    values, a = np.array([3.0, 1.0, 0.2]), rng.standard_normal(7)
    frames = random_frames(7, 3, 2000, fold(key, "frames"))
    effects = np.linalg.norm(np.einsum("dni,n->di", frames, a / np.linalg.norm(a)) * values, axis=1)
    direct = np.linalg.norm(random_units(7, 2000, key)[:, :3] * values, axis=1)
    assert ks_2samp(effects, direct).pvalue > 1e-3


def test_neurons_come_by_their_angle_to_the_first_direction(rng: np.random.Generator) -> None:
    first, second = np.eye(5)[:2]
    # The rows' angles to the first direction, not their sizes, give the order.
    angles, lengths = np.array([0.3, 0.0, 1.2, -0.1]), np.array([1.0, 5.0, 2.0, -0.01])
    change = lengths[:, None] * (np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second)
    direction = np.linalg.svd(change)[2][0]
    by_loop = [abs(row @ direction) / np.linalg.norm(row) for row in change]
    assert by_alignment(change).tolist() == sorted(range(4), key=lambda row: -by_loop[row])
    assert by_alignment(change)[0] == 1
    assert by_alignment(np.vstack([np.zeros(5), change]))[-1] == 0


def test_every_weight_has_a_part_and_blocks_have_layers(model: ModelConfig, params: Params) -> None:
    names = flatten(params)
    assert {part(name) for name in names} == {"attention", "mlp", "norms", "embeddings"}
    assert {name for name in names if part(name) == "embeddings"} == {"W_E", "W_pos", "W_U"}
    assert {part(name) for name in names if "ln" in name} == {"norms"}
    assert {layer_of(name) for name in names} == {None, *range(model.layers)}
    assert shares({"a.x": 1.0, "a.y": 2.0, "b.x": 1.0}, lambda name: name[0]) == {"a": 0.75, "b": 0.25}


@pytest.fixture(scope="module")
def subject(model: ModelConfig, params: Params, key: jax.Array) -> Subject:
    """dW in all weights but the first layer's W_out and the embeddings; activations planted."""
    rng = np.random.default_rng(3)
    before = flatten(params)
    changed = {
        name: array + 0.1 * rng.standard_normal(array.shape).astype(array.dtype)
        for name, array in before.items()
        if "blocks" in name and name != "blocks.0.mlp.W_out"
    }
    hidden = rng.standard_normal((2, 30, model.layers, model.hidden)) + 1
    observations = {}
    for family, acts in zip(("safe", "unsafe"), hidden, strict=True):
        seen = observation(acts)
        observations[family] = seen._replace(last={**seen.last, "mlp.in": acts[..., : model.width]})
    return Subject(
        model,
        unflatten({**before, **changed}),
        unflatten(before),
        {},
        observations,
        {family: seen.last for family, seen in observations.items()},
        key,
    )


@pytest.fixture(scope="module")
def measured(subject: Subject) -> list[Result]:
    return nullspace.measure(subject, CONFIG)


def test_the_shares_are_those_of_a_sum_over_weights(subject: Subject, measured: list[Result]) -> None:
    before, after = flatten(subject.reference), flatten(subject.params)
    squares = {name: np.sum((after[name].astype(float) - before[name]) ** 2) for name in before}
    total = sum(squares.values())
    for module in ("attention", "mlp", "norms", "embeddings"):
        expected = sum(v for name, v in squares.items() if part(name) == module) / total
        assert value(measured, "change_share", module=module).value == pytest.approx(expected)
    by_layer = [value(measured, "change_share", layer=layer).value for layer in (1, 2)]
    assert sum(by_layer) == pytest.approx(1)
    assert value(measured, "change_share", module="embeddings").value == 0
    sizes = {name: array.size for name, array in before.items()}
    layer_size = sum(size for name, size in sizes.items() if name.startswith("blocks.1."))
    assert value(measured, "change_share_even", layer=2).value == pytest.approx(layer_size / sum(sizes.values()))


def test_each_matrix_acts_on_its_own_input(subject: Subject, measured: list[Result]) -> None:
    for module, site in (("W_in", "mlp.in"), ("W_out", "mlp.post")):
        change = (
            np.asarray(subject.params["blocks"]["1"]["mlp"][module], float)
            - subject.reference["blocks"]["1"]["mlp"][module]
        )
        for family, seen in subject.observations.items():
            where = {"family": family, "layer": 2, "module": module}
            acts = seen.last[site][:, 1]
            effects = [np.linalg.norm(a @ change) / np.linalg.norm(a) for a in acts]
            assert value(measured, "projection_total", **where).value == pytest.approx(np.mean(effects))
            along = np.abs(projections(change.T, acts, 3)).mean(0)
            for i in range(3):
                found = value(measured, "projection_abs", index=i + 1, **where)
                assert found.value == pytest.approx(along[i])
                assert found.n == len(acts)


def test_a_random_input_projects_as_the_null_says(subject: Subject) -> None:
    rng = np.random.default_rng(4)
    acts = rng.standard_normal((4000, subject.model.layers, subject.model.width))
    seen = subject.observations["safe"]
    noise = subject._replace(
        observations={"safe": seen._replace(last={**dict.fromkeys(LAST, acts), "mlp.post": np.tile(acts, (1, 1, 4))})}
    )
    found = nullspace.measure(
        noise._replace(before={"safe": seen.last}), replace(CONFIG, draws=4000, angle_prompts=4, neurons=1)
    )
    where = {"family": "safe", "layer": 2, "module": "W_in"}
    total, null = (value(found, f"projection_total{null}", **where).value for null in ("", "_random"))
    assert total == pytest.approx(null, rel=0.03)
    for index in (1, 2, 3):
        along, null = (value(found, f"projection_abs{null}", index=index, **where).value for null in ("", "_random"))
        assert along == pytest.approx(null, rel=0.05)


def test_single_neurons_by_a_loop(subject: Subject, measured: list[Result]) -> None:
    change = (subject.params["blocks"]["0"]["mlp"]["W_in"] - subject.reference["blocks"]["0"]["mlp"]["W_in"]).T
    acts = subject.observations["unsafe"].last["mlp.in"][:, 0]
    where = {"family": "unsafe", "layer": 1, "module": "W_in"}
    effects = np.array([[abs(row @ a) / np.linalg.norm(a) for row in change.astype(float)] for a in acts]).mean(0)
    for index, neuron in enumerate(by_alignment(change.astype(float))[:4]):
        assert value(measured, "neuron_effect", index=index + 1, **where).value == pytest.approx(effects[neuron], 1e-5)
    assert value(measured, "neuron_effect_mean", **where).value == pytest.approx(effects.mean(), 1e-5)
    assert not any(result.metric == "neuron_effect" and result.index == 5 for result in measured)


def test_activations_that_did_not_change_are_at_no_angle(subject: Subject, measured: list[Result]) -> None:
    where = {"family": "safe", "layer": 1, "module": "mlp.post"}
    assert value(measured, "activation_angle_mean", **where).value < 1e-6
    control = value(measured, "activation_angle_untuned_mean", **where)
    acts = subject.observations["safe"].last["mlp.post"][:, 0]
    bases = [column_basis(half.T, CONFIG.rank_share) for half in (acts[12:24], acts[:12])]
    # Between other prompts there is an angle, the mean over all of them of the root of 1 - |P v|^2.
    inside = [np.linalg.norm(bases[1].T @ vector) for vector in bases[0].T]
    assert control.value == pytest.approx(np.mean([np.sqrt(1 - length**2) for length in inside]))
    assert control.n == bases[0].shape[1]


def test_of_the_model_before_no_more_is_read_than_it_is_asked_for(subject: Subject, measured: list[Result]) -> None:
    most = AnalysisConfig(nullspace=CONFIG).prompts_before
    assert most < len(subject.before["safe"]["mlp.post"])
    few = {family: {site: acts[:most] for site, acts in of.items()} for family, of in subject.before.items()}
    found = nullspace.measure(subject._replace(before=few), CONFIG)
    assert [repr(row) for row in rows(found)] == [repr(row) for row in rows(measured)]
    attacked = AnalysisConfig(nullspace=CONFIG, attacks=AttacksConfig(enabled=True, prompts=most + 1))
    assert attacked.prompts_before == most + 1


def test_a_matrix_without_a_change_says_so(measured: list[Result]) -> None:
    found = [row for row in rows(measured) if row.module == "W_out" and row.layer == 1]
    missing = {row.metric for row in found if row.missing == "dW is zero"}
    assert {"sine_mean", "sine_excess", "effective_rank", "projection_total", "projection_total_random"} <= missing
    assert all(np.isnan(row.value) == (row.missing is not None) for row in rows(measured))
    assert value(measured, "relative_change", layer=1, module="W_out").value == 0
    assert value(measured, "rank_change", layer=1, module="W_out").value == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda acts: np.where(np.arange(len(acts))[:, None, None] == 1, np.inf, acts), "prompts are not finite"),
        (lambda acts: acts[:0], "no safe prompts"),
    ],
)
def test_activations_that_cannot_be_measured_say_why(
    subject: Subject, measured: list[Result], spoil: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    """Those of one family, and the others are as they were."""
    seen = subject.observations["safe"]
    spoilt = seen._replace(last={site: spoil(acts) for site, acts in seen.last.items()})
    before = {
        **subject.before,
        "safe": {site: acts[: len(spoil(acts))] for site, acts in subject.before["safe"].items()},
    }
    damaged = subject._replace(observations={**subject.observations, "safe": spoilt}, before=before)
    found = rows(nullspace.measure(damaged, CONFIG))
    of_safe = [row for row in found if row.family == "safe"]
    metrics = {"projection_total", "neuron_effect_mean", "activation_angle_mean", "activation_angle_untuned_mean"}
    assert {row.metric for row in of_safe} == {*metrics, "projection_total_random"}
    assert all(np.isnan(row.value) and row.n == 0 and reason in str(row.missing) for row in of_safe)
    expected = [repr(row) for row in rows(measured) if row.family != "safe"]
    assert [repr(row) for row in found if row.family != "safe"] == expected


def test_activations_of_zeros_span_nothing(subject: Subject) -> None:
    seen, before = subject.observations["safe"], subject.before["safe"]
    dead = seen._replace(last={site: 0 * acts for site, acts in seen.last.items()})
    for observed, start in ((dead, before), (seen, dead.last)):
        found = rows(
            nullspace.measure(subject._replace(observations={"safe": observed}, before={"safe": start}), CONFIG)
        )
        angles = [row for row in found if row.metric == "activation_angle_mean"]
        assert len(angles) == subject.model.layers
        assert all(np.isnan(row.value) and "all zero" in str(row.missing) for row in angles)
        assert all(np.isnan(row.value) == (row.missing is not None) for row in found)


def test_a_model_equal_to_the_untuned_one_has_no_shares_and_the_untuned_one_no_rows(subject: Subject) -> None:
    same = subject._replace(params={**subject.reference})
    missing = [row for row in rows(nullspace.measure(same, CONFIG)) if row.metric in ("change_share", "sine_mean")]
    assert missing
    assert all(row.missing == "dW is zero" for row in missing)
    assert nullspace.measure(subject._replace(params=subject.reference), CONFIG) == []


def test_equal_seeds_give_equal_rows(subject: Subject, measured: list[Result]) -> None:
    again = nullspace.measure(subject, CONFIG)
    assert [repr(row) for row in rows(again)] == [repr(row) for row in rows(measured)]


@pytest.mark.parametrize("setting", [{"neurons": 0}, {"angle_prompts": 0}, {"rank_share": 0.0}, {"draws": 0}])
def test_settings_out_of_range(setting: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="=0"):
        NullspaceConfig(**setting)
