"""Tests of `analysis/edits/` of one model: end points, planted parts of dW, and a patch worked out by hand."""

from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import interventions
from analysis.edit import Fed, Label, Made, Weights
from analysis.edits.parts import PARTS, only, pieces, split, without, without_top
from analysis.edits.patches import Coordinates, Patched, with_coordinate
from analysis.edits.settings import InterventionsConfig
from analysis.observe import Observation
from analysis.rows import Result, Samples, Subject
from analysis.scores import Scores, generated, judge, read, scores, tried
from models.fork import fork
from models.taps import capture
from models.transformer import ModelConfig, Params, forward
from models.weights import flatten
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.segments import ANSWER, END
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World
from tests.analysis.planted import observation
from tests.models.one_by_one import one_by_one

FAMILIES = ("safe", "unsafe")
COUNT = 6
CONFIG = InterventionsConfig(prompts=COUNT, alphas=(0.0, 0.5, 1.0), top=(1, 3), draws=2)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def tuned(params: Params) -> Params:
    rng = np.random.default_rng(1)
    noise: Params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(leaf.dtype), params)
    return noise


@pytest.fixture(scope="module")
def batches(world: World, key: jax.Array) -> dict[str, Prompts]:
    """Safe prompts under both names: nothing here depends on what they say."""
    both = sequences.both(world, sample_batch(world, "safe", TEST, key, 2 * COUNT + 4))
    halves = slice(None, COUNT + 2), slice(COUNT + 2, None)
    return {name: Prompts(*jax.tree.map(itemgetter(half), both)) for name, half in zip(FAMILIES, halves, strict=True)}


@pytest.fixture(scope="module")
def prompts(batches: dict[str, Prompts]) -> Prompts:
    stacked: Prompts = jax.tree.map(lambda *x: jnp.stack([a[:COUNT] for a in x]), *batches.values())
    return stacked


@pytest.fixture(scope="module")
def observations(model: ModelConfig) -> dict[str, Observation]:
    rng = np.random.default_rng(2)
    return {family: observation(rng.standard_normal((15, model.layers, model.width))) for family in FAMILIES}


@pytest.fixture(scope="module")
def validation(model: ModelConfig) -> dict[str, Observation]:
    rng = np.random.default_rng(3)
    return {family: observation(rng.standard_normal((9, model.layers, model.width))) for family in FAMILIES}


@pytest.fixture(scope="module")
def subject(
    model: ModelConfig,
    params: Params,
    tuned: Params,
    batches: dict[str, Prompts],
    observations: dict[str, Observation],
    validation: dict[str, Observation],
    key: jax.Array,
) -> Subject:
    before = {family: seen.last for family, seen in observations.items()}
    return Subject(model, tuned, params, batches, observations, before, key, validation=validation)


@pytest.fixture(scope="module")
def measured(subject: Subject) -> list[Result]:
    return interventions.measure(subject, CONFIG)


@pytest.mark.parametrize(
    ("where", "mark"),
    [("attention", ".attn."), ("mlp", ".mlp."), ("W_in", ".mlp.W_in"), ("layer 2", "blocks.1."), ("W_pos", "W_pos")],
)
def test_a_change_kept_in_one_place(where: str, mark: str, params: Params, tuned: Params) -> None:
    kept, removed = flatten(only(params, tuned, where)), flatten(only(tuned, params, where))
    before, after = flatten(params), flatten(tuned)
    inside = {name for name in before if mark in name}
    assert 0 < len(inside) < len(before)
    for name in before:
        np.testing.assert_array_equal(kept[name], (after if name in inside else before)[name])
        np.testing.assert_array_equal(removed[name], (before if name in inside else after)[name])


def test_a_place_that_is_not_there(params: Params, tuned: Params) -> None:
    with pytest.raises(ValueError, match=r"where='layer 3': must be a place .* W_in, .* attention, .* layer 1"):
        only(params, tuned, "layer 3")


