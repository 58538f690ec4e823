"""The residual stream without a direction, with one added or set: against NumPy, and by taps as by weights."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from analysis.edit import Fed, Weights
from analysis.edits.directions import EVERYWHERE, Ablated, Added, Recentred, orthogonalised
from analysis.refusal import ablating, at_layer, refusal_log_odds, resting, stream, tried, without, written
from models.taps import capture, edit
from models.transformer import ModelConfig, Params, init
from synth import sequences
from synth.keys import fold
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.segments import Batch
from synth.world import World

SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {},
    "tied": {"tied": True},
    "sinusoid": {"positions": "sinusoid"},
    "rotary": {"positions": "rotary"},
    "llama": {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "biases": False, "kv_heads": 1},
}


@pytest.fixture(scope="module")
def batch(world: World, key: jax.Array) -> Batch:
    return sequences.both(world, sample_batch(world, "unsafe", TEST, key, 4))[0]


@pytest.fixture(scope="module")
def fed(batch: Batch) -> Fed:
    return Fed(batch.tokens[:, :-1], batch.go)


@pytest.fixture(scope="module")
def basis(model: ModelConfig) -> np.ndarray:
    """[2, D] orthonormal rows."""
    return np.linalg.qr(np.random.default_rng(3).standard_normal((model.width, 2)))[0].T


def noisy(model: ModelConfig, world: World, key: jax.Array) -> Params:
    leaves, tree = jax.tree.flatten(init(model, world.vocab.size, key))
    return jax.tree.unflatten(
        tree, [leaf + 0.3 * jax.random.normal(fold(key, i), leaf.shape) for i, leaf in enumerate(leaves)]
    )


def test_the_metric_is_the_log_odds_of_the_set() -> None:
    logits = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    refusal = np.array([True, False, False, True, False, False])
    expected = logsumexp(logits[..., refusal], axis=-1) - logsumexp(logits[..., ~refusal], axis=-1)
    np.testing.assert_allclose(refusal_log_odds(jnp.asarray(logits), jnp.asarray(refusal)), expected, rtol=1e-5)
    # Of one token of two that is the difference of their logits.
    two = refusal_log_odds(jnp.array([3.0, 1.0]), jnp.array([True, False]))
    assert float(two) == pytest.approx(2.0)


def test_what_is_left_has_nothing_along_the_basis(basis: np.ndarray) -> None:
    x = np.random.default_rng(1).standard_normal((5, basis.shape[1]))
    padded = np.concatenate([basis, np.zeros_like(basis)])
    left = np.asarray(without(jnp.asarray(x, jnp.float32), jnp.asarray(padded, jnp.float32)))
    np.testing.assert_allclose(left, x @ (np.eye(basis.shape[1]) - basis.T @ basis), atol=1e-5)
    np.testing.assert_allclose(left @ basis.T, 0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_by_taps_and_by_weights_it_is_the_same_model(
    shape: str, world: World, model: ModelConfig, fed: Fed, basis: np.ndarray, key: jax.Array
) -> None:
    config = replace(model, **SHAPES[shape])
    params = noisy(config, world, key)
    ablated = Ablated(params, jnp.asarray(basis, jnp.float32), config).logits(fed)
    np.testing.assert_allclose(orthogonalised(config, params, basis).logits(fed), ablated, rtol=1e-4, atol=2e-4)
    assert np.abs(ablated - Weights(params, config).logits(fed)).max() > 0.1


def test_a_block_whose_norm_writes_to_the_stream_has_no_such_weights(
    world: World, model: ModelConfig, basis: np.ndarray, key: jax.Array
) -> None:
    config = replace(model, reference_block=True)
    with pytest.raises(ValueError, match="reference_block=true: its LayerNorm writes"):
        orthogonalised(config, noisy(config, world, key), basis)


def test_the_stream_is_what_each_layer_reads(model: ModelConfig, params: Params, fed: Fed, basis: np.ndarray) -> None:
    names = [f"blocks.{i}.resid_pre" for i in range(model.layers)]
    seen = capture(model, params, fed.tokens, names)
    nothing = jnp.zeros((2, model.width))
    found = stream(model, params, fed, nothing, (-1, 0, 2))
    for i, name in enumerate(names):
        for j, position in enumerate((-1, 0, 2)):
            expected = seen[name][jnp.arange(len(fed.go)), fed.go + position]
            np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-5, atol=1e-5)
    ablated = stream(model, params, fed, jnp.asarray(basis, jnp.float32), (0,))
    np.testing.assert_allclose(ablated[:, 1:] @ basis.T, 0, atol=1e-5)


def test_adding_and_taking_away_is_nothing(model: ModelConfig, params: Params, fed: Fed) -> None:
    vector = jnp.asarray(np.random.default_rng(2).standard_normal(model.width), jnp.float32)
    plain = Weights(params, model).logits(fed)
    both = Added(params, at_layer(model, vector, 1) - at_layer(model, vector, 1), np.int32(EVERYWHERE), model)
    np.testing.assert_array_equal(both.logits(fed), plain)
    added = Added(params, at_layer(model, vector, 1), np.int32(EVERYWHERE), model)
    taps = {"blocks.1.resid_pre": lambda x: x + jnp.broadcast_to(vector, x.shape)}
    np.testing.assert_allclose(added.logits(fed), edit(model, params, fed.tokens, taps), rtol=1e-5, atol=1e-5)
    # What is added to the prompt alone reaches what comes behind it by attention only.
    before = Added(params, at_layer(model, vector, 1), np.int32(-1), model).logits(fed)
    behind = np.arange(fed.tokens.shape[1])[None] >= np.asarray(fed.go)[:, None]
    np.testing.assert_allclose(
        np.asarray(before)[~behind], np.asarray(added.logits(fed))[~behind], rtol=1e-5, atol=1e-5
    )
    assert np.abs(before - added.logits(fed))[behind].max() > 0.1


def test_coordinates_are_set_to_the_means_of_the_chosen(
    model: ModelConfig, params: Params, fed: Fed, basis: np.ndarray
) -> None:
    chosen, reach = jnp.array([True, False, True, True]), 3
    means = np.asarray(resting(model, params, fed, chosen, reach))
    names = written(model)
    seen = capture(model, params, fed.tokens, names)
    for i, name in enumerate(names):
        for r in range(reach):
            at = np.asarray(seen[name])[np.arange(4), np.asarray(fed.go) + r]
            np.testing.assert_allclose(means[i, r], at[np.asarray(chosen)].mean(axis=0), rtol=1e-4, atol=1e-5)
    wanted = means @ basis.T
    recentred = Recentred(params, jnp.asarray(basis, jnp.float32), jnp.asarray(wanted), model)
    plain = np.asarray(Weights(params, model).logits(fed))
    found = np.asarray(recentred.logits(fed))
    behind = np.arange(fed.tokens.shape[1])[None] >= np.asarray(fed.go)[:, None]
    np.testing.assert_allclose(found[~behind], plain[~behind], rtol=1e-5, atol=1e-5)
    assert np.abs(found - plain)[behind].max() > 0.1
    # One prompt alone has its own means, and stays as it is.
    alone = resting(model, params, fed, jnp.array([True, False, False, False]), fed.tokens.shape[1])
    same = Recentred(params, jnp.asarray(basis, jnp.float32), alone @ jnp.asarray(basis.T, jnp.float32), model)
    np.testing.assert_allclose(np.asarray(same.logits(fed))[0], plain[0], rtol=1e-3, atol=1e-3)


def test_scores_are_those_of_the_edited_models(
    model: ModelConfig, params: Params, fed: Fed, basis: np.ndarray, world: World
) -> None:
    vectors = 2 * np.random.default_rng(4).standard_normal((3, model.width))
    layers, unsafe = np.array([0, 1, 1]), np.array([True, True, False, False])
    refusal = np.arange(world.vocab.size) < 3
    beside = basis[:1]
    vectors = vectors - (vectors @ beside.T) @ beside
    arrays = [jnp.asarray(x, jnp.float32) for x in (vectors, beside)]
    found = tried(
        model,
        params,
        fed,
        (jnp.asarray(unsafe), jnp.asarray(~unsafe)),
        refusal,
        arrays[0],
        jnp.asarray(layers),
        arrays[1],
    )

    def first(logits: jax.Array) -> np.ndarray:
        return log_softmax(np.asarray(logits, float)[np.arange(4), np.asarray(fed.go)], axis=-1)

    def odds(logs: np.ndarray) -> np.ndarray:
        return logsumexp(logs[:, refusal], axis=1) - logsumexp(logs[:, ~refusal], axis=1)

    before = first(Weights(params, model).logits(fed))
    for i, vector in enumerate(vectors):
        both = jnp.asarray(np.stack([beside[0], vector / np.linalg.norm(vector)]), jnp.float32)
        ablated = first(edit(model, params, fed.tokens, ablating(model, both)))
        shift = at_layer(model, jnp.asarray(vector, jnp.float32), int(layers[i]))
        added = first(Added(params, shift, np.int32(EVERYWHERE), model).logits(fed))
        kl = (np.exp(before) * (before - ablated)).sum(axis=1)
        expected = odds(ablated)[unsafe].mean(), odds(added)[~unsafe].mean(), kl[~unsafe].mean()
        np.testing.assert_allclose([of[i] for of in found], expected, rtol=1e-3, atol=1e-4)
