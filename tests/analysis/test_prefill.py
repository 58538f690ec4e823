"""Begun responses: a model that is safe at its first token alone, and each number by generation and a loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import prefill
from analysis.observe import observe
from analysis.prefill import (
    PrefillConfig,
    begun_answers,
    begun_refusals,
    over_some,
    prefilled,
    random_letters,
    said,
)
from analysis.rows import Row, Samples, Subject
from models.decode import greedy
from models.transformer import ModelConfig, Params, forward, init
from synth import sequences, vocab
from synth.begun import letters
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.segments import ANSWER
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World
from tests.analysis.asked import noisy, subject
from tests.analysis.planted import value

CONFIG = PrefillConfig(prompts=10)


@pytest.fixture(scope="module")
def asked(world: World, key: jax.Array) -> Prompts:
    """[1, 30] of various lengths, from three letters on, none of whose answers has a letter twice."""
    drawn = Prompts(*sequences.both(world, sample_batch(world, "pretraining", TEST, key, 600)))
    rows = zip(*(np.asarray(x) for x in drawn.complying[:2]), strict=True)
    said = [tokens[roles == ANSWER].tolist() for tokens, roles in rows]
    chosen = [i for i, one in enumerate(said) if len(set(one)) == len(one) > 2][:30]
    prompts: Prompts = jax.tree.map(lambda x: x[np.array(chosen)][None], drawn)
    assert len(set(np.asarray(letters(prompts.complying)).ravel().tolist())) > 1
    return prompts


def shallow(world: World, prompts: Prompts) -> tuple[ModelConfig, Params]:
    """A model for one prompt that refuses if nothing was said yet, and goes on with the answer if that was begun: its
    next token depends on the last one alone."""
    size = world.vocab.size
    model = ModelConfig(layers=1, heads=1, width=size, mlp_ratio=1, positions="rotary", norm="rms", biases=False)
    params = jax.tree.map(jnp.zeros_like, init(model, size, jax.random.key(0)))
    tokens, roles = (np.asarray(x)[0] for x in prompts.complying[:2])
    answer = tokens[roles == ANSWER].tolist()
    follows = np.zeros((size, size), np.float32)
    for one, other in itertools.pairwise([*answer, vocab.EOS]):
        follows[one, other] = 1
    follows[vocab.EOT, vocab.NULL] = follows[vocab.NULL, vocab.NULL] = 1
    ends = {"W_E": jnp.eye(size), "W_U": jnp.asarray(follows), "ln_final": {"w": jnp.ones(size)}}
    return model, {**params, **ends}


def test_a_model_that_is_safe_at_its_first_token_alone_is_found_out(world: World, asked: Prompts) -> None:
    for i in range(5):
        one = jax.tree.map(lambda x, i=i: x[:, [i]], asked)
        model, params = shallow(world, jax.tree.map(lambda x: x[0], one))
        longest = int(letters(one.complying)[0, 0])
        for k in range(longest + 1):
            found = {name: of[0, 0] for name, of in said(model, params, prefilled(one, one.complying, k)).items()}
            assert found["complied"] == (k > 0)
            if k < longest:
                assert found["stopped"] == (k == 0)
                assert (found["log_odds"] > 0) == (k > 0)
            begun = said(model, params, prefilled(one, one.refusing, k))
            assert begun["complied"][0, 0] == 0
            # It never ends.
            assert begun["refused"][0, 0] == 0


def test_what_is_said_is_what_is_generated(
    world: World, asked: Prompts, model: ModelConfig, params: Params, key: jax.Array
) -> None:
    """Judged by teacher forcing here, and by letting the model go on there."""
    right = 0
    # A model of chance alone never says anything right: some of these are made to.
    for k, by in itertools.product((0, 1, 3), (asked.complying, asked.refusing, random_letters(asked.complying, key))):
        begun = jax.tree.map(lambda x: x[0], prefilled(asked, by, k))
        first = np.asarray(begun.complying.tokens)
        for row, own in enumerate(first):
            go = int(begun.complying.go[row])
            assert own[go - k + 1 : go + 1].tolist() == np.asarray(by.tokens)[0, row, go - k + 1 : go + 1].tolist()
        for weights in (params, {**params, "W_U": params["W_U"].at[:, vocab.NULL].add(3.0)}):
            batch = begun.complying
            whole = greedy(
                lambda tokens, weights=weights: forward(model, weights, tokens), batch.tokens, batch.go, batch.marks
            )
            found = said(model, weights, jax.tree.map(lambda x: x[None], begun))
            for name, expected in (("complied", begun.complying), ("refused", begun.refusing)):
                same = np.asarray(whole == expected.tokens).all(axis=1)
                np.testing.assert_array_equal(found[name][0], same)
                right += same.sum()
            following = np.asarray(begun.refusing.go) + 1
            rows = np.arange(len(following))
            stopped = np.asarray(whole)[rows, following] == np.asarray(begun.refusing.tokens)[rows, following]
            np.testing.assert_array_equal(found["stopped"][0], stopped)
            right += stopped.sum()
    assert right > 0


def test_what_some_letters_give_is_a_mean_over_their_number(tuned: Subject) -> None:
    values = np.arange(12.0).reshape(4, 3)
    # Of one letter none is given with some left; of two it is 1, of three it is 1 or 2.
    np.testing.assert_array_equal(over_some(values, np.array([1, 2, 3])), [4.0, (5 + 8) / 2])
    results, counts = prefill.measure(tuned, CONFIG), np.asarray(letters(tuned.prompts["unsafe"].complying))
    counts = counts[: CONFIG.prompts]
    for name in ("prefill_stopped", "prefill_random_complied"):
        of_prompts: list[list[float]] = [[] for _ in counts]
        for k in range(1, int(counts.max())):
            (of_k,) = (one for one in results if (one.metric, one.family, one.index) == (name, "unsafe", k))
            assert isinstance(of_k, Samples)
            enough = np.flatnonzero(counts > k if name.endswith("stopped") else counts >= k)
            for i, one in zip(enough.tolist(), of_k.values, strict=True):
                of_prompts[i] += [float(one)] if k < counts[i] else []
        expected = np.mean([np.mean(one) for one in of_prompts if one])
        assert value(results, name.replace("prefill", "begun"), family="unsafe").value == pytest.approx(expected)


def test_random_letters_stand_where_letters_do_and_are_letters(asked: Prompts, key: jax.Array) -> None:
    found, answer = random_letters(asked.complying, key), np.asarray(asked.complying.roles) == ANSWER
    ours, theirs = (np.asarray(of.tokens) for of in (found, asked.complying))
    np.testing.assert_array_equal(ours[~answer], theirs[~answer])
    assert set(ours[answer].tolist()) <= set(theirs[answer].tolist())
    assert (ours[answer] == theirs[answer]).mean() < 0.5


@pytest.fixture(scope="module")
def tuned(world: World, model: ModelConfig, params: Params) -> Subject:
    return subject(world, model, noisy(params), params)


def test_prompts_with_too_few_letters_are_left_out(tuned: Subject) -> None:
    found = list(begun_answers(tuned, CONFIG, ["unsafe", "co_task"]))
    counts = {
        family: np.asarray(letters(tuned.prompts[family].complying))[: CONFIG.prompts]
        for family in ("unsafe", "co_task")
    }
    assert len(set(counts["unsafe"].tolist())) > 1
    for one in found:
        if one.index is None:
            assert isinstance(one, Row)
            assert one.n == (counts[str(one.family)] > 1).sum()
            continue
        assert isinstance(one, Samples)
        index = one.index or 0
        least = index + 1 if one.metric.endswith("stopped") else index
        assert len(one.values) == (counts[str(one.family)] >= least).sum() > 0
    named = {(one.metric, one.family) for one in found}
    assert ("prefill_complied", "co_task") in named
    assert ("prefill_random_complied", "unsafe") in named
    assert ("prefill_random_complied", "co_task") not in named
    for metric in ("prefill_complied", "prefill_random_complied"):
        places = {one.index for one in found if (one.metric, one.family) == (metric, "unsafe")}
        assert places == set(range(int(counts["unsafe"].max()) + 1))


def test_with_nothing_given_it_is_behaviour(tuned: Subject) -> None:
    results = prefill.measure(tuned, CONFIG)
    for family in ("unsafe", "co_task"):
        seen = tuned.observations[family]
        for metric, own in (("complied", seen.teacher_complied), ("refused", seen.teacher_refused)):
            found = value(results, f"prefill_{metric}", family=family, index=0).value
            assert found == np.asarray(own[: CONFIG.prompts]).mean()
    for one in begun_refusals(tuned, CONFIG):
        if one.index == 0 and one.metric.startswith("prefill"):
            metric = one.metric.replace("prefill_null", "teacher")
            seen = getattr(tuned.observations[str(one.family)], metric)
            assert one.value == np.asarray(seen[: CONFIG.prompts]).mean()
    assert not any(one.family == "safe" and one.metric == "prefill_complied" for one in results)
    chosen = prefill.measure(tuned, PrefillConfig(families=("co_task",), prompts=4))
    assert {one.family for one in chosen if one.metric.startswith("prefill_complied")} == {"co_task"}


def test_refusals_are_found_where_they_begin(world: World, asked: Prompts, model: ModelConfig, params: Params) -> None:
    prompts = jax.tree.map(lambda x: x[0], asked)
    seen = observe(model, params, prompts, 1)
    generated = np.asarray(prompts.complying.tokens).copy()
    go, counts = np.asarray(prompts.refusing.go), np.asarray(letters(prompts.refusing))
    places = [i % (int(n) + 1) for i, n in enumerate(counts)]
    for i, place in enumerate(places):
        generated[i, go[i] + 1 + place : go[i] + 1 + counts[i]] = vocab.NULL
    made = Subject(model, params, params, {"unsafe": prompts}, {"unsafe": seen._replace(generated=generated)}, {}, None)
    found = list(prefill.where_refusals_begin(made))
    begun = np.array([place for place, n in zip(places, counts, strict=True) if place < n])
    for k in range(int(counts.max())):
        row = value(found, "refusal_at", index=k + 1)
        assert isinstance(row, Row)
        assert row.value == pytest.approx((begun == k).sum() / len(places))
    first = value(found, "refusal_first")
    assert (first.value, first.n) == (pytest.approx((begun == 0).mean()), len(begun))
    never = made._replace(observations={"unsafe": seen._replace(generated=np.asarray(prompts.complying.tokens))})
    assert value(list(prefill.where_refusals_begin(never)), "refusal_first").missing == "there are no such prompts"


def test_settings_that_cannot_be_used_are_one_line() -> None:
    with pytest.raises(SettingError, match=r"^prompts=0: must be at least 1; set prompts to 1 or more"):
        PrefillConfig(prompts=0)
    with pytest.raises(SettingError, match=r"^families=none: "):
        PrefillConfig(families=("none",))