def test_the_split_is_the_projection_of_least_squares(rng: np.random.Generator) -> None:
    untuned = rng.standard_normal((9, 3)) @ rng.standard_normal((3, 5))
    change = rng.standard_normal((9, 5))
    inside, outside = split(change, untuned, 1 - 1e-9)
    np.testing.assert_allclose(inside + outside, change, rtol=0, atol=1e-14)
    fitted = untuned @ np.linalg.lstsq(untuned, change, rcond=1e-9)[0]
    np.testing.assert_allclose(inside, fitted, atol=1e-12)
    np.testing.assert_allclose(untuned.T @ outside, 0, atol=1e-12)
    planted = untuned @ rng.standard_normal((5, 5))
    np.testing.assert_allclose(split(planted, untuned, 1 - 1e-9)[1], 0, atol=1e-12)


def test_without_top_leaves_the_other_singular_terms(rng: np.random.Generator) -> None:
    change = rng.standard_normal((7, 4))
    left, values, right = np.linalg.svd(change, full_matrices=False)
    rest = sum((values[i] * np.outer(left[:, i], right[i]) for i in (2, 3)), np.zeros((7, 4)))
    np.testing.assert_allclose(without_top(change, 2), rest, atol=1e-12)
    np.testing.assert_allclose(without_top(change, 4), 0, atol=1e-12)
    direction = np.linalg.qr(rng.standard_normal((4, 1)))[0]
    np.testing.assert_allclose(without(change, direction) @ direction, 0, atol=1e-12)
    other = np.linalg.svd(direction)[0][:, 1:]
    np.testing.assert_allclose(without(change, direction) @ other, change @ other, atol=1e-12)


def test_controls_have_the_rank_and_the_norm_of_what_they_control(rng: np.random.Generator, key: jax.Array) -> None:
    untuned = rng.standard_normal((12, 4)) @ rng.standard_normal((4, 10))
    change = rng.standard_normal((12, 10))
    found: dict[str, list[np.ndarray]] = {}
    for place, part in pieces(change, untuned, CONFIG, key):
        found.setdefault(f"{place.intervention} {place.strength or ''}".strip(), []).append(part)
    assert np.linalg.matrix_rank(found["only columns"][0]) <= 4
    controls = {"only columns": "random columns", "without columns": "without random columns"}
    for name, control in controls.items():
        norm = np.linalg.norm(found[name][0])
        for plain, to_norm in zip(found[control], found[f"{control} scaled"], strict=True):
            assert np.linalg.matrix_rank(plain) == np.linalg.matrix_rank(found[name][0])
            assert np.linalg.norm(to_norm) == pytest.approx(norm)
            assert np.linalg.norm(plain) != pytest.approx(norm)
            np.testing.assert_allclose(to_norm / norm, plain / np.linalg.norm(plain))
    for draw in range(CONFIG.draws):
        parts = found["random columns"][draw], found["without random columns"][draw]
        np.testing.assert_allclose(parts[0] + parts[1], change, atol=1e-12)
        np.testing.assert_allclose(parts[0].T @ parts[1], 0, atol=1e-10)
        for k in CONFIG.top:
            removed = change - found[f"without random {k}"][draw]
            assert np.linalg.matrix_rank(removed) == k
            assert np.linalg.norm(removed) < np.linalg.norm(change - found[f"without top {k}"][0])
    assert np.abs(found["random columns"][0] - found["random columns"][1]).max() > 0.01


def test_no_change_has_no_parts(rng: np.random.Generator, key: jax.Array) -> None:
    for _, part in pieces(np.zeros((6, 4)), rng.standard_normal((6, 4)), CONFIG, key):
        assert not part.any()


def by_loop(logits: np.ndarray, prompts: Prompts) -> Scores:
    """Scores from logits [2 N, T, V], a token at a time."""
    exact, logp = [], []
    tokens = np.concatenate([batch.tokens for batch in prompts])
    roles = np.concatenate([batch.roles for batch in prompts])
    for row in range(len(tokens)):
        right, total = True, 0.0
        for t in range(1, tokens.shape[1]):
            if roles[row, t] in (ANSWER, END):
                before = logits[row, t - 1].astype(float)
                right = right and bool(before.argmax() == tokens[row, t])
                total += before[tokens[row, t]] - np.log(np.sum(np.exp(before)))
        exact.append(right)
        logp.append(total)
    half = len(exact) // 2
    return Scores(*(np.array(x) for x in (exact[:half], exact[half:], np.subtract(logp[:half], logp[half:]))))


