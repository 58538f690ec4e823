"""Tests of `models/fork.py`: two responses in one sequence are to a model what they are apart."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decode import judged
from models.fork import Fork, fork, places
from models.taps import capture
from models.transformer import ModelConfig, Params, forward, init
from synth import sequences
from synth.families import sample_batch
from synth.keys import fold
from synth.prompts import TRAIN
from synth.sequences import PADDING, Batch, Prompts
from synth.world import World
from tests.models.test_transformer import SHAPES, TOLERANCE

SITES = ("logits", "blocks.1.mlp.post")


@pytest.fixture(scope="module")
def prompts(world: World, key: jax.Array) -> Prompts:
    """Random texts of every length."""
    drawn, size = sample_batch(world, "pretraining", TRAIN, key, world.max_text), (world.max_text, world.max_text)
    text = jax.random.randint(fold(key, "text"), size, 0, len(world.vocab.letters))
    return sequences.both(world, drawn._replace(text=text, length=1 + jnp.arange(world.max_text)))


@pytest.fixture(scope="module")
def forked(model: ModelConfig, prompts: Prompts) -> Fork:
    return fork(model, *prompts)


def live(batch: Batch) -> np.ndarray:
    """[B, T] which of the tokens that a model is fed are none of the padding."""
    return np.asarray(batch.roles[:, :-1] != PADDING)


def from_eot(x: Any, go: jax.Array, width: int) -> np.ndarray:
    """[B, width, ...] what of [B, T, ...] begins with EOT, zeros where there is no more of it."""
    found = np.zeros((len(x), width, *x.shape[2:]), x.dtype)
    for row, start in enumerate(np.asarray(go)):
        rest = np.asarray(x[row, start : start + width])
        found[row, : len(rest)] = rest
    return found


def compare(found: Any, expected: np.ndarray, where: np.ndarray) -> None:
    assert where.any()
    np.testing.assert_allclose(np.asarray(found)[where], expected[where], **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_responses_are_what_they_are_apart(
    shape: str, world: World, model: ModelConfig, prompts: Prompts, key: jax.Array
) -> None:
    config = dataclasses.replace(model, **SHAPES[shape])
    params: Params = jax.tree.map(lambda x: 10 * x, init(config, world.vocab.size, key))

    @jax.jit
    def together(params: Params, prompts: Prompts) -> dict[str, tuple[jax.Array, jax.Array]]:
        forked = fork(config, *prompts)
        seen = capture(config, params, forked.tokens, SITES, forked.layout)
        return {site: forked.apart(x) for site, x in seen.items()}

    found = together(params, prompts)
    alone = jax.jit(lambda params, tokens: capture(config, params, tokens, SITES))
    first, second = prompts
    for site, (ours, others) in found.items():
        expected, rest = (np.asarray(alone(params, batch.tokens[:, :-1])[site]) for batch in prompts)
        compare(ours, expected, live(first))
        width = others.shape[1]
        compare(others, from_eot(rest, second.go, width), from_eot(live(second), second.go, width))
        assert np.abs(expected - rest).max() > 0.1


def test_neither_response_sees_the_other(model: ModelConfig, params: Params, prompts: Prompts, forked: Fork) -> None:
    run = jax.jit(partial(forward, model))
    plain = forked.apart(run(params, forked.tokens, layout=forked.layout))
    for changed in range(2):
        given: list[Batch] = list(prompts)
        behind = np.arange(given[changed].tokens.shape[1])[None] > np.asarray(given[changed].go)[:, None]
        given[changed] = given[changed]._replace(tokens=jnp.where(behind, 1, given[changed].tokens))
        other = fork(model, *given)
        found = other.apart(run(params, other.tokens, layout=other.layout))
        kept, batch = 1 - changed, forked.sequences[1 - changed]
        np.testing.assert_array_equal(np.asarray(found[kept])[live(batch)], np.asarray(plain[kept])[live(batch)])
        assert np.abs(np.asarray(found[changed] - plain[changed])).max() > 0.1


def test_gradients_are_those_of_both_apart(model: ModelConfig, params: Params, prompts: Prompts) -> None:
    """What both give the prompt they share adds up."""

    def loss(logits: jax.Array, batch: Batch) -> jax.Array:
        return -jnp.sum(judged(logits, batch).logp)

    def together(params: Params) -> jax.Array:
        forked = fork(model, *prompts)
        logits = forward(model, params, forked.tokens, layout=forked.layout)
        first, second = map(loss, forked.apart(logits), forked.sequences)
        return first + second

    def apart(params: Params) -> jax.Array:
        first, second = (loss(forward(model, params, batch.tokens[:, :-1]), batch) for batch in prompts)
        return first + second

    (ours, found), (theirs, expected) = (jax.jit(jax.value_and_grad(f))(params) for f in (together, apart))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), found, expected)


def test_the_prompt_is_there_once_and_no_place_is_wasted(world: World, prompts: Prompts, forked: Fork) -> None:
    length = world.sequence_length
    assert forked.tokens.shape == (world.max_text, places(length)) == (world.max_text, length - 1 + world.max_text)
    np.testing.assert_array_equal(forked.tokens[:, : length - 1], prompts.complying.tokens[:, :-1])
    second, refusing = forked.sequences[1], prompts.refusing
    for found, given in ((second.tokens, refusing.tokens), (second.roles, refusing.roles)):
        assert found.shape[1] == world.max_text + 2
        np.testing.assert_array_equal(found, from_eot(given, refusing.go, found.shape[1]))
    np.testing.assert_array_equal(forked.tokens[:, length - 1 :], second.tokens[:, 1:-1])
    assert int(forked.layout.positions.max()) == length - 2
    for row, given in zip(forked.from_eot(3), prompts, strict=True):
        there = np.take_along_axis(np.asarray(forked.tokens), np.asarray(row), axis=1)
        np.testing.assert_array_equal(there, from_eot(given.tokens, given.go, 3))


@pytest.mark.parametrize("composed", [1, 2, 3])
def test_there_is_room_for_every_response(composed: int) -> None:
    for text in range(1, 60):
        length = 4 + composed + 2 * text
        assert places(length) >= length - 1 + text


def test_a_prompt_longer_than_the_model_can_read(model: ModelConfig, prompts: Prompts) -> None:
    small: Any = dataclasses.replace(model, context=prompts.complying.tokens.shape[1] - 2)
    with pytest.raises(ValueError, match=rf"{small.context + 1} tokens: the model's context is {small.context}"):
        fork(small, *prompts)
