"""Tests of `analysis/nullspace.py`: planted truths, and SciPy's angles."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import entropy

from analysis import nullspace
from analysis.attacks import AttacksConfig
from analysis.nullspace import MATRICES, NullspaceConfig, layer_of, part, shares
from analysis.observe import LAST
from analysis.rows import Result, Subject, rows
from analysis.subspaces import (
    by_alignment,
    column_basis,
    effective_rank,
    empirical_rank,
    projections,
    sines,
    span,
    stable_rank,
)
from analysis.suite import AnalysisConfig
from models.transformer import ModelConfig, Params
from models.weights import flatten, unflatten
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


def test_projections_add_up_to_the_whole_effect(rng: np.random.Generator) -> None:
    change, acts = rng.standard_normal((30, 10)), rng.standard_normal((5, 10)) * 7
    unit = acts / np.linalg.norm(acts, axis=1, keepdims=True)
    along = projections(change, acts, 10)
    np.testing.assert_allclose(np.sum(along**2, axis=1), np.sum((unit @ change.T) ** 2, axis=1))
    _, values, right = np.linalg.svd(change, full_matrices=False)
    for i in range(3):
        np.testing.assert_allclose(np.abs(along[:, i]), np.abs(values[i] * unit @ right[i]))


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
    last = {**dict.fromkeys(LAST, acts), "mlp.post": np.tile(acts, (1, 1, 4))}
    noise = subject._replace(observations={"safe": seen._replace(last=last, complied=np.zeros(4000, bool))})
    found = nullspace.measure(noise._replace(before={"safe": seen.last}), replace(CONFIG, angle_prompts=4, neurons=1))
    where = {"family": "safe", "layer": 2, "module": "W_in"}
    for metric in ("projection_total", "projection_top"):
        total, null = (value(found, f"{metric}{null}", **where).value for null in ("", "_random"))
        assert total == pytest.approx(null, rel=0.02)
    assert value(found, "projection_rms", **where).value == pytest.approx(1, rel=0.02)
    for index in (1, 2, 3):
        along, null = (value(found, f"projection_abs{null}", index=index, **where).value for null in ("", "_random"))
        assert along == pytest.approx(null, rel=0.05)


def test_the_nulls_do_not_depend_on_draws(subject: Subject, measured: list[Result]) -> None:
    """They are exact: with other random keys the same to the bit, but for the frames' sorted sines."""
    other = nullspace.measure(subject._replace(key=jax.random.key(9)), CONFIG)
    drawn = {"sine_random_sorted", "sine_random_sorted_low", "sine_random_sorted_high"}
    for one, another in zip(rows(measured), rows(other), strict=True):
        assert one.metric == another.metric
        if one.metric not in drawn:
            assert repr(one) == repr(another)
    curves = [[row.value for row in rows(found) if row.metric in drawn] for found in (measured, other)]
    assert curves[0] != curves[1]


def test_the_scale_free_reach_by_its_definition(subject: Subject, measured: list[Result]) -> None:
    """Of dW and of 7 dW the same; the projections together, and the mean over the prompts complied with."""
    complied = np.arange(30) % 4 == 1
    seen = subject.observations["unsafe"]._replace(complied=complied)
    of_some = nullspace.measure(subject._replace(observations={"unsafe": seen}), CONFIG)
    for module, site in (("W_in", "mlp.in"), ("W_out", "mlp.post")):
        change = (subject.params["blocks"]["1"]["mlp"][module] - subject.reference["blocks"]["1"]["mlp"][module]).T
        change = change.astype(float)
        acts = seen.last[site][:, 1]
        units = [a / np.linalg.norm(a) for a in acts]
        totals = np.array([np.linalg.norm(change @ a) for a in units])
        where = {"family": "unsafe", "layer": 2, "module": module}
        rms = np.sqrt(np.mean(totals**2)) / np.linalg.norm(change) * np.sqrt(change.shape[1])
        assert value(measured, "projection_rms", **where).value == pytest.approx(rms)
        right = np.linalg.svd(change)[2][:3]
        top = [np.linalg.norm(change @ (right.T @ (right @ a))) for a in units]
        assert value(measured, "projection_top", **where).value == pytest.approx(np.mean(top))
        found = value(of_some, "projection_total_successful", **where)
        assert found.value == pytest.approx(totals[complied].mean())
        assert found.n == complied.sum()
        never = value(measured, "projection_total_successful", **where)
        assert (never.n, never.missing) == (0, "no success")
    scaled = {
        name: 7 * np.asarray(w, float) - 6 * flatten(subject.reference)[name]
        for name, w in flatten(subject.params).items()
    }
    larger = nullspace.measure(subject._replace(params=unflatten(scaled)), CONFIG)
    for metric in ("projection_rms", "outside_energy", "outside_top"):
        of = {"family": "unsafe"} if metric == "projection_rms" else {}
        pair = [value(found, metric, layer=2, module="W_in", **of).value for found in (measured, larger)]
        assert pair[1] == pytest.approx(pair[0], rel=1e-5)