def equal(found: Scores, expected: Scores) -> None:
    np.testing.assert_array_equal(found.complied, expected.complied)
    np.testing.assert_array_equal(found.refused, expected.refused)
    # Sums of a dozen log-probabilities in float32.
    np.testing.assert_allclose(found.log_odds, expected.log_odds, rtol=1e-4, atol=1e-4)


def family_of(tree: Any, family: int) -> Any:
    return jax.tree.map(lambda x: np.asarray(x[family]), tree)


def test_scores_are_those_of_a_loop(model: ModelConfig, tuned: Params, prompts: Prompts) -> None:
    found, run = scores(Weights(tuned, model), prompts), jax.jit(forward, static_argnums=0)
    for i in range(len(FAMILIES)):
        of_family = family_of(prompts, i)
        tokens = jnp.concatenate([batch.tokens for batch in of_family])
        equal(family_of(found, i), by_loop(np.asarray(run(model, tuned, tokens[:, :-1])), of_family))


def test_edits_that_differ_in_arrays_alone_are_compiled_once(
    model: ModelConfig, params: Params, tuned: Params, prompts: Prompts
) -> None:
    traced = []

    @jax.tree_util.register_dataclass
    @dataclass(frozen=True, eq=False)
    class Counted(Weights):
        def logits(self, fed: Fed) -> jax.Array:
            traced.append(fed)
            return super().logits(fed)

    made = [Made(Label("counted", i), partial(Counted, of, model)) for i, of in enumerate((params, tuned, params))]
    found = tried(made, prompts)
    equal(scores(Counted(tuned, model), prompts), scores(Weights(tuned, model), prompts))
    assert len(found) == 3
    assert len(traced) == 1


def test_a_model_that_says_what_is_asked_is_seen_to(model: ModelConfig, prompts: Prompts) -> None:
    """Logits of the compliant response, planted behind both: it complies, and refuses nowhere."""
    of_family = family_of(prompts, 0)
    forked = fork(model, *of_family)
    following = jnp.take_along_axis(of_family.complying.tokens, forked.layout.positions + 1, axis=1)
    logits = 5.0 * jax.nn.one_hot(following, int(of_family.complying.tokens.max()) + 1)
    found = judge(logits, forked)
    assert found.complied.all()
    assert not found.refused.any()
    assert (found.log_odds > 0).all()


@pytest.fixture(scope="module")
def axes(model: ModelConfig) -> jax.Array:
    """[L, A, F] two unit vectors a layer."""
    normal = np.random.default_rng(5).standard_normal((model.layers, 2, model.width))
    return jnp.asarray(normal / np.linalg.norm(normal, axis=-1, keepdims=True), jnp.float32)


def test_a_coordinate_is_set_and_nothing_else(rng: np.random.Generator) -> None:
    x = jnp.asarray(rng.standard_normal((3, 4, 5)), jnp.float32)
    axis = jnp.asarray(np.linalg.qr(rng.standard_normal((5, 1)))[0][:, 0], jnp.float32)
    values = jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)
    where = jnp.asarray(rng.random((3, 4)) < 0.5)
    moved = np.asarray(with_coordinate(x, axis, values, where))
    np.testing.assert_allclose((moved @ axis)[where], values[where], atol=1e-6)
    np.testing.assert_array_equal(moved[~where], x[~where])
    across = np.eye(5) - np.outer(axis, axis)
    np.testing.assert_allclose(moved @ across, x @ across, atol=1e-6)
    assert (np.asarray(with_coordinate(x, axis, x @ axis, where)) == x).all()


