"""Tests of `analysis/multiples.py`: end points, and every statistic again from activations captured otherwise."""

from dataclasses import replace
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.metrics.pairwise import euclidean_distances

from analysis import interventions, multiples
from analysis.edit import Weights
from analysis.edits.mixtures import between, transfer
from analysis.edits.multiples import scaled
from analysis.edits.settings import InterventionsConfig
from analysis.rows import Result, Row, Samples, Subject
from analysis.scores import Scores, scores, stacked
from analysis.separability import SeparabilityConfig
from analysis.subspaces import column_basis
from analysis.suite import MEASUREMENTS, AnalysisConfig
from models.taps import capture
from models.transformer import ModelConfig, Params, forward
from models.weights import flatten
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World
from tests.analysis.planted import observation, value

FAMILIES = ("safe", "unsafe", "co_task")
COUNT = 6
CONFIG = InterventionsConfig(prompts=4, scan_prompts=COUNT, alphas=(0.0, 0.5, 1.0), top=(1,))
RIDGE = 1e-2


@pytest.fixture(scope="module")
def tuned(params: Params) -> Params:
    rng = np.random.default_rng(1)
    noise: Params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(leaf.dtype), params)
    return noise


@pytest.fixture(scope="module")
def subject(model: ModelConfig, params: Params, tuned: Params, world: World, key: jax.Array) -> Subject:
    """Safe prompts under three names: nothing here depends on what they say. Of the third there are the fewest."""
    both = sequences.both(world, sample_batch(world, "safe", TEST, key, 3 * COUNT + 1))
    parts = slice(0, COUNT), slice(COUNT, 2 * COUNT + 2), slice(2 * COUNT + 2, None)
    batches = {name: Prompts(*jax.tree.map(itemgetter(at), both)) for name, at in zip(FAMILIES, parts, strict=True)}
    rng = np.random.default_rng(2)
    seen = {family: observation(rng.standard_normal((9, model.layers, model.width))) for family in FAMILIES}
    before = {family: of.last for family, of in seen.items()}
    return Subject(model, tuned, params, batches, seen, before, key, validation=seen)


@pytest.fixture(scope="module")
def measured(subject: Subject) -> list[Result]:
    return multiples.measure(subject, CONFIG, RIDGE)


def same(one: Params, other: Params) -> bool:
    return bool(jax.tree.all(jax.tree.map(np.array_equal, one, other)))


def close(one: Params, other: Params) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)


def test_a_multiple_of_the_change_is_exact_at_both_ends(params: Params, tuned: Params) -> None:
    assert same(scaled(params, tuned, 0.0), params)
    assert same(scaled(params, tuned, 1.0), tuned)
    beyond = flatten(scaled(params, tuned, 1.5))
    for name, w in flatten(params).items():
        np.testing.assert_allclose(beyond[name], w + 1.5 * (flatten(tuned)[name] - w), rtol=1e-5, atol=1e-6)


def test_between_goes_from_one_to_the_other(params: Params, tuned: Params) -> None:
    assert same(between(params, tuned, 0.0), params)
    close(between(params, tuned, 0.25), between(tuned, params, 0.75))


def test_a_change_transferred_to_its_own_origin_gives_its_own_model(params: Params, tuned: Params) -> None:
    assert same(transfer(tuned, params, tuned, 0.0), tuned)
    close(transfer(params, params, tuned, 1.0), tuned)
    close(transfer(tuned, params, tuned, -1.0), params)
    close(transfer(tuned, tuned, params, 0.5), between(tuned, params, 0.5))


def test_behaviour_at_the_ends_is_the_end_models(
    measured: list[Result], subject: Subject, model: ModelConfig, params: Params, tuned: Params
) -> None:
    prompts = stacked(subject.prompts, CONFIG.prompts)
    assert prompts.complying.tokens.shape[:2] == (3, 4)
    for alpha, weights in ((0.0, params), (1.0, tuned)):
        expected = scores(Weights(weights, model), prompts)
        for i, family in enumerate(FAMILIES):
            for metric in Scores._fields:
                (found,) = [r for r in measured if (r.strength, r.family, r.metric) == (alpha, family, metric)]
                assert found.intervention == "alpha"
                assert isinstance(found, Samples)
                np.testing.assert_array_equal(found.values, np.asarray(getattr(expected, metric)[i], float))


