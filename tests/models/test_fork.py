"""Tests of `models/fork.py`: two responses in one sequence are to a model what they are apart."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decode import judged
from models.fork import Fork, fork, width
from models.taps import capture
from models.transformer import ModelConfig, Params, forward, init
from synth import sequences
from synth.keys import fold
from synth.lookup import sample_batch
from synth.prompts import TRAIN
from synth.segments import ANSWER, END, PADDING, Batch
from synth.sequences import Prompts
from synth.tasks import TasksConfig
from synth.world import StylesConfig, World, build_world
from tests.models.test_transformer import SHAPES, TOLERANCE

SITES = ("logits", "blocks.1.mlp.post")


def asked(world: World, key: jax.Array) -> Prompts:
    """Random texts of every length."""
    drawn, size = sample_batch(world, "pretraining", TRAIN, key, world.max_text), (world.max_text, world.max_text)
    text = jax.random.randint(fold(key, "text"), size, 0, len(world.vocab.letters))
    return sequences.both(world, drawn._replace(text=text, length=1 + jnp.arange(world.max_text)))


@pytest.fixture(scope="module")
def prompts(world: World, key: jax.Array) -> Prompts:
    return asked(world, key)


@pytest.fixture(scope="module")
def forked(model: ModelConfig, prompts: Prompts) -> Fork:
    return fork(model, *prompts)


def live(batch: Batch) -> np.ndarray:
    """[B, T] which of the tokens that a model is fed are none of the padding."""
    return np.asarray(batch.roles[:, :-1] != PADDING)


def from_eot(x: Any, go: jax.Array, count: int) -> np.ndarray:
    """[B, count, ...] what of [B, T, ...] begins with EOT, zeros where there is no more of it."""
    found = np.zeros((len(x), count, *x.shape[2:]), x.dtype)
    for row, start in enumerate(np.asarray(go)):
        rest = np.asarray(x[row, start : start + count])
        found[row, : len(rest)] = rest
    return found


def compare(found: Any, expected: np.ndarray, where: np.ndarray) -> None:
    assert where.any()
    np.testing.assert_allclose(np.asarray(found)[where], expected[where], **TOLERANCE)


def compare_with_both_apart(
    config: ModelConfig, world: World, prompts: Prompts, key: jax.Array, scale: float = 10
) -> None:
    params: Params = jax.tree.map(lambda x: scale * x, init(config, world.vocab.size, key))

    @jax.jit
    def both(params: Params, prompts: Prompts) -> dict[str, tuple[jax.Array, jax.Array]]:
        forked = fork(config, *prompts)
        seen = capture(config, params, forked.tokens, SITES, forked.layout)
        return {site: forked.apart(x) for site, x in seen.items()}

    found = both(params, prompts)
    alone = jax.jit(lambda params, tokens: capture(config, params, tokens, SITES))
    first, second = prompts
    for site, (ours, others) in found.items():
        expected, rest = (np.asarray(alone(params, batch.tokens[:, :-1])[site]) for batch in prompts)
        compare(ours, expected, live(first))
        count = others.shape[1]
        compare(others, from_eot(rest, second.go, count), from_eot(live(second), second.go, count))
        both_fed = min(expected.shape[1], rest.shape[1])
        assert np.abs(expected[:, :both_fed] - rest[:, :both_fed]).max() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_both_responses_are_what_they_are_apart(
    shape: str, world: World, model: ModelConfig, prompts: Prompts, key: jax.Array
) -> None:
    compare_with_both_apart(dataclasses.replace(model, **SHAPES[shape]), world, prompts, key)


@pytest.mark.parametrize("composed", [1, 3, 4])
def test_so_are_those_of_prompts_of_few_and_many_tasks(
    composed: int, world: World, model: ModelConfig, key: jax.Array
) -> None:
    other = build_world(dataclasses.replace(world.config, tasks=TasksConfig(count=4, composed=composed)))
    prompts, length = asked(other, key), sequences.size(other).whole
    assert width(*prompts) == length - 1 + other.max_text
    compare_with_both_apart(dataclasses.replace(model, context=length - 1), other, prompts, key)
    given, whole = fork(dataclasses.replace(model, context=length - 1), *prompts).sequences
    assert given is prompts.complying
    np.testing.assert_array_equal(np.sum(whole.roles == END, axis=1), 1)
    np.testing.assert_array_equal(np.sum(whole.roles == ANSWER, axis=1), 1 + np.arange(other.max_text))


@pytest.mark.parametrize("longer", ["second", "first"])
def test_so_are_responses_of_which_either_is_the_longer(
    longer: str, world: World, model: ModelConfig, key: jax.Array
) -> None:
    late = build_world(dataclasses.replace(world.config, styles=StylesConfig(refuse="late_refusal")))
    plain, whole = asked(world, key), asked(late, key)
    room = plain.complying.room + world.max_text
    assert whole.refusing.room == room
    # Each in its own size, as they are for those that train on one alone; and both in that of the longer.
    given = Prompts(plain.complying, whole.refusing), whole
    for prompts in given:
        pair = prompts if longer == "second" else Prompts(*reversed(prompts))
        # Of twice as many tokens, weights half as large: rounding grows with both.
        fitting = dataclasses.replace(model, context=whole.refusing.tokens.shape[1] - 1)
        compare_with_both_apart(fitting, late, pair, key, scale=5)
        kept = fork(dataclasses.replace(model, context=64), *pair).sequences[1]
        for name in ("roles", "scored"):
            before, after = (np.asarray(getattr(batch, name)) for batch in (pair.refusing, kept))
            np.testing.assert_array_equal(np.sum(before == END, axis=1), np.sum(after == END, axis=1))
            np.testing.assert_array_equal(np.sum(before == ANSWER, axis=1), np.sum(after == ANSWER, axis=1))
    small = dataclasses.replace(model, context=whole.refusing.tokens.shape[1] - 2)
    with pytest.raises(ValueError, match=rf"{small.context + 1} tokens: the model's context is {small.context}"):
        fork(small, *given[0])


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


def loss(logits: jax.Array, batch: Batch) -> jax.Array:
    return -jnp.sum(judged(logits, batch).logp)


def together(model: ModelConfig, prompts: Prompts, params: Params) -> jax.Array:
    forked = fork(model, *prompts)
    first, second = map(
        loss, forked.apart(forward(model, params, forked.tokens, layout=forked.layout)), forked.sequences
    )
    return first + second


def apart(model: ModelConfig, prompts: Prompts, params: Params) -> jax.Array:
    first, second = (loss(forward(model, params, batch.tokens[:, :-1]), batch) for batch in prompts)
    return first + second


@pytest.mark.parametrize("shape", ["default", "remat", "llama", "sinusoid"])
def test_gradients_are_those_of_both_apart(
    shape: str, world: World, model: ModelConfig, prompts: Prompts, key: jax.Array
) -> None:
    """What both give the prompt they share adds up."""
    config = dataclasses.replace(model, **SHAPES.get(shape, {"remat": True}))
    params: Params = jax.tree.map(lambda x: 5 * x, init(config, world.vocab.size, key))
    (ours, found), (theirs, expected) = (
        jax.jit(jax.value_and_grad(partial(function, config, prompts)))(params) for function in (together, apart)
    )
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), found, expected)


def test_models_side_by_side_are_what_they_are_alone(model: ModelConfig, params: Params, prompts: Prompts) -> None:
    """As runs are on a GPU."""
    several = jax.tree.map(lambda x: jnp.stack([x, 0.8 * x]), params)
    gradient: Callable[[Params], tuple[jax.Array, Params]] = jax.value_and_grad(partial(together, model, prompts))
    values, slopes = jax.jit(jax.vmap(gradient))(several)
    for run in range(2):
        value, slope = jax.jit(gradient)(jax.tree.map(lambda x, run=run: x[run], several))
        assert values[run].item() == pytest.approx(value.item(), rel=1e-5)
        jax.tree.map(
            lambda ours, own, run=run: np.testing.assert_allclose(ours[run], own, rtol=1e-3, atol=1e-3), slopes, slope
        )


def test_the_prompt_is_there_once_and_no_place_is_wasted(world: World, prompts: Prompts, forked: Fork) -> None:
    length = sequences.size(world).whole
    assert forked.tokens.shape == (world.max_text, width(*prompts)) == (world.max_text, length - 1 + world.max_text)
    np.testing.assert_array_equal(forked.tokens[:, : length - 1], prompts.complying.tokens[:, :-1])
    second, refusing = forked.sequences[1], prompts.refusing
    for name in ("tokens", "roles", "scored"):
        found, given = getattr(second, name), getattr(refusing, name)
        assert found.shape[1] == world.max_text + 2
        np.testing.assert_array_equal(found, from_eot(given, refusing.go, found.shape[1]))
    np.testing.assert_array_equal(forked.tokens[:, length - 1 :], second.tokens[:, 1:-1])
    assert int(forked.layout.positions.max()) == length - 2
    for places, batch in zip(forked.from_eot(3), prompts, strict=True):
        there = np.take_along_axis(np.asarray(forked.tokens), np.asarray(places), axis=1)
        np.testing.assert_array_equal(there, from_eot(batch.tokens, batch.go, 3))


def test_a_prompt_longer_than_the_model_can_read(model: ModelConfig, prompts: Prompts) -> None:
    small: Any = dataclasses.replace(model, context=prompts.complying.tokens.shape[1] - 2)
    with pytest.raises(ValueError, match=rf"{small.context + 1} tokens: the model's context is {small.context}"):
        fork(small, *prompts)