def test_a_run_patched_with_itself_or_nowhere_is_unchanged(
    model: ModelConfig, params: Params, tuned: Params, prompts: Prompts, axes: jax.Array
) -> None:
    plain = scores(Weights(params, model), prompts)
    own, other = (Coordinates(weights, axes, model, "resid_post") for weights in (params, tuned))
    everywhere = np.ones(model.layers, bool)
    for goal, at in ((own, everywhere), (other, ~everywhere)):
        edit = Patched(params, goal, np.int32(0), at)
        equal(scores(edit, prompts, read(goal, prompts)), plain)
    moved = scores(Patched(params, other, np.int32(0), everywhere), prompts, read(other, prompts))
    assert np.abs(moved.log_odds - plain.log_odds).min() > 1e-3


def test_what_is_read_once_for_several_patches_is_what_each_reads_itself(
    model: ModelConfig, params: Params, tuned: Params, prompts: Prompts, axes: jax.Array
) -> None:
    goal = Coordinates(tuned, axes, model, "resid_post")
    for which, at in ((0, np.array([True, False])), (1, np.array([True, True]))):
        edit = Patched(params, goal, np.int32(which), at)
        equal(scores(edit, prompts), scores(edit, prompts, read(goal, prompts)))


def test_a_patched_model_says_what_it_finds_likeliest_token_after_token(
    model: ModelConfig, params: Params, tuned: Params, prompts: Prompts, axes: jax.Array
) -> None:
    edit = Patched(params, Coordinates(tuned, axes, model, "resid_post"), np.int32(1), np.ones(model.layers, bool))
    said = np.asarray(generated(edit, prompts))
    own = np.asarray(generated(Weights(params, model), prompts))
    batch, logits = family_of(prompts.complying, 0), jax.jit(edit.logits)
    for i, (tokens, go) in enumerate(zip(batch.tokens.tolist(), batch.go, strict=True)):
        assert said[0, i].tolist() == one_by_one(lambda x, go=go: logits(Fed(x, go[None])), tokens, int(go))
    assert (said != own).any()


def test_a_patch_of_the_last_layer_by_hand(
    model: ModelConfig, params: Params, tuned: Params, prompts: Prompts, axes: jax.Array
) -> None:
    goal = Coordinates(tuned, axes, model, "resid_post")
    last, axis = model.layers - 1, np.asarray(axes[-1, 1])
    at = np.arange(model.layers) == last
    found = scores(Patched(params, goal, np.int32(1), at), prompts, read(goal, prompts))
    site, norm = f"blocks.{last}.resid_post", jax.tree.map(np.asarray, params["ln_final"])
    look = jax.jit(lambda p, tokens: capture(model, p, tokens, [site])[site])
    for i in range(len(FAMILIES)):
        of_family = family_of(prompts, i)
        tokens = jnp.concatenate([batch.tokens for batch in of_family])[:, :-1]
        go = np.concatenate([batch.go for batch in of_family])
        here, there = (np.array(look(p, tokens)) for p in (params, tuned))
        for row in range(len(here)):
            for t in range(go[row], here.shape[1]):
                here[row, t] += (there[row, t] @ axis - here[row, t] @ axis) * axis
        centred = here - here.mean(-1, keepdims=True)
        normed = centred / np.sqrt(np.mean(centred**2, -1, keepdims=True) + 1e-5) * norm["w"] + norm["b"]
        equal(family_of(found, i), by_loop(normed @ np.asarray(params["W_U"]), of_family))


def test_every_intervention_is_measured_on_every_family(measured: list[Result], model: ModelConfig) -> None:
    assert all(isinstance(result, Samples) and len(result.values) == COUNT for result in measured)
    found = {(result.intervention, result.strength, result.layer, result.module) for result in measured}
    assert len(measured) == len(found) * len(FAMILIES) * len(Scores._fields)
    columns = [f"{name}{end}" for name in ("random columns", "without random columns") for end in ("", " scaled")]
    columns += ["only columns", "without columns"]
    layers = range(1, model.layers + 1)
    patches = [f"patch {kind}to {goal}" for kind in ("", "random ") for goal in ("tuned", "untuned")]
    expected: set[tuple[str | None, float | None, int | None, str | None]] = {
        *(("only", None, None, where) for where in (*PARTS, "W_in", "W_out")),
        *(("only", None, layer, None) for layer in layers),
        *(("without", None, None, where) for where in PARTS),
        *((name, None, None, "W_in") for name in columns),
        *((f"without {kind}", k, None, "W_in") for kind in ("top", "random") for k in CONFIG.top),
        *((name, None, layer, "resid_post") for name in patches for layer in layers),
    }
    assert found == expected


