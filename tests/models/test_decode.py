"""Tests of `models/decode.py` against generation token by token, and against a loop over tokens."""

import functools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from models.decode import greedy, teacher_forced
from models.transformer import ModelConfig, Params, forward
from synth import sequences, vocab
from synth.lookup import sample_batch
from synth.prompts import TRAIN
from synth.segments import ANSWER, END, Batch
from synth.world import World
from tests.models.one_by_one import one_by_one

SIZE = 12


@functools.cache
def compiled(model: ModelConfig) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(forward, model))


@functools.cache
def continuing(model: ModelConfig) -> Callable[..., jax.Array]:
    return jax.jit(lambda params, *prompts: greedy(functools.partial(forward, model, params), *prompts, vocab.MARKS))


def responses(batch: Batch) -> list[tuple[int, list[int], list[int]]]:
    """Of each sequence its number, its tokens, and the places of its response, EOS included."""
    rows = zip(np.asarray(batch.tokens).tolist(), np.asarray(batch.roles).tolist(), strict=True)
    return [
        (i, tokens, [t for t in range(len(tokens)) if roles[t] in (ANSWER, END)])
        for i, (tokens, roles) in enumerate(rows)
    ]


def generated(model: ModelConfig, params: Params, batch: Batch) -> list[bool]:
    """Whether each response of `batch` is what the model generates."""
    said = np.asarray(continuing(model)(params, batch.tokens, batch.go)).tolist()
    return [all(said[i][t] == tokens[t] for t in places) for i, tokens, places in responses(batch)]


def loglikelihood(model: ModelConfig, params: Params, batch: Batch) -> list[float]:
    """log p of each response of `batch`, by a loop over its tokens."""
    logits = log_softmax(np.asarray(compiled(model)(params, batch.tokens), np.float64), axis=-1)
    return [sum(logits[i, t - 1, tokens[t]] for t in places) for i, tokens, places in responses(batch)]


@pytest.fixture(scope="module")
def batch(world: World, key: jax.Array) -> Batch:
    return sequences.both(world, sample_batch(world, "pretraining", TRAIN, key, SIZE))[0]


@pytest.fixture(scope="module")
def eager(params: Params) -> Params:
    """Weights that often say EOS."""
    return {**params, "W_U": params["W_U"].at[:, vocab.EOS].multiply(30.0), "W_E": params["W_E"] * 2.0}


def test_equals_generation_token_by_token(batch: Batch, model: ModelConfig, params: Params, eager: Params) -> None:
    ended = 0
    for weights in (params, eager):
        said = continuing(model)(weights, batch.tokens, batch.go)
        for i in range(SIZE):
            expected = one_by_one(partial(compiled(model), weights), batch.tokens[i].tolist(), int(batch.go[i]))
            assert said[i].tolist() == expected
            ended += expected[-1] == vocab.PAD
    assert ended > 0


def test_the_first_guess_does_not_matter(batch: Batch, model: ModelConfig, params: Params) -> None:
    behind = np.arange(batch.tokens.shape[1]) > np.asarray(batch.go)[:, None]
    blank = jnp.where(behind, vocab.EOS, batch.tokens)
    own = continuing(model)(params, batch.tokens, batch.go)
    assert (continuing(model)(params, blank, batch.go) == own).all()


def test_what_ends_a_response_is_the_marks_of_its_vocabulary(batch: Batch, model: ModelConfig, eager: Params) -> None:
    """The same model and prompts, with every id another one."""
    ids = np.random.default_rng(0).permutation(eager["W_E"].shape[0])
    back = np.argsort(ids)
    renamed = {**eager, "W_E": eager["W_E"][back], "W_U": eager["W_U"][:, back]}
    marks = vocab.Marks(*(int(ids[token]) for token in (vocab.BOS, vocab.EOS, vocab.PAD)))
    assert marks.eos != vocab.EOS
    said = jax.jit(lambda tokens, go: greedy(partial(forward, model, renamed), tokens, go, marks))
    found = said(jnp.asarray(ids)[batch.tokens], batch.go)
    expected = np.asarray(continuing(model)(eager, batch.tokens, batch.go))
    assert (expected[:, -1] == vocab.PAD).any()
    assert (np.asarray(found) == ids[expected]).all()


def test_a_forced_response_is_exact_when_it_is_what_is_generated(
    batch: Batch, model: ModelConfig, params: Params, eager: Params
) -> None:
    """Responses of the model's own, some of them with one token changed, and others."""
    force = jax.jit(functools.partial(teacher_forced, model))
    for weights in (params, eager):
        said = np.array(continuing(model)(weights, batch.tokens, batch.go))
        own = batch._replace(tokens=jnp.asarray(said))
        # In two rows the last letter is another: all but one are the likeliest.
        ends = np.asarray(batch.roles == END).argmax(axis=1)
        said[np.arange(2), ends[:2] - 1] += 1
        for candidate, least in ((own, SIZE), (own._replace(tokens=jnp.asarray(said)), SIZE - 2), (batch, 0)):
            forced = force(weights, candidate)
            assert np.asarray(forced.exact).tolist() == generated(model, weights, candidate)
            assert np.sum(forced.exact) == least
            np.testing.assert_allclose(forced.logp, loglikelihood(model, weights, candidate), rtol=2e-6, atol=2e-5)
            best = np.asarray(compiled(model)(weights, candidate.tokens)).argmax(axis=-1)
            letters = np.asarray(candidate.roles) == ANSWER
            for i, tokens, _ in responses(candidate):
                places = np.flatnonzero(letters[i])
                hits = [best[i, t - 1] == tokens[t] for t in places]
                np.testing.assert_allclose(forced.accuracy[i], np.mean(hits), rtol=1e-6)
