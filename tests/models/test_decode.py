"""Tests of `models/decode.py` against generation token by token."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from models.decode import greedy
from models.transformer import ModelConfig, Params, forward
from synth import sequences, vocab
from synth.families import sample_batch
from synth.prompts import TRAIN
from synth.sequences import Batch
from synth.world import World


@functools.cache
def compiled(model: ModelConfig) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(forward, model))


def one_by_one(model: ModelConfig, params: Params, tokens: list[int], go: int) -> list[int]:
    """Greedy continuation of one prompt, a forward pass for every token."""
    out, length = tokens[: go + 1], len(tokens)
    logits = compiled(model)
    while len(out) < length and out[-1] != vocab.EOS:
        padded = np.array([out + [vocab.PAD] * (length - 1 - len(out))], np.int32)
        out.append(int(np.argmax(logits(params, padded)[0, len(out) - 1])))
    return out + [vocab.PAD] * (length - len(out))


def batch_of(world: World, key: jax.Array, size: int) -> Batch:
    prompts = sample_batch(world, "pretraining", TRAIN, key, size)
    return sequences.both(world, prompts)[0]


def test_equals_generation_token_by_token(world: World, model: ModelConfig, params: Params, key: jax.Array) -> None:
    batch = batch_of(world, key, 12)
    # Some of these must end early for the test to see EOS.
    eager = {**params, "W_U": params["W_U"].at[:, vocab.EOS].multiply(30.0), "W_E": params["W_E"] * 2.0}
    ended = 0
    for weights in (params, eager):
        generated = greedy(model, weights, batch.tokens, batch.go)
        for i in range(12):
            expected = one_by_one(model, weights, batch.tokens[i].tolist(), int(batch.go[i]))
            assert generated[i].tolist() == expected
            ended += expected[-1] == vocab.PAD
    assert ended > 0


def test_the_first_guess_does_not_matter(world: World, model: ModelConfig, params: Params, key: jax.Array) -> None:
    batch = batch_of(world, key, 8)
    behind = np.arange(batch.tokens.shape[1]) > np.asarray(batch.go)[:, None]
    blank = jnp.where(behind, vocab.EOS, batch.tokens)
    assert (greedy(model, params, blank, batch.go) == greedy(model, params, batch.tokens, batch.go)).all()
