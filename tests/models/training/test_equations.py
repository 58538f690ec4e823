"""Tests of the objectives in `models/training/methods/`: each against its equation, by hand and by NumPy."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy

from models import likelihood
from models.likelihood import token_logprobs
from models.training.methods import CONTROLS, METHODS
from models.training.methods.constrained_sft import ConstrainedSFT, constrained_sft
from models.training.methods.deep_refusal import DeepRefusal, deep_refusal
from models.training.methods.dpo import DPO, dpo
from models.training.methods.ipo import IPO, ipo
from models.training.methods.npo import NPO, npo
from models.training.methods.rto import RTO, rto
from models.training.methods.sft import SFT, sft
from models.training.methods.simpo import SimPO, simpo
from models.training.methods.unlearning import Unlearning, unlearning
from models.training.methods.unlearning_kl import UnlearningKL, unlearning_kl
from models.transformer import ModelConfig, Params, forward
from models.weights import flatten
from synth import vocab
from synth.segments import ANSWER, END, Batch, Room
from synth.sequences import Pair
from synth.settings import SettingError
from tests.models.training.terms import compiled, gradients, terms


@functools.cache
def logits(model: ModelConfig) -> Callable[[Params, jax.Array], jax.Array]:
    return jax.jit(functools.partial(forward, model))


def numpy_tokens(model: ModelConfig, params: Params, batch: Batch, given: Sequence[int]) -> list[np.ndarray]:
    """log p of each token of each response behind the first `given` ones, by a loop."""
    found = np.asarray(logits(model)(params, batch.tokens), np.float64)
    several = []
    for row, tokens, roles, k in zip(found, np.asarray(batch.tokens), np.asarray(batch.roles), given, strict=True):
        places = [t for t in range(1, len(tokens)) if roles[t] in (ANSWER, END)][k:]
        several.append(np.array([log_softmax(row[t - 1])[tokens[t]] for t in places]))
    return several


def numpy_score(
    model: ModelConfig, params: Params, batch: Batch, given: Sequence[int] = (0,) * 8
) -> tuple[np.ndarray, np.ndarray]:
    """log p(y|x) and |y| of each response behind the first `given` tokens."""
    tokens = numpy_tokens(model, params, batch, given)
    return np.array([sum(of) for of in tokens]), np.array([len(of) for of in tokens])


def numpy_turn(model: ModelConfig, params: Params, pair: Pair) -> np.ndarray:
    """Of prompts to be refused, the mean over the letters of compliance of -log p of the null token in their place."""
    found = np.asarray(logits(model)(params, pair.dispreferred.tokens), np.float64)
    several = []
    for row, roles, refused in zip(found, np.asarray(pair.dispreferred.roles), pair.refused.tolist(), strict=True):
        places = [t for t in range(1, len(roles)) if roles[t] == ANSWER]
        several.append(-np.mean([log_softmax(row[t - 1])[vocab.NULL] for t in places]) if refused else 0.0)
    assert sum(turn > 0 for turn in several) == 4
    return np.array(several)


def numpy_constrained(
    model: ModelConfig, params: Params, reference: Params, batch: Batch, betas: Sequence[float]
) -> list[np.ndarray]:
    """Of each response its tokens' -(2 / beta) log sigmoid(beta ratio), over their number; the last beta goes on."""
    several = []
    for ours, theirs in zip(*(numpy_tokens(model, w, batch, (0,) * 8) for w in (params, reference)), strict=True):
        beta = np.array([betas[min(t, len(betas) - 1)] for t in range(len(ours))])
        several.append(-2 / beta * np.log(expit(beta * (ours - theirs))) / len(ours))
    assert max(map(len, several)) > len(betas)
    return several


def numpy_divergence(model: ModelConfig, params: Params, reference: Params, pair: Pair) -> np.ndarray:
    """KL(p_ref || p), the mean over the tokens of y^p, and 0 where that is a refusal; by SciPy, in a loop."""
    run = logits(model)
    ours, theirs = (softmax(np.asarray(run(w, pair.preferred.tokens), np.float64), -1) for w in (params, reference))
    found = []
    for n, (tokens, roles) in enumerate(zip(*map(np.asarray, pair.preferred[:2]), strict=True)):
        places = [t for t in range(1, len(tokens)) if roles[t] in (ANSWER, END)]
        refused = tokens[places[0]] == vocab.NULL
        found.append(0.0 if refused else np.mean([entropy(theirs[n, t - 1], ours[n, t - 1]) for t in places]))
    assert 0.0 in found
    assert max(found) > 0.01
    return np.array(found)