def test_where_the_change_is_by_energy(subject: Subject, measured: list[Result]) -> None:
    """By SciPy's angle of each left singular vector, weighted by its squared singular value."""
    for module in MATRICES:
        untuned, tuned = (
            np.asarray(params["blocks"]["1"]["mlp"][module], float).T for params in (subject.reference, subject.params)
        )
        basis = column_basis(untuned, CONFIG.rank_share)
        left, singular, _ = np.linalg.svd(tuned - untuned, full_matrices=False)
        squares = np.array([np.sin(subspace_angles(vector[:, None], basis)[0]) ** 2 for vector in left.T])
        energy = singular**2 / np.sum(singular**2)
        top = next(k for k in range(1, len(energy) + 1) if energy[:k].sum() >= 0.5)
        expected = {
            "outside_energy": (np.sqrt(energy @ squares), 1),
            "outside_top": (np.sqrt(energy[:top] @ squares[:top] / energy[:top].sum()), top),
            "outside_energy_random": (np.sqrt(1 - basis.shape[1] / len(basis)), 1),
            "outside_top_random": (np.sqrt(1 - basis.shape[1] / len(basis)), 1),
        }
        for metric, (number, n) in expected.items():
            found = value(measured, metric, layer=2, module=module)
            assert found.value == pytest.approx(number, abs=1e-7)
            assert found.n == n


@pytest.mark.parametrize("held", [0.75, 0.51])
@pytest.mark.parametrize(("m", "n"), [(256, 64), (768, 192)])
def test_a_plant_that_holds_the_energy_is_seen_by_energy_alone(
    m: int, n: int, held: float, rng: np.random.Generator, key: jax.Array
) -> None:
    """Ten left vectors outside W's column space, among an optimiser's noise that leans towards it as gradients do."""
    untuned = rng.standard_normal((m, n))
    full, rank = np.linalg.svd(untuned)[0], column_basis(untuned).shape[1]
    ten, beside = full[:, n : n + 10], full[:, n + 10 :]
    leaning = 1.4 * full[:, :rank] @ rng.standard_normal((rank, n - 10))
    leaning += beside @ rng.standard_normal((beside.shape[1], n - 10))
    noise = np.linalg.qr(leaning)[0]
    values = np.concatenate([np.full(10, np.sqrt(held / 10)), np.full(n - 10, np.sqrt((1 - held) / (n - 10)))])
    right = np.linalg.qr(rng.standard_normal((n, n)))[0]
    change = np.concatenate([ten, noise], axis=1) * values @ right.T
    assert np.linalg.norm(untuned.T @ ten) < 1e-9
    where = {"layer": 1, "module": "W_in"}
    found = nullspace._column_space(untuned, change, NullspaceConfig(), key, where)
    by_energy, top, mean = (value(found, name) for name in ("outside_energy", "outside_top", "sine_mean"))
    # The unweighted mean says that dW lies nearer the column space than chance.
    assert value(found, "sine_excess").value < -0.01
    assert mean.value - value(found, "sine_random_mean").value == pytest.approx(value(found, "sine_excess").value)
    assert by_energy.value > value(found, "outside_energy_random").value + 0.01
    assert top.n == (10 if held < 0.6 else 7)
    assert top.value == pytest.approx(1)
    assert top.value > value(found, "outside_top_random").value + 0.1


def test_single_neurons_by_a_loop(subject: Subject, measured: list[Result]) -> None:
    change = (subject.params["blocks"]["0"]["mlp"]["W_in"] - subject.reference["blocks"]["0"]["mlp"]["W_in"]).T
    acts = subject.observations["unsafe"].last["mlp.in"][:, 0]
    where = {"family": "unsafe", "layer": 1, "module": "W_in"}
    effects = np.array([[abs(row @ a) / np.linalg.norm(a) for row in change.astype(float)] for a in acts]).mean(0)
    for index, neuron in enumerate(by_alignment(change.astype(float))[:4]):
        assert value(measured, "neuron_effect", index=index + 1, **where).value == pytest.approx(effects[neuron], 1e-5)
        sample = value(measured, "neuron_sample", index=index + 1, **where)
        assert sample.n == 1
        assert sample.value == pytest.approx(change[neuron].astype(float) @ acts[0] / np.linalg.norm(acts[0]), 1e-5)
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
    attacked = AnalysisConfig(
        nullspace=CONFIG, measurements=("behaviour", "attacks"), attacks=AttacksConfig(prompts=most + 1)
    )
    assert attacked.prompts_before == most + 1


def test_a_matrix_without_a_change_says_so(measured: list[Result]) -> None:
    found = [row for row in rows(measured) if row.module == "W_out" and row.layer == 1]
    missing = {row.metric for row in found if row.missing == "dW is zero"}
    assert missing == {*nullspace.COLUMNS, *nullspace.ROWS}
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
    angles = {"activation_angle_mean", "activation_angle_untuned_mean"}
    assert {row.metric for row in of_safe} == {*nullspace.ROWS, *nullspace.NEURONS, *angles}
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
