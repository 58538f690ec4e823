"""Tests of the objectives in `models/training/methods/`: each against its equation, by hand and by NumPy."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy

from models import likelihood
from models.training.methods import CONTROLS, METHODS
from models.training.methods.dpo import DPO, dpo
from models.training.methods.ipo import IPO, ipo
from models.training.methods.npo import NPO, npo
from models.training.methods.sft import SFT, sft
from models.training.methods.simpo import SimPO, simpo
from models.training.methods.unlearning import Unlearning, unlearning
from models.training.methods.unlearning_kl import UnlearningKL, unlearning_kl
from models.transformer import ModelConfig, Params, forward
from synth import vocab
from synth.segments import ANSWER, END, Batch, Room
from synth.sequences import Pair
from synth.settings import SettingError
from tests.models.training.terms import compiled, terms


@functools.cache
def logits(model: ModelConfig) -> Callable[[Params, jax.Array], jax.Array]:
    return jax.jit(functools.partial(forward, model))


def numpy_score(model: ModelConfig, params: Params, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """log p(y|x) and |y| of each response, by a loop."""
    found = np.asarray(logits(model)(params, batch.tokens), np.float64)
    totals, counts = [], []
    for row, tokens, roles in zip(found, np.asarray(batch.tokens), np.asarray(batch.roles), strict=True):
        places = [t for t in range(1, len(tokens)) if roles[t] in (ANSWER, END)]
        totals.append(sum(log_softmax(row[t - 1])[tokens[t]] for t in places))
        counts.append(len(places))
    return np.array(totals), np.array(counts)


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
    """By NumPy: log p and |y| of both responses, log p under the reference, and the divergence from it."""

    good: np.ndarray
    n_good: np.ndarray
    bad: np.ndarray
    n_bad: np.ndarray
    good_ref: np.ndarray
    bad_ref: np.ndarray
    kl: np.ndarray


@pytest.fixture(scope="module")
def scores(model: ModelConfig, params: Params, reference: Params, pair: Pair) -> NumpyScores:
    good, bad = (numpy_score(model, params, batch) for batch in pair[:2])
    good_ref, bad_ref = (numpy_score(model, reference, batch)[0] for batch in pair[:2])
    return NumpyScores(*good, *bad, good_ref, bad_ref, numpy_divergence(model, params, reference, pair))


def test_each_loss_equals_its_equation_in_numpy(
    model: ModelConfig, params: Params, reference: Params, pair: Pair, scores: NumpyScores
) -> None:
    good, n_good, bad, n_bad, good_ref, bad_ref, kl = scores
    expected = {
        "sft": -good / n_good,
        "unlearning": -good / n_good + 0.4 * bad / n_bad,
        "dpo": -np.log(expit(0.3 * (good - good_ref) - 0.2 * (bad - bad_ref))),
        "npo": -good / n_good - 0.2 * 2 / 0.3 * np.log(expit(-0.3 * (bad - bad_ref))),
        "unlearning_kl": -good / n_good + 0.4 * bad / n_bad + 0.7 * kl,
        "ipo": ((good - good_ref) - (bad - bad_ref) - 5) ** 2,
        "simpo": -np.log(expit(1.5 * good / n_good - 1.5 * bad / n_bad - 0.5)),
        **{name: -good / n_good for name in CONTROLS},
    }
    for method in METHODS:
        got = terms(method, model, params, reference, pair).loss
        np.testing.assert_allclose(got, expected[method], rtol=1e-4, atol=1e-5, err_msg=method)


def test_the_parts_of_each_loss_equal_theirs_and_add_up_to_it(
    model: ModelConfig, params: Params, reference: Params, pair: Pair, scores: NumpyScores
) -> None:
    good, n_good, bad, n_bad, good_ref, bad_ref, kl = scores
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
    }
    for method, parts in expected.items():
        parts["logp_preferred"] = good
        if method != "sft":
            parts["logp_dispreferred"] = bad
        got = terms(method, model, params, reference, pair)
        assert got.parts.keys() == parts.keys()
        for name, values in parts.items():
            # Float32 log-probabilities of order 30; differences of two of them keep their error.
            np.testing.assert_allclose(got.parts[name], values, rtol=1e-5, atol=3e-5, err_msg=f"{method} {name}")
        if "descent" in parts:
            total = sum(got.parts[name] for name in ("descent", "ascent", "drift") if name in parts)
            np.testing.assert_allclose(total, got.loss, rtol=1e-6, atol=1e-6)


def test_by_hand_on_a_response_of_four_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token probabilities 1/2, 1/4, 1/8 and 1/2 for y^p: log p = -7 log 2, l = 7/4 log 2.

    For y^l, 1/2 four times: log p = -4 log 2, l = log 2. The reference gives 1/2 everywhere.
    """
    # BOS, a task, SOT, three letters and EOT, which predicts the first letter of both; then y^p, and behind it y^l.
    before = [2.0] * 6
    shares = {"policy": [*before, 2.0, 4.0, 8.0, 2.0, *[2.0] * 3], "reference": [2.0] * 13}

    def stub(model: Any, params: str, tokens: jax.Array, layout: Any = None) -> jax.Array:
        """Logits of two letters, of which the first is the response's."""
        share = 1 / jnp.array(shares[params])[None, : tokens.shape[1]]
        return jnp.log(jnp.stack([share, 1 - share], axis=-1))

    monkeypatch.setattr(likelihood, "forward", stub)
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda params: params)
    roles = jnp.array([[0] * 7 + [ANSWER, ANSWER, ANSWER, END]])
    one = Batch(jnp.zeros((1, 11), int), roles, jnp.array([6]), roles > 0, Room(4))
    pair, model = Pair(one, one, jnp.array([False])), ModelConfig()
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


def test_dpo_per_tokens_is_dpo_with_coefficients_as_much_smaller(
    model: ModelConfig, params: Params, reference: Params, pair: Pair, scores: NumpyScores
) -> None:
    good, _, bad, _, good_ref, bad_ref, _ = scores
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