class NumpyScores(NamedTuple):
    """By NumPy: log p and |y| of both responses, log p under the reference, the divergence from it, and the terms of
    RTO and of the constrained objective, by token."""

    good: np.ndarray
    n_good: np.ndarray
    bad: np.ndarray
    n_bad: np.ndarray
    good_ref: np.ndarray
    bad_ref: np.ndarray
    kl: np.ndarray
    turn: np.ndarray
    held: list[np.ndarray]


@pytest.fixture(scope="module")
def scores(model: ModelConfig, params: Params, reference: Params, pair: Pair) -> NumpyScores:
    good, bad = (numpy_score(model, params, batch) for batch in pair[:2])
    good_ref, bad_ref = (numpy_score(model, reference, batch)[0] for batch in pair[:2])
    kl, turn = numpy_divergence(model, params, reference, pair), numpy_turn(model, params, pair)
    held = numpy_constrained(model, params, reference, pair.preferred, (0.7, 1.5, 0.4))
    return NumpyScores(*good, *bad, good_ref, bad_ref, kl, turn, held)


def test_each_loss_equals_its_equation_in_numpy(
    model: ModelConfig, params: Params, reference: Params, pair: Pair, scores: NumpyScores
) -> None:
    good, n_good, bad, n_bad, good_ref, bad_ref, kl, turn, held = scores
    expected = {
        "sft": -good / n_good,
        "unlearning": -good / n_good + 0.4 * bad / n_bad,
        "dpo": -np.log(expit(0.3 * (good - good_ref) - 0.2 * (bad - bad_ref))),
        "npo": -good / n_good - 0.2 * 2 / 0.3 * np.log(expit(-0.3 * (bad - bad_ref))),
        "unlearning_kl": -good / n_good + 0.4 * bad / n_bad + 0.7 * kl,
        "ipo": ((good - good_ref) - (bad - bad_ref) - 5) ** 2,
        "simpo": -np.log(expit(1.5 * good / n_good - 1.5 * bad / n_bad - 0.5)),
        "rto": -good / n_good + turn,
        "derta": -good / n_good + turn,
        "deep_refusal": -np.where(pair.refused, 0.6, 1.4) * good / n_good,
        **{name: [tokens.sum() for tokens in held] for name in ("constrained_sft", "comply_constrained")},
        **{name: -good / n_good for name in ("prefix_sft", "comply_all", *CONTROLS)},
    }
    for method in METHODS:
        got = terms(method, model, params, reference, pair).loss
        np.testing.assert_allclose(got, expected[method], rtol=1e-4, atol=1e-5, err_msg=method)


def test_the_parts_of_each_loss_equal_theirs_and_add_up_to_it(
    model: ModelConfig, params: Params, reference: Params, pair: Pair, scores: NumpyScores
) -> None:
    good, n_good, bad, n_bad, good_ref, bad_ref, kl, turn, held = scores
    descent, ascent = -good / n_good, 0.4 * bad / n_bad
    push = -0.2 * 2 / 0.3 * np.log(expit(-0.3 * (bad - bad_ref)))
    expected: dict[str, dict[str, np.ndarray]] = {
        "sft": {},
        "unlearning": {"descent": descent, "ascent": ascent},
        "dpo": {"gain": 0.3 * (good - good_ref), "leak": 0.2 * (bad - bad_ref)},
        "npo": {"descent": descent, "ascent": push},
        "unlearning_kl": {"descent": descent, "ascent": ascent, "drift": 0.7 * kl},
        "ipo": {"gain": good - good_ref, "leak": bad - bad_ref},
        "simpo": {"margin": 1.5 * (good / n_good - bad / n_bad) - 0.5},
        "rto": {"descent": descent, "turn": turn},
        "deep_refusal": {
            "refusal": 0.6 * np.where(pair.refused, descent, 0),
            "compliance": 1.4 * np.where(pair.refused, 0, descent),
        },
        "constrained_sft": {
            "first": np.array([tokens[0] for tokens in held]),
            "early": np.array([tokens[1] for tokens in held]),
            "later": np.array([tokens[2:].sum() for tokens in held]),
        },
    }
    summed = {"descent", "ascent", "drift", "turn", "refusal", "compliance", "first", "early", "later"}
    for method, parts in expected.items():
        parts["logp_preferred"] = good
        if method not in ("sft", "deep_refusal", "constrained_sft"):
            parts["logp_dispreferred"] = bad
        got = terms(method, model, params, reference, pair)
        assert got.parts.keys() == parts.keys()
        for name, values in parts.items():
            # Float32 log-probabilities of order 30; differences of two of them keep their error.
            np.testing.assert_allclose(got.parts[name], values, rtol=1e-5, atol=3e-5, err_msg=f"{method} {name}")
        if summed & parts.keys():
            total = sum(got.parts[name] for name in summed & parts.keys())
            np.testing.assert_allclose(total, got.loss, rtol=1e-6, atol=1e-6)


