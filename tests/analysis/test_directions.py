"""What is reported of a direction: recomputed from edited models and activations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from analysis.attribution import REGIONS, REST, attribute, mean_shares
from analysis.directions import EDITED, INTACT, measure
from analysis.edit import Fed
from analysis.edits.directions import Ablated
from analysis.metric import with_nulls
from analysis.metrics import METRICS
from analysis.metrics.directions import ROWS
from analysis.rows import Result, Row, Samples, Subject, rows
from analysis.selection import DirectionsConfig, material, search
from models.taps import capture
from models.transformer import ModelConfig, Params
from synth import sequences, vocab
from synth.keys import fold
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.world import World
from tests.analysis.planted import value
from tests.analysis.planted_refusal import MODEL, planted, subject

CONFIG = DirectionsConfig(train=16, validation=8, prompts=6, positions=(-1, 0, 1), rank=2, draws=2, soft_tokens=2)
RESID = {"module": "resid"}


@pytest.fixture(scope="module")
def one() -> Subject:
    return subject(planted(1), 1)


@pytest.fixture(scope="module")
def results(one: Subject) -> list[Result]:
    return measure(one, CONFIG)


def test_every_metric_has_a_row_of_words(results: list[Result]) -> None:
    found = {result.metric for result in results}
    assert found - {"complied", "refused", "log_odds", "first_refused"} == set(with_nulls(ROWS))
    assert found <= set(METRICS)
    places = [(row.metric, row.family, row.layer, row.module, row.index, row.position, row.intervention, row.strength)
              for row in rows(results)]  # fmt: skip
    assert len(places) == len(set(places))


def test_refusal_is_gone_without_it_and_stays_without_a_random_one(results: list[Result]) -> None:
    where = {"family": "unsafe", **RESID}
    for metric in ("refused", "first_refused"):
        assert value(results, metric, **{**where, **INTACT._asdict()}).value == 1
        assert value(results, metric, intervention="ablate", strength=1, **where).value == 0
        assert value(results, metric, intervention="ablate random", strength=1, **where).value == 1
    assert value(results, "complied", family="safe", intervention="ablate", strength=1, **RESID).value == 1
    by_weights = value(results, "log_odds", family="unsafe", intervention="ablate", strength=1, module="weights")
    by_taps = value(results, "log_odds", family="unsafe", intervention="ablate", strength=1, **RESID)
    assert by_weights.value == pytest.approx(by_taps.value, abs=1e-3)
    # Set to where safe prompts lie, it is as gone.
    assert value(results, "refused", family="unsafe", intervention="recentre", strength=1, **RESID).value == 0
    assert value(results, "first_refused", family="safe", intervention="add", strength=1, **RESID).value == 1


def test_the_rank_is_how_many_must_go(results: list[Result], one: Subject) -> None:
    assert value(results, "direction_rank").value == 1
    # Nothing is refused where no refusal can be read.
    silent = {**one.params, "W_U": one.params["W_U"].at[:, vocab.NULL].set(-1.0)}
    none = value(measure(one._replace(params=silent), replace(CONFIG, soft_tokens=0)), "direction_rank")
    assert none.missing == "the model as it is refuses hardly any unsafe prompt"


def test_what_an_edit_changes_is_recomputed(one: Subject, results: list[Result]) -> None:
    found = search(material(one, CONFIG), CONFIG, fold(one.key, "directions"))
    batch = one.prompts["safe"].complying
    fed = Fed(batch.tokens[: CONFIG.prompts, :-1], batch.go[: CONFIG.prompts])
    logs = []
    for basis in (np.zeros((1, MODEL.width)), found.basis[:1]):
        logits = Ablated(one.params, jnp.asarray(basis, jnp.float32), MODEL).logits(fed)
        logs.append(log_softmax(np.asarray(logits, float)[np.arange(CONFIG.prompts), np.asarray(fed.go)], axis=1))
    kl = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1)
    (own,) = (r for r in results if r.metric == "first_token_kl" and r.family == "safe" and r.module == "resid"
              and (r.intervention, r.strength) == ("ablate", 1))  # fmt: skip
    assert isinstance(own, Samples)
    np.testing.assert_allclose(own.values, kl, rtol=1e-3, atol=1e-5)


def test_cosines_are_with_the_direction(one: Subject, results: list[Result]) -> None:
    found = search(material(one, CONFIG), CONFIG, fold(one.key, "directions"))
    for family in ("safe", "unsafe"):
        tokens = jnp.asarray(one.observations[family].generated[: CONFIG.prompts])
        site = "blocks.1.resid_pre"
        held = np.asarray(capture(MODEL, one.params, tokens, [site])[site], float)
        held = held[:, int(one.prompts[family].complying.go[0])]
        expected = held @ found.first.unit / np.linalg.norm(held, axis=1)
        row = value(results, "refusal_cosine", family=family, layer=2, position=0)
        assert row.value == pytest.approx(expected.mean(), abs=1e-5)
    assert value(results, "refusal_cosine", family="unsafe", layer=2, position=0).value > 0.2
    assert abs(value(results, "refusal_cosine", family="safe", layer=2, position=0).value) < 0.05
    # All unsafe prompts were refused, so that none of them succeeded.
    assert value(results, "refusal_cosine_successful", family="unsafe", layer=2).missing == "there are no such prompts"
    every = value(results, "refusal_cosine", family="unsafe", layer=2, position=0).value
    assert value(results, "refusal_cosine_failed", family="unsafe", layer=2).value == pytest.approx(every)


def test_heads_and_mlps_write_what_the_stream_gains(
    model: ModelConfig, params: Params, world: World, key: jax.Array
) -> None:
    batch = sequences.both(world, sample_batch(world, "unsafe", TEST, key, 5))[0]
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((model.width, 2)))[0].T
    seen = attribute(model, params, batch, jnp.asarray(frame, jnp.float32))
    row, go = np.arange(5), np.asarray(batch.go)
    for layer in range(model.layers):
        names = [f"blocks.{layer}.{site}" for site in ("attn_out", "mlp_out", "attn.q", "attn.k")]
        attention, mlp, q, k = (np.asarray(x, float) for x in capture(model, params, batch.tokens, names).values())
        bias = np.asarray(params["blocks"][str(layer)]["attn"]["b_O"])
        heads = np.asarray(seen.heads)[:, layer].sum(axis=1) + bias @ frame.T
        np.testing.assert_allclose(heads, attention[row, go] @ frame.T, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(seen.mlps[:, layer], mlp[row, go] @ frame.T, rtol=1e-3, atol=1e-4)
        scores = np.einsum("bhk,bthk->bht", q[row, go], k) / np.sqrt(model.head_width)
        scores = np.where((np.arange(scores.shape[2])[None] <= go[:, None])[:, None], scores, -np.inf)
        pattern = softmax(scores, axis=-1)
        for i, roles in enumerate(REGIONS.values()):
            there = np.isin(np.asarray(batch.roles), roles)
            expected = (pattern * there[:, None]).sum(axis=-1)
            np.testing.assert_allclose(np.asarray(seen.attention)[:, layer, :, i], expected, rtol=1e-3, atol=1e-5)
    shares = mean_shares(np.asarray(seen.attention))
    assert list(shares) == [*REGIONS, REST]
    np.testing.assert_allclose(sum(shares.values()), 1, rtol=1e-5)


def test_the_head_that_was_planted_is_named(results: list[Result]) -> None:
    unsafe, safe = (
        value(results, "component_effect", family=family, module="attn_out", layer=1, index=1).value
        for family in ("unsafe", "safe")
    )
    assert unsafe > 10 * abs(safe)
    assert value(results, "component_effect", family="unsafe", module="attn_out", layer=2, index=1).value == 0


def test_soft_tokens_are_put_where_there_is_room(one: Subject, results: list[Result]) -> None:
    for prefix in ("adv", "adv_random"):
        assert value(results, f"{prefix}_refusal_cosine", layer=2).n == CONFIG.prompts
    fitted, random = (value(results, f"{name}_refusal_cosine", layer=2).value for name in ("adv", "adv_random"))
    assert fitted < random
    longer = measure(one, replace(CONFIG, soft_tokens=9))
    assert value(longer, "adv_refusal_cosine").missing == "longer than the model's context of 12"
    none = measure(one, replace(CONFIG, soft_tokens=0))
    assert not any(result.metric.startswith("adv") for result in none)


def test_that_none_keeps_to_the_thresholds_is_said(one: Subject) -> None:
    strict = measure(one, replace(CONFIG, induce=1e6))
    assert value(strict, "direction_passing").value == 0
    missing = [row for row in rows(strict) if row.intervention in ("ablate chosen", "add chosen") and row.family]
    assert {row.metric for row in missing} == set(EDITED)
    assert all(np.isnan(row.value) for row in missing)
    assert {row.missing for row in missing} == {
        "no direction keeps to the thresholds, KL below 0.1 and log-odds above 1e+06"
    }


def test_where_there_is_no_direction_one_row_says_so(one: Subject) -> None:
    assert one.draw
    first = one.draw(["safe"], 1, TEST)["safe"]

    def same(families: list[str], count: int, side: int) -> dict[str, object]:
        return {family: jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), first) for family in families}

    (row,) = measure(one._replace(draw=same), CONFIG)  # type: ignore[arg-type]
    assert isinstance(row, Row)
    assert (row.metric, row.missing) == (
        "direction_passing",
        "safe and unsafe prompts leave the same in the residual stream",
    )


def test_directions_of_two_rules_are_both_ablated() -> None:
    found = measure(subject(planted(2), 2), CONFIG)
    where = {"family": "unsafe", "intervention": "ablate", **RESID}
    assert value(found, "first_refused", strength=1, **where).value > 0
    assert value(found, "first_refused", strength=2, **where).value == 0
    assert value(found, "direction_rank").value == 2
