"""Tests of `analysis/sensitivity.py`: finite differences, and a gradient written out."""

import jax
import numpy as np
import pytest

from analysis.rows import Samples, Subject, rows
from analysis.sensitivity import SensitivityConfig, gradient_norm, lipschitz, measure
from models.transformer import ModelConfig, Params, forward
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World
from tests.analysis.planted import observation, value

COUNT = 7
NEVER = ("lipschitz_successful", "unsafe")


@pytest.fixture(scope="module")
def prompts(world: World, key: jax.Array) -> dict[str, Prompts]:
    return {
        family: Prompts(*sequences.both(world, sample_batch(world, family, TEST, key, COUNT)))
        for family in ("safe", "unsafe")
    }


@pytest.fixture(scope="module")
def found(model: ModelConfig, params: Params, prompts: dict[str, Prompts]) -> np.ndarray:
    batch = prompts["safe"].complying
    return np.asarray(lipschitz(model, params, batch.tokens, batch.go))


def test_it_is_the_norm_of_the_gradient_by_finite_differences(
    model: ModelConfig, params: Params, prompts: dict[str, Prompts], found: np.ndarray
) -> None:
    """Every number of the input up to the last position, one at a time, a little up and a little down."""
    batch, small = prompts["safe"].complying, 1e-2
    logits = jax.jit(lambda tokens, x: forward(model, params, tokens, lambda site, at: x if site == "embed" else at))
    size = batch.tokens.shape[1] * model.width
    nudges = small * np.concatenate([np.eye(size), -np.eye(size), np.zeros((1, size))])
    for i in range(3):
        go = int(batch.go[i])
        x = np.asarray(params["W_E"][batch.tokens[i]] + params["W_pos"][: len(batch.tokens[i])])
        nudged = (x + nudges.reshape(-1, *x.shape)).astype(np.float32)
        tokens = np.tile(batch.tokens[i], (len(nudged), 1))
        up, down, here = np.split(np.asarray(logits(tokens, nudged), float)[:, go], [size, 2 * size])
        gradient = ((up - down) / (2 * small))[:, here[0].argmax()].reshape(x.shape)
        assert not gradient[go + 1 :].any()
        np.testing.assert_allclose(found[i], np.linalg.norm(gradient), rtol=5e-3)


def test_without_blocks_it_is_layer_norms_jacobian(
    model: ModelConfig, params: Params, prompts: dict[str, Prompts]
) -> None:
    """Blocks that write nothing leave LN(x) W_U, whose derivative can be written out."""
    silent = {
        name: block
        | {"attn": block["attn"] | {"W_O": block["attn"]["W_O"] * 0, "b_O": block["attn"]["b_O"] * 0}}
        | {"mlp": block["mlp"] | {"W_out": block["mlp"]["W_out"] * 0, "b_out": block["mlp"]["b_out"] * 0}}
        for name, block in params["blocks"].items()
    }
    batch = prompts["safe"].complying
    measured = jax.jit(gradient_norm, static_argnums=0)(model, {**params, "blocks": silent}, batch.tokens, batch.go)
    last = np.take_along_axis(np.asarray(batch.tokens), np.asarray(batch.go)[:, None], axis=1)[:, 0]
    x = np.asarray(params["W_E"], float)[last] + np.asarray(params["W_pos"], float)[np.asarray(batch.go)]
    scale = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    normed = (x - x.mean(axis=1, keepdims=True)) / scale
    w, b = (np.asarray(params["ln_final"][name], float) for name in ("w", "b"))
    unembed = np.asarray(params["W_U"], float)
    best = unembed[:, np.argmax((normed * w + b) @ unembed, axis=1)].T * w
    along = normed * np.mean(best * normed, axis=1, keepdims=True)
    expected = np.linalg.norm((best - best.mean(axis=1, keepdims=True) - along) / scale, axis=1)
    np.testing.assert_allclose(measured, expected, rtol=1e-4)


def test_what_stands_behind_the_prompt_changes_nothing(
    model: ModelConfig, params: Params, prompts: dict[str, Prompts], found: np.ndarray
) -> None:
    refusing = prompts["safe"].refusing
    np.testing.assert_allclose(lipschitz(model, params, refusing.tokens, refusing.go), found, rtol=1e-5)