def test_parts_are_tried_on_the_prompts_of_alpha_0(subject: Subject) -> None:
    """So that what a part carries is a difference between the same prompts, however few another family has."""
    config = replace(CONFIG, prompts=9)
    whole = multiples.measure(subject, config, RIDGE)
    parts = interventions.measure(subject._replace(params={**subject.reference}), config)
    checked = 0
    for family, metric in ((family, metric) for family in ("safe", "unsafe") for metric in Scores._fields):
        (start,) = [r for r in whole if (r.strength, r.family, r.metric) == (0, family, metric)]
        same = [r for r in parts if (r.family, r.metric) == (family, metric) and str(r.intervention).startswith("only")]
        assert isinstance(start, Samples)
        assert len(start.values) == 5
        for part in same:
            # dW is zero: with any part of it the model is the untuned one.
            assert isinstance(part, Samples)
            np.testing.assert_allclose(part.values, start.values, rtol=1e-4, atol=1e-4)
            checked += 1
    assert checked > 20


def held(model: ModelConfig, params: Params, prompts: Prompts, layer: int) -> np.ndarray:
    """[N, F] before the second MLP matrix at EOT, from activations at every position."""
    site = f"blocks.{layer}.mlp.post"
    seen = capture(model, params, prompts.complying.tokens, [site])[site]
    return np.asarray(seen, float)[np.arange(len(seen)), np.asarray(prompts.complying.go)]


@pytest.mark.parametrize("alpha", CONFIG.alphas)
def test_what_the_model_holds_is_measured_of_its_own_activations(
    measured: list[Result], subject: Subject, model: ModelConfig, alpha: float
) -> None:
    weights = jax.tree.map(
        lambda w, t: (w + alpha * (np.asarray(t, float) - w)).astype(w.dtype), subject.reference, subject.params
    )
    first: dict[str, Prompts] = {
        name: jax.tree.map(lambda x: x[:COUNT], subject.prompts[name]) for name in ("safe", "unsafe")
    }
    for layer in range(model.layers):
        where: dict[str, Any] = {"layer": layer + 1, "module": "mlp.post_last", "strength": alpha}
        safe, unsafe = (held(model, weights, first[name], layer) for name in ("safe", "unsafe"))
        means = np.stack([safe.mean(0), unsafe.mean(0)])
        to_safe, to_unsafe = euclidean_distances(np.concatenate([safe, unsafe]), means).T
        tau = to_unsafe - to_safe
        separation = tau[:COUNT].mean() - tau[COUNT:].mean()
        found = value(measured, "separation", **where)
        assert (found.value, found.n) == (pytest.approx(separation, rel=1e-3), 2 * COUNT)
        residuals = np.concatenate([safe - means[0], unsafe - means[1]])
        spread = np.sqrt(np.mean(np.sum(residuals**2, axis=1)))
        assert value(measured, "separation_scaled", **where).value == pytest.approx(separation / spread, rel=1e-3)
        total, within = np.cov(np.concatenate([safe, unsafe]).T, bias=True), residuals.T @ residuals / (2 * COUNT)
        gap = means[0] - means[1]
        direction = np.linalg.solve(within + RIDGE * np.trace(total) * np.eye(len(within)), gap)
        criterion = (direction @ gap) ** 2 / (direction @ within @ direction)
        assert value(measured, "fisher", **where).value == pytest.approx(criterion, rel=1e-2)
        for name, rows in (("safe", safe), ("unsafe", unsafe)):
            values = np.linalg.svd(np.cov(rows.T, bias=True), compute_uv=False)
            share = value(measured, "spectral_share", family=name, **where)
            assert (share.value, share.n) == (pytest.approx(values[0] / values.sum(), rel=1e-3), COUNT)
            bases = [column_basis(of.T) for of in (rows, held(model, subject.reference, first[name], layer))]
            angle = value(measured, "activation_angle", family=name, **where)
            sines = [np.sin(subspace_angles(vector[:, None], bases[1])[0]) for vector in bases[0].T]
            assert (angle.value, angle.n) == (pytest.approx(np.mean(sines), abs=2e-3), len(sines))


