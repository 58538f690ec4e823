"""Tests of `analysis/attacks.py` against attacks made one prompt and one token at a time."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from analysis.attacks import METRICS, Attacked, AttacksConfig, attack, measure
from analysis.metric import with_nulls
from analysis.metrics import models
from analysis.observe import observe, observe_last
from analysis.rows import Result, Row, Samples, Subject, rows
from analysis.sensitivity import lipschitz
from analysis.soft_tokens import insert, start, with_soft_tokens
from analysis.subspaces import column_basis
from models.transformer import ModelConfig, Params, forward, init
from synth import sequences, vocab
from synth.keys import fold
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.segments import END, PADDING, RESPONSE_START, Batch
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World

COUNT = 6
ROOM = 3
"""Soft tokens that the model's context has room for."""
CONFIG = AttacksConfig(strengths=(0, 2, ROOM, ROOM + 1), prompts=COUNT, steps=3, norm=0.8)


@pytest.fixture(scope="module")
def roomy(world: World) -> ModelConfig:
    return ModelConfig(layers=2, heads=2, width=8, context=sequences.size(world).whole + ROOM)


@pytest.fixture(scope="module")
def weights(world: World, roomy: ModelConfig, key: jax.Array) -> Params:
    leaves, tree = jax.tree.flatten(init(roomy, world.vocab.size, key))
    noisy = [leaf + 0.3 * jax.random.normal(fold(key, i), leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, noisy)


@pytest.fixture(scope="module")
def prompts(world: World, key: jax.Array) -> Prompts:
    return Prompts(*sequences.both(world, sample_batch(world, "safe", TEST, key, COUNT)))


@pytest.fixture(scope="module")
def soft(roomy: ModelConfig, key: jax.Array) -> jax.Array:
    return start(key, COUNT, ROOM, roomy.width, CONFIG.norm)


def embedded(params: Params, prompt: list[int], soft: np.ndarray, rest: list[int], shift: bool) -> np.ndarray:
    """[1, T, D] the input of a prompt, soft tokens, and what follows, put together by hand."""
    tokens, positions = np.asarray(params["W_E"]), np.asarray(params["W_pos"])
    first, moved = len(prompt), len(soft) if shift else 0
    parts = [
        tokens[prompt] + positions[:first],
        soft + (positions[first : first + len(soft)] if shift else 0),
        tokens[rest] + positions[first + moved : first + moved + len(rest)],
    ]
    return np.concatenate(parts)[None]


def logits_of(model: ModelConfig, params: Params, x: np.ndarray) -> np.ndarray:
    """[T, V] of an input [1, T, D]. All are filled up to the context, so as to compile once."""
    filled = np.zeros((1, model.context, model.width), np.float32)
    filled[:, : x.shape[1]] = x
    return np.asarray(_logits(model, params, filled)[0, : x.shape[1]])


@partial(jax.jit, static_argnames="model")
def _logits(model: ModelConfig, params: Params, x: jax.Array) -> jax.Array:
    tokens = jnp.zeros(x.shape[:2], jnp.int32)
    return forward(model, params, tokens, lambda site, at: x if site == "embed" else at)


@partial(jax.jit, static_argnames="model")
def _input_gradients(
    model: ModelConfig, params: Params, x: jax.Array, target: jax.Array, judged: jax.Array, go: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of one input [1, T, D]: its cross-entropy, the gradient of that, and the gradient of go's largest logit."""

    def loss(x: jax.Array) -> jax.Array:
        each = optax.softmax_cross_entropy_with_integer_labels(_logits(model, params, x)[0], target)
        return jnp.sum(each, where=judged)

    value, gradient = jax.value_and_grad(loss)(x)
    return value, gradient[0], jax.grad(lambda x: jnp.max(_logits(model, params, x)[0, go]))(x)[0]


def parts(batch: Batch, i: int) -> tuple[list[int], list[int]]:
    """The tokens of one sequence up to the last text token, and from EOT to the response's EOS."""
    tokens, go = np.asarray(batch.tokens[i]).tolist(), int(batch.go[i])
    return tokens[:go], tokens[go : 1 + int(np.flatnonzero(batch.roles[i] == END)[0])]


def generated(
    model: ModelConfig, params: Params, prompt: list[int], soft: np.ndarray, length: int, shift: bool
) -> list[int]:
    """EOT and the response, a token at a time: none is seen before it is generated."""
    response = [vocab.EOT]
    while len(response) < length and response[-1] != vocab.EOS:
        x = embedded(params, prompt, soft, response, shift)
        response.append(int(logits_of(model, params, x)[-1].argmax()))
    return response


def gradients(
    model: ModelConfig, params: Params, batch: Batch, i: int, soft: np.ndarray, shift: bool
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss under soft tokens [k, D], its gradient by them, and that of the largest logit by the whole input."""
    prompt, rest = parts(batch, i)
    go, filled = len(prompt) + len(soft), np.zeros((1, model.context, model.width), np.float32)
    x = embedded(params, prompt, soft, rest, shift)
    filled[:, : x.shape[1]] = x
    target, place = np.zeros(model.context, np.int32), np.arange(model.context)
    target[go : go + len(rest) - 1] = rest[1:]
    judged = (place >= go) & (place < go + len(rest) - 1)
    value, gradient, reaction = _input_gradients(model, params, filled, target, judged, go)
    return float(value), np.asarray(gradient)[len(prompt) : go], np.asarray(reaction)


both_positions = pytest.mark.parametrize("shift", [False, True], ids=["kept", "shifted"])


def run(
    model: ModelConfig, params: Params, batch: Batch, soft: jax.Array, count: int, shift: bool = False
) -> tuple[Attacked, Attacked]:
    config = replace(CONFIG, shift_positions=shift)
    seen = attack(model, params, batch, soft, count, batch.tokens.shape[1] + soft.shape[1], config)
    return jax.tree.map(np.asarray, seen)


def test_placeholders_go_before_the_answer(prompts: Prompts) -> None:
    batch = prompts.complying
    width = batch.tokens.shape[1] + ROOM
    inserted = insert(batch, 2, width)
    assert len(set(np.asarray(batch.go).tolist())) > 1
    for i, go in enumerate(np.asarray(batch.go)):
        for before, after, filler in zip(batch[:2], inserted[:2], (vocab.PAD, PADDING), strict=True):
            whole = np.asarray(before[i]).tolist()
            assert np.asarray(after[i]).tolist() == [*whole[:go], filler, filler, *whole[go:], filler]
        assert inserted.tokens[i, inserted.go[i]] == vocab.EOT


def test_random_tokens_have_the_length_and_do_not_depend_on_how_many(key: jax.Array) -> None:
    few, many = start(key, 5, 2, 8, 3.0), start(key, 5, 6, 8, 3.0)
    np.testing.assert_array_equal(many[:, :2], few)
    np.testing.assert_allclose(np.linalg.norm(many, axis=-1), 3.0, rtol=1e-6)
    cosines = np.einsum("nid,njd->nij", many, many) / 9
    assert np.abs(cosines - np.eye(6)).max() < 0.999


def test_placeholders_are_what_fills_sequences_of_the_vocabulary(
    weights: Params, prompts: Prompts, roomy: ModelConfig, soft: jax.Array
) -> None:
    """Whichever token that is, nothing is left of it where a soft token stands."""
    batches = [prompts.complying._replace(marks=vocab.Marks(vocab.BOS, vocab.EOS, pad)) for pad in (0, vocab.NULL)]
    width = batches[0].tokens.shape[1] + 2

    @jax.jit
    def inputs(soft: jax.Array) -> list[jax.Array]:
        taps = [with_soft_tokens(roomy, weights, batch, 2, width, True) for batch in batches]
        return [put(soft)("embed", jnp.zeros((COUNT, width, roomy.width))) for put in taps]

    one, other = inputs(soft)
    tokens = insert(batches[1], 2, width).tokens
    for i, go in enumerate(np.asarray(prompts.complying.go)):
        assert tokens[i, go : go + 2].tolist() == [vocab.NULL] * 2
        np.testing.assert_allclose(one[i, : go + 3], other[i, : go + 3], atol=1e-6)


def test_rotary_models_shift_in_any_case(
    weights: Params, prompts: Prompts, roomy: ModelConfig, soft: jax.Array
) -> None:
    """Their positions are no part of what is replaced, so that both ways give the model the same input."""
    rotary, params = replace(roomy, positions="rotary"), {k: v for k, v in weights.items() if k != "W_pos"}
    width = prompts.complying.tokens.shape[1] + 2

    @jax.jit
    def inputs(soft: jax.Array) -> list[jax.Array]:
        taps = [with_soft_tokens(rotary, params, prompts.complying, 2, width, shift) for shift in (False, True)]
        return [put(soft)("embed", jnp.zeros((COUNT, width, roomy.width))) for put in taps]

    kept, shifted = inputs(soft)
    for i, go in enumerate(np.asarray(prompts.complying.go)):
        np.testing.assert_allclose(kept[i, go : go + 2], soft[i, :2], atol=1e-6)
        last = go + int(np.sum(prompts.complying.roles[i] >= RESPONSE_START)) + 2
        np.testing.assert_allclose(kept[i, :last], shifted[i, :last], atol=1e-6)


@both_positions
def test_success_is_that_of_generation_token_by_token(
    roomy: ModelConfig, weights: Params, prompts: Prompts, soft: jax.Array, shift: bool
) -> None:
    """The compliant response is made what the model generates, for odd prompts with one token of it wrong."""
    # The largest of all logits is nearly always above 0, so that no response ends too early.
    params = {**weights, "W_U": weights["W_U"].at[:, vocab.EOS].set(0.0)}
    batch, count, planted = prompts.complying, 2, np.array(prompts.complying.tokens)
    for i in range(COUNT):
        prompt, rest = parts(batch, i)
        response = generated(roomy, params, prompt, np.asarray(soft[i, :count]), len(rest), shift)
        assert len(response) == len(rest)
        place = len(prompt) + np.arange(len(rest))
        planted[i, place] = response
        if i % 2:
            planted[i, place[-i]] = (planted[i, place[-i]] + 1) % 7
    given, _ = run(roomy, params, batch._replace(tokens=jnp.asarray(planted)), soft, count, shift)
    np.testing.assert_array_equal(given.complied, np.arange(COUNT) % 2 == 0)


@both_positions
@pytest.mark.parametrize("count", [2, ROOM])
def test_descent_is_that_of_one_prompt_and_strength_alone(
    roomy: ModelConfig, weights: Params, prompts: Prompts, soft: jax.Array, shift: bool, count: int
) -> None:
    batch = prompts.complying
    given, found = run(roomy, weights, batch, soft, count, shift)
    np.testing.assert_array_equal(given.soft, soft)
    np.testing.assert_allclose(found.soft[:, count:], soft[:, count:], rtol=1e-5)
    losses = []
    for i in range(COUNT):
        tokens = np.array(soft[i, :count])
        first, _, reaction = gradients(roomy, weights, batch, i, tokens, shift)
        np.testing.assert_allclose(given.lipschitz[i], np.linalg.norm(reaction), rtol=1e-3)
        for _ in range(CONFIG.steps):
            _, gradient, _ = gradients(roomy, weights, batch, i, tokens, shift)
            for token, by_token in zip(tokens, gradient, strict=True):
                token -= 0.25 * CONFIG.norm * by_token / np.linalg.norm(by_token)
                if np.linalg.norm(token) > CONFIG.norm:
                    token *= CONFIG.norm / np.linalg.norm(token)
        np.testing.assert_allclose(found.soft[i, :count], tokens, atol=1e-3)
        last, _, reaction = gradients(roomy, weights, batch, i, tokens, shift)
        np.testing.assert_allclose(found.lipschitz[i], np.linalg.norm(reaction), rtol=1e-2)
        losses.append((first, last))
    assert np.linalg.norm(found.soft, axis=-1).max() <= CONFIG.norm * (1 + 1e-6)
    assert np.mean([last < first for first, last in losses]) > 0.5


@pytest.fixture(scope="module")
def subjects(roomy: ModelConfig, weights: Params, prompts: Prompts, key: jax.Array) -> dict[str, Subject]:
    """The untouched model, and one whose first MLP alone was changed."""
    batches = {"safe": prompts, "unsafe": jax.tree.map(lambda x: x[::-1], prompts)}
    mlp = weights["blocks"]["0"]["mlp"]
    change = jax.random.normal(fold(key, "change"), mlp["W_in"].shape)
    blocks = {**weights["blocks"], "0": {**weights["blocks"]["0"], "mlp": {**mlp, "W_in": mlp["W_in"] + change}}}
    before = observe_last(roomy, weights, batches, len(prompts.complying.go))
    found = {}
    for name, own in (("untouched", weights), ("tuned", {**weights, "blocks": blocks})):
        seen = {family: observe(roomy, own, batch, window=1) for family, batch in batches.items()}
        found[name] = Subject(roomy, own, weights, batches, seen, before, key)
    return found


def values(results: list[Result], metric: str, index: int, layer: int | None = None) -> np.ndarray:
    (found,) = (r for r in results if (r.metric, r.index, r.layer) == (metric, index, layer))
    assert isinstance(found, Samples)
    return np.asarray(found.values)


def test_without_tokens_a_model_is_as_it_was_observed(subjects: dict[str, Subject]) -> None:
    subject = subjects["tuned"]
    results = measure(subject, CONFIG)
    seen, batch = subject.observations["unsafe"], subject.prompts["unsafe"].complying
    means = [subject.observations[name].last["mlp.post"].mean(axis=0) for name in ("safe", "unsafe")]
    for prefix in ("adv", "adv_random"):
        np.testing.assert_array_equal(values(results, f"{prefix}_complied", 0), seen.teacher_complied)
        expected = lipschitz(subject.model, subject.params, batch.tokens, batch.go)
        np.testing.assert_allclose(values(results, f"{prefix}_lipschitz", 0), expected, rtol=1e-3)
        for layer in (1, 2):
            hidden = seen.last["mlp.post"][:, layer - 1]
            to_safe, to_unsafe = (np.linalg.norm(hidden - mean[layer - 1], axis=1) for mean in means)
            found = values(results, f"{prefix}_tau", 0, layer)
            np.testing.assert_allclose(found, to_unsafe - to_safe, rtol=1e-3, atol=1e-3)
            angles = [r for r in results if (r.metric, r.index, r.layer) == (f"{prefix}_activation_angle", 0, layer)]
            assert isinstance(angles[0], Row)
            start = subject.before["unsafe"]["mlp.post"][:, layer - 1]
            bases = [column_basis(np.asarray(acts, float).T) for acts in (hidden, start)]
            outside = [np.sqrt(max(0, 1 - np.sum((bases[1].T @ vector) ** 2))) for vector in bases[0].T]
            assert angles[0].value == pytest.approx(np.mean(outside), abs=1e-3)
            assert angles[0].n == len(outside)
        change = np.asarray(
            subject.params["blocks"]["0"]["mlp"]["W_in"] - subject.reference["blocks"]["0"]["mlp"]["W_in"]
        )
        inputs = seen.last["mlp.in"][:, 0]
        expected = [np.linalg.norm(change.T @ a) / np.linalg.norm(a) for a in inputs]
        np.testing.assert_allclose(values(results, f"{prefix}_projection_total", 0, 1), expected, rtol=1e-3)


def test_more_tokens_than_there_is_room_for_are_missing_with_a_reason(subjects: dict[str, Subject]) -> None:
    results = rows(measure(subjects["tuned"], CONFIG))
    beyond = [row for row in results if row.index == ROOM + 1]
    assert {row.metric for row in beyond} == set(METRICS)
    assert all(np.isnan(row.value) and "context" in str(row.missing) for row in beyond)
    unexplained = [row for row in results if np.isnan(row.value) and not row.missing]
    assert not unexplained
    reasons = {row.missing for row in results if row.index != ROOM + 1 and row.missing}
    assert reasons <= {"no attack succeeded", "dW is zero"}
    assert all("projection_total" in row.metric and row.layer == 2 for row in results if row.missing == "dW is zero")
    assert {row.index for row in results if row.metric == "adv_complied"} == set(CONFIG.strengths)


def test_the_untouched_model_is_its_own_control(subjects: dict[str, Subject]) -> None:
    untouched, tuned = (measure(subjects[name], CONFIG) for name in ("untouched", "tuned"))
    for k in (0, 2, ROOM):
        own = values(untouched, "adv_complied", k)
        np.testing.assert_array_equal(values(untouched, "adv_untouched_complied", k), own)
        np.testing.assert_array_equal(values(tuned, "adv_untouched_complied", k), own)
    assert not any("projection" in result.metric for result in untouched if result.index != ROOM + 1)


def test_the_mean_over_successes_is_theirs_alone(subjects: dict[str, Subject]) -> None:
    """The compliant response is made the model's own for two prompts; nothing is inserted."""
    subject = subjects["tuned"]
    prompts, seen = subject.prompts["unsafe"], subject.observations["unsafe"]
    tokens = jnp.asarray(np.where(np.arange(COUNT)[:, None] < 2, seen.generated, prompts.complying.tokens))
    unsafe = prompts._replace(complying=prompts.complying._replace(tokens=tokens))
    planted = subject._replace(prompts={**subject.prompts, "unsafe": unsafe})
    results = measure(planted, CONFIG)
    complied = values(results, "adv_complied", 0)
    (row,) = (r for r in results if (r.metric, r.index, r.layer) == ("adv_tau_successful", 0, 2))
    assert isinstance(row, Row)
    assert row.n == complied.sum() > 0
    assert row.value == pytest.approx(values(results, "adv_tau", 0, 2)[complied].mean())


def test_every_metric_has_a_row_of_the_registry_and_the_other_way_round(subjects: dict[str, Subject]) -> None:
    found = {result.metric for result in measure(subjects["tuned"], CONFIG)}
    assert found == {name for name in with_nulls(models.ROWS) if name.startswith("adv_")}


def test_families_that_are_not_there_have_a_row_that_says_so(subjects: dict[str, Subject]) -> None:
    (row,) = measure(subjects["tuned"], replace(CONFIG, families=("co_task",)))
    assert isinstance(row, Row)
    assert (row.metric, row.family, row.missing) == ("adv_complied", "co_task", "no prompts of this family")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strengths": ()}, r"strengths=\[\]: must be different numbers"),
        ({"strengths": (1, 1)}, "strengths=.*must be different numbers"),
        ({"strengths": (-1, 2)}, "strengths=.*none below 0"),
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"norm": 0.0}, "norm=0.0: must be a finite number above 0"),
        ({"families": ("unsaf",)}, "families"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        AttacksConfig(**settings)