def given_shares(monkeypatch: pytest.MonkeyPatch, **behind: list[float]) -> None:
    """Models of these names that give the response's letter one over these shares: the four tokens of y^p, then those
    of y^l but its first."""
    # BOS, a task, SOT, three letters and EOT, which predicts the first letter of both.
    shares = {name: [2.0] * 6 + of for name, of in behind.items()}

    def stub(model: Any, params: str, tokens: jax.Array, layout: Any = None) -> jax.Array:
        """Logits of two letters, of which the first is the response's."""
        share = 1 / jnp.array(shares[params], jnp.float32)[None, : tokens.shape[1]]
        return jnp.log(jnp.stack([share, 1 - share], axis=-1))

    monkeypatch.setattr(likelihood, "forward", stub)
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda params: params)


ROLES = jnp.array([[0] * 7 + [ANSWER, ANSWER, ANSWER, END]])
ONE = Batch(jnp.zeros((1, 11), int), ROLES, jnp.array([6]), ROLES > 0, Room(4))


def test_by_hand_on_a_response_of_four_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token probabilities 1/2, 1/4, 1/8 and 1/2 for y^p: log p = -7 log 2, l = 7/4 log 2.

    For y^l, 1/2 four times: log p = -4 log 2, l = log 2. The reference gives 1/2 everywhere.
    """
    given_shares(monkeypatch, policy=[2, 4, 8, 2, 2, 2, 2], reference=[2] * 7)
    pair, model = Pair(ONE, ONE, jnp.array([False])), ModelConfig()
    log2 = float(np.log(2))
    of_sft = sft(model, "policy", "reference", pair, SFT()).loss  # type: ignore[arg-type]
    of_unlearning = unlearning(model, "policy", "reference", pair, Unlearning(0.1)).loss  # type: ignore[arg-type]
    of_dpo = dpo(model, "policy", "reference", pair, DPO(0.5, 0.25)).loss  # type: ignore[arg-type]
    np.testing.assert_allclose(of_sft, [1.75 * log2], rtol=1e-6)
    np.testing.assert_allclose(of_unlearning, [1.65 * log2], rtol=1e-6)
    # beta (-7 + 4) log 2 - gamma 0 = -1.5 log 2, so the loss is log(1 + 2^1.5).
    np.testing.assert_allclose(of_dpo, [np.log(1 + 2**1.5)], rtol=1e-6)
    # Divided by 1.5 tokens, the paper's coefficients under its code's scale: -log 2, so log(1 + 2).
    scaled = dpo(model, "policy", "reference", pair, DPO(0.5, 0.25, per=1.5))  # type: ignore[arg-type]
    np.testing.assert_allclose(scaled.loss, [np.log(3)], rtol=1e-6)
    np.testing.assert_allclose(scaled.parts["gain"], [-log2], rtol=1e-6)
    of_npo = npo(model, "policy", "reference", pair, NPO(0.5, 0.1)).loss  # type: ignore[arg-type]
    of_ipo = ipo(model, "policy", "reference", pair, IPO(0.25)).loss  # type: ignore[arg-type]
    of_simpo = simpo(model, "policy", "reference", pair, SimPO(2.0, 0.5 * log2)).loss  # type: ignore[arg-type]
    # y^l is as probable as under the reference: the second term is 0.1 (2 / 0.5) log 2.
    np.testing.assert_allclose(of_npo, [1.75 * log2 + 0.4 * log2], rtol=1e-6)
    # The margin is -3 log 2, and 2 is aimed at.
    np.testing.assert_allclose(of_ipo, [(3 * log2 + 2) ** 2], rtol=1e-6)
    # 2 (1 - 7/4) log 2 - log 2 / 2 = -2 log 2, so the loss is log(1 + 4).
    np.testing.assert_allclose(of_simpo, [np.log(5)], rtol=1e-6)


def test_by_hand_what_is_taught_of_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, but for y^l: 1/2, 1/4, 1/16 and 1/2. The mean over its three letters is 7/3 log 2, its end apart."""
    given_shares(monkeypatch, policy=[2, 4, 8, 2, 4, 16, 2], reference=[2] * 7)
    model, log2 = ModelConfig(), float(np.log(2))
    late = ONE._replace(scored=(ROLES > 0) & (jnp.arange(11) > 8)[None])  # Behind two letters 2 log 2 are left.
    for preferred, descent in ((ONE, 1.75), (late, 2.0)):
        for refused in (False, True):
            pair = Pair(preferred, ONE, jnp.array([refused]))
            of_sft = sft(model, "policy", "reference", pair, SFT()).loss  # type: ignore[arg-type]
            of_rto = rto(model, "policy", "reference", pair, RTO()).loss  # type: ignore[arg-type]
            of_deep = deep_refusal(model, "policy", "reference", pair, DeepRefusal(0.1)).loss  # type: ignore[arg-type]
            np.testing.assert_allclose(of_sft, [descent * log2], rtol=1e-6)
            np.testing.assert_allclose(of_rto, [(descent + refused * 7 / 3) * log2], rtol=1e-6)
            np.testing.assert_allclose(of_deep, [(0.2 if refused else 1.8) * descent * log2], rtol=1e-6)
    # The first token of y^p that is scored is what is taught on y^l: here the other letter, of probability 1 - 1/n.
    other = late._replace(tokens=late.tokens.at[0, 9].set(1))
    of_other = rto(model, "policy", "reference", Pair(other, ONE, jnp.array([True])), RTO())  # type: ignore[arg-type]
    np.testing.assert_allclose(of_other.parts["turn"], [-np.mean(np.log([1 / 2, 3 / 4, 15 / 16]))], rtol=1e-6)