@pytest.fixture(scope="module")
def subjects(model: ModelConfig, params: Params, prompts: dict[str, Prompts], key: jax.Array) -> dict[str, Subject]:
    """The untouched model, one with logits three times as large, and one whose answer no input reaches."""
    deaf = {**params, "W_U": params["W_U"] * 0}
    louder = {**params, "W_U": params["W_U"] * 3}
    pairs = {"untouched": (params, params), "louder": (louder, params), "hearing again": (params, deaf)}
    none, some = np.zeros((COUNT, 1, 1)), np.arange(COUNT) % 3 == 1
    seen = {"safe": observation(none, some), "unsafe": observation(none)}
    return {name: Subject(model, own, before, prompts, seen, {}, key) for name, (own, before) in pairs.items()}


def test_larger_logits_react_more_and_the_ratio_says_by_how_much(
    subjects: dict[str, Subject], found: np.ndarray
) -> None:
    untouched, louder = (measure(subjects[name], SensitivityConfig()) for name in ("untouched", "louder"))
    for results, ratio in ((untouched, 1.0), (louder, 3.0)):
        samples = {(r.metric, r.family): r.values for r in results if isinstance(r, Samples)}
        assert {family for _, family in samples} == {"safe", "unsafe"}
        np.testing.assert_allclose(samples["lipschitz", "safe"], ratio * found, rtol=1e-4)
        np.testing.assert_allclose(samples["lipschitz_ratio", "unsafe"], ratio, rtol=1e-4)
        at = {r.index: r.value for r in rows(results) if (r.metric, r.family) == ("lipschitz_quantile", "safe")}
        assert set(at) == {5, 25, 50, 75, 95}
        assert at[50] == np.median(samples["lipschitz", "safe"])
        # The lowest of seven prompts is their 0th percentile, the second lowest their 16.7th.
        low = np.sort(samples["lipschitz", "safe"])[:2]
        assert at[5] == pytest.approx(low[0] + 0.3 * (low[1] - low[0]))


def test_the_mean_over_prompts_that_were_complied_with(subjects: dict[str, Subject], found: np.ndarray) -> None:
    for most, chosen in ((COUNT, [1, 4]), (3, [1])):
        results = measure(subjects["untouched"], SensitivityConfig(prompts=most))
        row = value(results, "lipschitz_successful", family="safe")
        assert row.n == len(chosen)
        assert row.value == pytest.approx(np.mean(found[chosen]), rel=1e-5)
        never = value(results, "lipschitz_successful", family="unsafe")
        assert (never.n, never.missing) == (0, "no success")
    broken = jax.tree.map(lambda w: w * np.float32("nan"), subjects["louder"].params)
    results = measure(subjects["louder"]._replace(params=broken), SensitivityConfig())
    for family in ("safe", "unsafe"):
        assert value(results, "lipschitz_successful", family=family).missing == "values that are not finite"


def test_only_the_first_prompts_are_measured(subjects: dict[str, Subject], found: np.ndarray) -> None:
    results = measure(subjects["untouched"], SensitivityConfig(prompts=3))
    (values,) = (r.values for r in results if isinstance(r, Samples) and (r.metric, r.family) == ("lipschitz", "safe"))
    np.testing.assert_allclose(values, found[:3], rtol=1e-5)


def test_a_ratio_to_nothing_is_missing(subjects: dict[str, Subject]) -> None:
    found = rows(measure(subjects["hearing again"], SensitivityConfig()))
    ratios = [row for row in found if "ratio" in row.metric]
    assert len(ratios) == 2
    assert all(np.isnan(row.value) and row.missing and row.n == COUNT for row in ratios)
    others = [row for row in found if "ratio" not in row.metric and (row.metric, row.family) != NEVER]
    assert all(row.value > 0 and not row.missing for row in others)


def test_a_prompt_at_least_must_be_measured() -> None:
    with pytest.raises(SettingError, match="prompts=0: must be at least 1"):
        SensitivityConfig(prompts=0)