def test_parts_and_patches_are_tried_on_the_families_asked_for(subject: Subject, measured: list[Result]) -> None:
    (family, *_) = FAMILIES
    results = interventions.measure(subject, replace(CONFIG, families=(family,)))
    expected = [r for r in measured if r.family == family]
    assert len(results) == len(expected) > 0
    for one, other in zip(results, expected, strict=True):
        assert isinstance(one, Samples)
        assert isinstance(other, Samples)
        assert replace(one, values=other.values) == replace(other, family=family)
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-4)


def test_a_change_in_one_place_is_that_model(
    measured: list[Result], model: ModelConfig, params: Params, tuned: Params, prompts: Prompts
) -> None:
    found = {(one.intervention, one.module, one.family, one.metric): one for one in measured}
    for name, weights in (("only", only(params, tuned, "mlp")), ("without", only(tuned, params, "mlp"))):
        expected = scores(Weights(weights, model), prompts)
        for i, family in enumerate(FAMILIES):
            for metric in Scores._fields:
                result = found[name, "mlp", family, metric]
                assert isinstance(result, Samples)
                np.testing.assert_array_equal(result.values, np.asarray(getattr(expected, metric)[i], float))


def test_the_patch_moves_along_the_axis_of_the_clusters(
    measured: list[Result], subject: Subject, validation: dict[str, Observation], prompts: Prompts
) -> None:
    means = [seen.last["resid_post"].mean(0) for seen in validation.values()]
    axis = (means[0] - means[1]) / np.linalg.norm(means[0] - means[1], axis=-1, keepdims=True)
    axes = jnp.asarray(axis, jnp.float32)
    model = subject.model
    goal = Coordinates(subject.reference, axes[:, None], model, "resid_post")
    expected = scores(Patched(subject.params, goal, np.int32(0), np.arange(model.layers) == 0), prompts)
    (found,) = [
        result
        for result in measured
        if (result.intervention, result.layer, result.metric, result.family)
        == ("patch to untuned", 1, "log_odds", "unsafe")
    ]
    assert isinstance(found, Samples)
    np.testing.assert_allclose(found.values, expected.log_odds[1], rtol=1e-4, atol=1e-4)


def test_the_axis_is_of_validation_prompts_alone(
    subject: Subject, observations: dict[str, Observation], validation: dict[str, Observation], measured: list[Result]
) -> None:
    def of_patches(results: list[Result], random: bool) -> dict[Any, Any]:
        prefix = "patch random" if random else "patch to"
        found = [one for one in results if isinstance(one, Samples) and str(one.intervention).startswith(prefix)]
        return {(one.intervention, one.layer, one.family, one.metric): one.values.tolist() for one in found}

    swapped = subject._replace(validation=observations), subject._replace(observations=validation)
    own, tried = (interventions.measure(one, CONFIG) for one in swapped)
    assert of_patches(tried, random=False) == of_patches(measured, random=False)
    assert of_patches(own, random=False) != of_patches(measured, random=False)
    assert of_patches(own, random=True) == of_patches(measured, random=True)


def test_the_untouched_model_has_no_rows(subject: Subject) -> None:
    assert interventions.measure(subject._replace(params=subject.reference), CONFIG) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"prompts": 0}, "prompts=0"),
        ({"draws": 0}, "draws=0"),
        ({"families": []}, r"families=\[\]: must name a family"),
        ({"families": ["sage"]}, "families=sage"),
        ({"alphas": [0.0, 0.5]}, "must contain 0 and 1"),
        ({"top": [1, 0]}, r"top=\[1, 0\]: must be at least 1"),
        ({"matrices": ["W_E"]}, "must be among W_in, W_out"),
        ({"site": "logits"}, "site=logits: must be one of"),
        ({"rank_share": 1.5}, "rank_share=1.5"),
    ],
)
def test_settings_out_of_range(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        InterventionsConfig(**setting)