def test_by_hand_the_constrained_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-ratios 0, -log 2, -2 log 2 and 0. At beta = 1 the first two are 2 log 2 and 2 log(1 + 2), at beta = 1/2 the
    others 4 log(1 + 2) and 4 log 2: the mean is 3/2 log 6."""
    given_shares(monkeypatch, policy=[2, 4, 8, 2, 2, 2, 2], reference=[2] * 7)
    pair, hyper = Pair(ONE, ONE, jnp.array([False])), ConstrainedSFT(1.0, 1.0, 2, 0.5)
    found = constrained_sft(ModelConfig(), "policy", "reference", pair, hyper)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.loss, [1.5 * np.log(6)], rtol=1e-6)
    np.testing.assert_allclose(found.parts["first"], [0.5 * np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(found.parts["early"], [0.5 * np.log(3)], rtol=1e-6)
    np.testing.assert_allclose(found.parts["later"], [np.log(6)], rtol=1e-6)


def test_losses_on_refusals_that_come_late_equal_their_equations(
    model: ModelConfig, params: Params, reference: Params, pair: Pair
) -> None:
    """Refusals begun by a loop, 0, 1, 2, ... letters of compliance before them."""
    tokens, scored = np.array(pair.preferred.tokens), np.array(pair.preferred.scored)
    refused, most = np.asarray(pair.refused), (np.asarray(pair.preferred.roles) == ANSWER).sum(axis=1) - 1
    begun = refused * np.minimum(np.cumsum(refused) - 1, most)
    assert {*begun.tolist()} == {0, 1, 2}
    for i, k in enumerate(begun.tolist()):
        first = int(pair.preferred.go[i]) + 1
        tokens[i, first : first + k] = pair.dispreferred.tokens[i, first : first + k]
        scored[i, first : first + k] = False
    late = pair._replace(preferred=pair.preferred._replace(tokens=jnp.asarray(tokens), scored=jnp.asarray(scored)))
    good, n_good = numpy_score(model, params, late.preferred, begun.tolist())
    turn = numpy_turn(model, params, pair)
    expected = {
        "prefix_sft": -good / n_good,
        "derta": -good / n_good + turn,
        "deep_refusal": -np.where(pair.refused, 0.6, 1.4) * good / n_good,
    }
    whole = terms("prefix_sft", model, params, reference, pair).loss
    assert (np.abs(expected["prefix_sft"] - whole) > 0.01).sum() == (begun > 0).sum()
    for method, losses in expected.items():
        got = terms(method, model, params, reference, late).loss
        np.testing.assert_allclose(got, losses, rtol=1e-4, atol=1e-5, err_msg=method)


def test_the_constrained_objective_has_the_gradient_of_sft_at_the_reference_and_less_of_likelier_tokens(
    model: ModelConfig, params: Params, reference: Params, pair: Pair
) -> None:
    of_sft, held = (gradients(method, model, params, params, pair)[1][0] for method in ("sft", "constrained_sft"))
    for name, leaf in flatten(of_sft).items():
        np.testing.assert_allclose(flatten(held)[name], leaf, rtol=1e-3, atol=1e-6, err_msg=name)
    # Elsewhere each token's share of it is times 2 sigmoid(-beta ratio).
    ratio = token_logprobs(model, params, pair.preferred) - token_logprobs(model, reference, pair.preferred)
    of = np.asarray(pair.preferred.scored)[:, 1:]
    beta = np.select([of.cumsum(axis=1) <= 1, of.cumsum(axis=1) <= 2], [0.7, 1.5], 0.4)
    weight = (2 * of * expit(-beta * np.asarray(ratio)) / of.sum(axis=1, keepdims=True)).astype(np.float32)

    def weighed(params: Params) -> jax.Array:
        return -jnp.mean(jnp.sum(weight * token_logprobs(model, params, pair.preferred), axis=-1))

    elsewhere = gradients("constrained_sft", model, params, reference, pair)[1][0]
    for name, leaf in flatten(jax.jit(jax.grad(weighed))(params)).items():
        np.testing.assert_allclose(flatten(elsewhere)[name], leaf, rtol=1e-3, atol=1e-6, err_msg=name)
    assert np.ptp(weight[of]) > 0.1


def test_dpo_per_tokens_is_dpo_with_coefficients_as_much_smaller(
    model: ModelConfig, params: Params, reference: Params, pair: Pair, scores: NumpyScores
) -> None:
    good, bad, good_ref, bad_ref = scores.good, scores.bad, scores.good_ref, scores.bad_ref
    found = compiled(dpo, model)(params, reference, pair, DPO(30.0, 20.0, per=159.0)).loss
    expected = -np.log(expit(30 / 159 * (good - good_ref) - 20 / 159 * (bad - bad_ref)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(SettingError, match=r"per=0: must be a finite number above 0; set per above 0"):
        DPO(per=0)


def test_dpo_at_the_reference_is_log_2(model: ModelConfig, params: Params, pair: Pair) -> None:
    at_start = compiled(dpo, model)(params, params, pair, DPO(0.5, 0.1)).loss
    np.testing.assert_allclose(at_start, np.full(8, np.log(2)), rtol=1e-6)


def test_nothing_diverges_at_the_reference(model: ModelConfig, params: Params, pair: Pair) -> None:
    kl = compiled(unlearning_kl, model)(params, params, pair, UnlearningKL(0.4, 1.0)).parts["drift"]
    np.testing.assert_allclose(kl, np.zeros(8), atol=1e-6)
    of_ipo = compiled(ipo, model)(params, params, pair, IPO(0.25)).loss
    np.testing.assert_allclose(of_ipo, np.full(8, 4.0), rtol=1e-5)


def test_in_bfloat16_every_part_is_float32_and_near(
    model: ModelConfig, params: Params, reference: Params, pair: Pair
) -> None:
    half, half_reference = jax.tree.map(lambda w: w.astype(jnp.bfloat16), (params, reference))
    got = terms("npo", model, half, half_reference, pair)
    exact = terms("npo", model, params, reference, pair)
    for name, values in {"loss": exact.loss, **exact.parts}.items():
        found = got.loss if name == "loss" else got.parts[name]
        assert found.dtype == jnp.float32
        # Weights and activations keep 8 bits: a percent of logits of order 10, summed over the tokens.
        np.testing.assert_allclose(found, values, rtol=0.05, atol=0.3, err_msg=name)
        assert (found != values).any()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_coefficients_out_of_range_are_an_error(value: float) -> None:
    with pytest.raises(SettingError, match=r"beta=.*must be a finite number above 0"):
        DPO(beta=value)
    for kind in (Unlearning, NPO, UnlearningKL, SimPO):
        with pytest.raises(SettingError, match=r"gamma=.*must be a finite number above 0"):
            kind(gamma=value)
    with pytest.raises(SettingError, match=r"tau=.*must be a finite number above 0"):
        IPO(tau=value)
    for name in ("first", "early", "later"):
        with pytest.raises(SettingError, match=rf"{name}=.*must be a finite number above 0"):
            ConstrainedSFT(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"alpha=.*must be a number between 0 and 1"):
        DeepRefusal(alpha=value)


def test_weights_of_nothing_and_no_token_are_errors() -> None:
    with pytest.raises(SettingError, match=r"alpha=1\.0: must be a number between 0 and 1; set alpha to 0\.2"):
        DeepRefusal(alpha=1.0)
    with pytest.raises(SettingError, match=r"until=0: must be at least 1"):
        ConstrainedSFT(until=0)
