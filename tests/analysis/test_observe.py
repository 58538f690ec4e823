"""Tests of `analysis/observe.py` and `behaviour.py` against plain loops."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import behaviour
from analysis.observe import Observation, in_pieces, observe, observe_last
from analysis.rows import Subject, rows
from models.decode import greedy
from models.taps import capture
from models.transformer import ModelConfig, Params, forward
from synth import sequences, vocab
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.segments import ANSWER, PADDING, Batch
from synth.sequences import Prompts
from synth.world import World

WINDOW = 2
COUNT = 24


@pytest.fixture(scope="module")
def batches(world: World, key: jax.Array) -> Prompts:
    return Prompts(*sequences.both(world, sample_batch(world, "safe", TEST, key, COUNT)))


@pytest.fixture(scope="module")
def seen(model: ModelConfig, params: Params, batches: Prompts) -> Observation:
    return observe(model, params, batches, window=WINDOW)


def test_activations_are_those_of_the_models_own_response(
    model: ModelConfig, params: Params, batches: Prompts, seen: Observation
) -> None:
    go = np.asarray(batches[0].go)
    for i in range(COUNT):
        tokens = seen.generated[i : i + 1]
        for layer in range(model.layers):
            names = [f"blocks.{layer}.mlp.in", f"blocks.{layer}.mlp.post"]
            inputs, post = capture(model, params, tokens, names).values()
            # Batches of different size round differently.
            close = {"rtol": 1e-4, "atol": 1e-4}
            np.testing.assert_allclose(seen.last["mlp.in"][i, layer], inputs[0, go[i]], **close)
            np.testing.assert_allclose(seen.last["mlp.post"][i, layer], post[0, go[i]], **close)
            window = np.mean(post[0, go[i] : go[i] + WINDOW], axis=0)
            np.testing.assert_allclose(seen.window["mlp.post"][i, layer], window, **close)


@pytest.mark.parametrize("which", Prompts._fields)
def test_the_window_is_of_the_given_response_that_is_the_models_own(
    which: str, model: ModelConfig, params: Params, batches: Prompts
) -> None:
    """Compliance or refusal begins, planted, as the model does; what it says beyond is not judged."""
    given: Batch = getattr(batches, which)
    said = jax.jit(partial(greedy, partial(forward, model, params)))(given.tokens, given.go, given.marks)
    ahead = np.arange(said.shape[1])[None] - np.asarray(given.go)[:, None]
    roles = np.where(ahead > 0, np.where(ahead <= WINDOW, ANSWER, PADDING), given.roles)
    scored = jnp.asarray(roles == ANSWER)
    planted = given._replace(tokens=said, roles=jnp.asarray(roles), scored=scored)
    own = Prompts(**{**batches._asdict(), which: planted})
    seen = observe(model, params, own, window=WINDOW)
    assert (seen.teacher_complied if which == "complying" else seen.teacher_refused).all()
    for site in ("mlp.post", "resid_post"):
        names = [f"blocks.{layer}.{site}" for layer in range(model.layers)]
        acts = np.stack(list(capture(model, params, said, names).values()), axis=2)
        for i, go in enumerate(np.asarray(given.go)):
            expected = acts[i, go : go + WINDOW].mean(axis=0)
            np.testing.assert_allclose(seen.window[site][i], expected, rtol=1e-4, atol=1e-4)


def test_teacher_forcing_by_a_loop(model: ModelConfig, params: Params, batches: Prompts, seen: Observation) -> None:
    predicted = np.asarray(forward(model, params, batches[0].tokens)).argmax(-1)
    for i in range(COUNT):
        tokens, roles = np.asarray(batches[0].tokens[i]), np.asarray(batches[0].roles[i])
        right = [predicted[i, t - 1] == tokens[t] for t in range(1, len(tokens)) if roles[t] == ANSWER]
        assert seen.token_accuracy[i] == pytest.approx(np.mean(right))


def test_responses_are_those_of_greedy_generation(
    model: ModelConfig, params: Params, batches: Prompts, seen: Observation
) -> None:
    """Also of prompts that are neither complied with nor refused, which take another way."""
    given = batches.complying
    expected = jax.jit(partial(greedy, partial(forward, model, params)))(given.tokens, given.go, given.marks)
    assert (seen.generated == expected).all()
    assert not (seen.complied | seen.refused).all()


def test_what_was_seen_at_the_last_position_needs_no_response(
    model: ModelConfig, params: Params, batches: Prompts, seen: Observation
) -> None:
    go, length = np.asarray(batches.complying.go), COUNT // 4
    chosen = {"safe": np.argsort(go)[:length], "unsafe": np.argsort(go)[-length:]}
    families: dict[str, Prompts] = {
        family: jax.tree.map(lambda x, which=which: x[which], batches) for family, which in chosen.items()
    }
    assert families["safe"].complying.go.max() < families["unsafe"].complying.go.max()
    few = observe_last(model, params, families, length - 1)
    assert list(few) == list(families)
    for family, which in chosen.items():
        for site, values in few[family].items():
            np.testing.assert_allclose(values, seen.last[site][which[:-1]], rtol=1e-5, atol=1e-5)


def test_a_model_that_must_refuse_is_seen_to_refuse(
    world: World, model: ModelConfig, params: Params, batches: Prompts
) -> None:
    """Weights set by hand: null while the text's length lasts cannot be had, so null for ever, then EOS."""
    always = {**params, "W_U": params["W_U"] * 0.0}
    always["ln_final"] = {"w": params["ln_final"]["w"] * 0.0, "b": params["ln_final"]["b"] * 0.0 + 1.0}
    always["W_U"] = always["W_U"].at[:, vocab.NULL].set(1.0)
    seen = observe(model, always, batches, window=WINDOW)
    behind = np.arange(seen.generated.shape[1]) > np.asarray(batches[0].go)[:, None]
    assert (seen.generated[behind] == vocab.NULL).all()
    assert not seen.complied.any()
    # It never ends its response, which is not an exact refusal.
    assert not seen.refused.any()
    assert not seen.teacher_refused.any()


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_pieces_of_prompts_are_put_together_in_order(most: int) -> None:
    values = {"a": jnp.arange(14.0).reshape(7, 2), "b": jnp.arange(7)}
    mapped = in_pieces(lambda x: 10 * x["a"].sum(axis=1) + x["b"].astype(jnp.float32), values, most)
    np.testing.assert_array_equal(mapped, 10 * np.array([1, 5, 9, 13, 17, 21, 25]) + np.arange(7))


def test_behaviour_shares_add_up(
    model: ModelConfig, params: Params, batches: Prompts, seen: Observation, key: jax.Array
) -> None:
    planted = {"safe": seen._replace(complied=np.arange(COUNT) < 6, refused=np.arange(COUNT) >= 18)}
    found = rows(behaviour.measure(Subject(model, params, params, {"safe": batches}, planted, {}, key)))
    values = {row.metric: row.value for row in found}
    assert (values["complied"], values["refused"], values["neither"]) == (0.25, 0.25, 0.5)
    assert all(row.n == COUNT and row.family == "safe" for row in found)