@pytest.mark.parametrize("alpha", CONFIG.alphas)
def test_lipschitzness_of_a_multiple_by_its_own_gradient(
    measured: list[Result], subject: Subject, model: ModelConfig, alpha: float
) -> None:
    """One prompt after another, of what stands up to EOT alone."""
    weights = scaled(subject.reference, subject.params, alpha)
    for name in ("safe", "unsafe"):
        batch = subject.prompts[name].complying
        norms = []
        for i in range(COUNT):
            tokens = jnp.asarray(batch.tokens[i, : int(batch.go[i]) + 1])[None]

            def largest(x: jax.Array, tokens: jax.Array = tokens) -> jax.Array:
                return jnp.max(forward(model, weights, tokens, lambda site, at: x if site == "embed" else at)[0, -1])

            start = capture(model, weights, tokens, ["embed"])["embed"]
            norms.append(np.linalg.norm(jax.grad(largest)(start)))
        found = value(measured, "lipschitz", family=name, strength=alpha)
        assert (found.value, found.n) == (pytest.approx(np.mean(norms), rel=1e-4), COUNT)


def test_without_a_change_there_is_no_angle_and_with_more_of_it_a_larger_one(
    measured: list[Result], model: ModelConfig
) -> None:
    for layer in range(model.layers):
        angles = [
            value(measured, "activation_angle", family="unsafe", layer=layer + 1, strength=alpha).value
            for alpha in CONFIG.alphas
        ]
        assert angles[0] < 1e-6
        assert angles[2] > angles[0]


def test_activations_are_of_safe_and_unsafe_prompts_and_the_families_asked_for(
    measured: list[Result], subject: Subject
) -> None:
    of_all = {"complied", "refused", "log_odds"}
    assert {r.family for r in measured if r.metric in of_all} == set(FAMILIES)
    assert {r.family for r in measured if r.metric not in of_all} == {None, "safe", "unsafe"}
    for families in (("co_task",), None):
        more = multiples.measure(subject, replace(CONFIG, families=families, alphas=(0.0, 1.0)), RIDGE)
        for metric in ("lipschitz", "activation_angle"):
            assert {r.family for r in more if r.metric == metric} == set(FAMILIES)


def test_a_model_that_overflows_says_why(subject: Subject) -> None:
    broken = jax.tree.map(lambda w: w * np.float32("nan"), subject.params)
    found = multiples.measure(subject._replace(params=broken), CONFIG, RIDGE)
    rows = [r for r in found if isinstance(r, Row)]
    assert {r.strength for r in rows if r.missing} == {0, 0.5, 1}
    for one in rows:
        assert np.isnan(one.value) == (one.missing is not None)
        if one.missing:
            assert "not finite" in one.missing


def test_dead_activations_say_why(subject: Subject) -> None:
    """Nothing reaches the second MLP matrix: there is no spread and nothing is spanned."""
    dead = {
        **subject.reference,
        "blocks": {
            name: block
            | {"mlp": block["mlp"] | {"W_in": block["mlp"]["W_in"] * 0, "b_in": block["mlp"]["b_in"] * 0 - 1e4}}
            for name, block in subject.reference["blocks"].items()
        },
    }
    found = multiples.measure(subject._replace(params={**dead}, reference=dead), CONFIG, RIDGE)
    reasons = {(r.metric, r.missing) for r in found if isinstance(r, Row) and r.missing}
    assert reasons == {
        ("separation_scaled", "the clusters have no spread"),
        ("fisher", "the clusters have no spread"),
        ("spectral_share", "the clusters have no spread"),
        ("activation_angle", "activations are not finite, or all zero"),
    }
    assert all(value(found, "separation", layer=1, strength=a).value == 0 for a in CONFIG.alphas)


def test_the_suite_gives_them_the_settings_of_interventions_and_fishers_ridge(
    subject: Subject, measured: list[Result]
) -> None:
    config = AnalysisConfig(interventions=CONFIG, separability=SeparabilityConfig(ridge=RIDGE))
    row = MEASUREMENTS["multiples"]
    assert row.given(config) == {"interventions": CONFIG, "separability.ridge": RIDGE}
    found = row.measure(subject, *row.given(config).values())
    assert [result.metric for result in found] == [result.metric for result in measured]


def test_the_untouched_model_has_no_rows(subject: Subject) -> None:
    assert multiples.measure(subject._replace(params=subject.reference), CONFIG, RIDGE) == []


def test_a_prompt_at_least_must_be_scanned() -> None:
    with pytest.raises(SettingError, match="scan_prompts=0: must be at least 1"):
        InterventionsConfig(scan_prompts=0)
