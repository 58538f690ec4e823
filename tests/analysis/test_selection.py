"""Which direction is found, by what it is chosen, and what is said where there is none: planted ones are."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.edit import Weights
from analysis.edits.directions import Ablated
from analysis.refusal import refusal_log_odds
from analysis.rows import Subject
from analysis.scores import generated, scores, stacked
from analysis.selection import (
    LEAST,
    Candidates,
    DirectionsConfig,
    Found,
    Material,
    NoDirectionError,
    differences,
    material,
    relabelled,
    search,
    streams,
)
from synth import vocab
from synth.settings import SettingError
from tests.analysis.planted_refusal import MODEL, directions, planted, subject, world

CONFIG = DirectionsConfig(train=24, validation=12, prompts=12, positions=(-1, 0, 1), rank=3, draws=2)


@pytest.fixture(scope="module", params=[1, 2])
def rules(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def one(rules: int) -> Subject:
    return subject(planted(rules), rules)


@pytest.fixture(scope="module")
def of(one: Subject) -> Material:
    return material(one, CONFIG)


@pytest.fixture(scope="module")
def found(of: Material, key: jax.Array) -> Found:
    return search(of, CONFIG, key)


def refused(one: Subject, basis: np.ndarray) -> float:
    """The share of other unsafe prompts that are, to the letter, with a basis ablated."""
    asked = stacked(one.prompts, 12, ["unsafe"])
    return float(scores(Ablated(one.params, jnp.asarray(basis, jnp.float32), MODEL), asked).refused.mean())


def test_what_was_planted_is_found(rules: int, one: Subject, of: Material, found: Found) -> None:
    truth, basis = directions(rules), found.basis[:rules]
    # Beyond the planted plane lies the sine of an angle.
    for within, beyond in ((truth, found.first.unit[None]), (truth, basis), (basis, truth)):
        assert np.degrees(np.arcsin(np.linalg.norm(beyond - beyond @ within.T @ within, 2))) < 1
    assert found.first.layer == 1  # Attention of the first layer writes one, so that the second one reads it first.
    assert set(np.flatnonzero(of.refusal)) == {vocab.NULL}
    assert refused(one, np.zeros((1, MODEL.width))) == 1


def test_as_many_must_go_as_there_are_rules(rules: int, one: Subject, found: Found) -> None:
    left = [refused(one, found.basis[:k]) for k in range(1, len(found.basis) + 1)]
    assert np.argmin(left) + 1 == rules
    assert left[rules - 1] == 0
    assert rules == 1 or left[0] > 0
    np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(len(found.basis)), atol=1e-6)
    random = np.linalg.qr(np.random.default_rng(2).standard_normal((MODEL.width, rules)))[0].T
    assert refused(one, random) == 1


def test_without_it_the_model_does_as_with_safe_prompts(one: Subject, found: Found, rules: int) -> None:
    asked = stacked(one.prompts, 12)
    truth, go = jnp.asarray(directions(rules), jnp.float32), int(asked.complying.go[0, 0])
    said = generated(Ablated(one.params, truth, MODEL), asked)
    np.testing.assert_array_equal(said[..., go + 1], asked.complying.tokens[..., go - 1])
    assert np.asarray(scores(Weights(one.params, MODEL), asked).complied).tolist() == [[True] * 12, [False] * 12]
    passing = found.candidates.passing(CONFIG, MODEL.layers)
    if rules == 1:
        assert found.chosen is not None
        assert found.first.unit @ found.chosen.unit > 0.999
        assert found.candidates.kl[passing].max() < CONFIG.kl


def test_means_are_those_of_the_prompts_that_count(of: Material) -> None:
    seen = streams(of, CONFIG, np.zeros((1, MODEL.width)))
    which = np.random.default_rng(0).permutation(len(seen)) < 9, np.arange(len(seen)) % 3 == 0
    expected = seen[which[0]].astype(float).mean(axis=0) - seen[which[1]].astype(float).mean(axis=0)
    np.testing.assert_allclose(differences(seen, which), expected, rtol=1e-6)


def test_the_filter_keeps_what_the_model_gets_right(rules: int, of: Material) -> None:
    assert of.train.kept.all()
    # Safe prompts lead to a refusal where it is read from EOT and their letter from nothing.
    letters = slice(world(rules).vocab.first_letter, None, 2)
    unread = of.params["W_U"].at[:, letters].set(0.0).at[vocab.EOT, vocab.NULL].set(2.0)
    silent = subject({**of.params, "W_U": unread}, rules)
    kept = material(silent, CONFIG).train
    logits = Weights(silent.params, MODEL).logits(kept.fed)[jnp.arange(len(kept.fed.go)), kept.fed.go]
    right = (np.asarray(refusal_log_odds(logits, jnp.asarray(of.refusal))) > 0) == kept.unsafe
    assert LEAST <= right[~kept.unsafe].sum() < (~kept.unsafe).sum()
    np.testing.assert_array_equal(kept.kept, right)
    assert material(silent, replace(CONFIG, filtered=False)).train.kept.all()
    # Where it would leave too few, all of that side.
    no_letter = {**of.params, "W_U": unread.at[:, letters.start :].set(0.0)}
    assert material(subject(no_letter, rules), CONFIG).train.kept.all()


def test_labels_are_dealt_out_by_combination(of: Material, rules: int, key: jax.Array) -> None:
    dealt, kinds = [relabelled(of, jax.random.fold_in(key, i)) for i in range(100)], len(world(rules).groups)
    for one in dealt:
        for asked in (one.train, one.validation):
            for cell in np.unique(asked.cells, axis=0):
                assert len(set(asked.unsafe[(asked.cells == cell).all(axis=1)])) == 1
        assert len(np.unique(one.train.cells[one.train.unsafe], axis=0)) == kinds * rules
        cell, both = one.train.cells[0], (one.train, one.validation)
        assert len({bool(asked.unsafe[(asked.cells == cell).all(axis=1)][0]) for asked in both}) == 1
    assert len({tuple(one.train.unsafe) for one in dealt}) == math.comb(kinds * (rules + 1), kinds)


def test_the_lowest_bypass_score_is_chosen_among_those_that_pass() -> None:
    names = ("bypass", "induce", "kl")
    scored = np.array([[-3, 1, 0.05], [-9, 1, 0.5], [-8, -1, 0.05], [-5, 1, 0.05], [-7, 1, 0.05], [np.nan] * 3])
    of_scores = {name: scored[:, i] for i, name in enumerate(names)}
    whole = Candidates(np.eye(6), np.array([0, 0, 0, 1, 4, 1]), np.arange(6), **of_scores)
    passing = whole.passing(CONFIG, 5)  # Layer 4 of 0 to 4 is beyond the first 80 %.
    np.testing.assert_array_equal(passing, [True, False, False, True, False, False])
    one = whole.least(passing)
    assert one is not None
    assert (one.layer, one.position) == (1, 3)
    assert whole.least(np.zeros(6, bool)) is None


def test_where_all_prompts_leave_the_same_there_is_no_direction(of: Material, key: jax.Array) -> None:
    same = of.train._replace(fed=jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), of.train.fed))
    with pytest.raises(NoDirectionError, match="leave the same"):
        search(of._replace(train=same), CONFIG, key)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": ()}, r"positions=\[\]: must be different numbers"),
        ({"positions": (0, 0)}, r"positions=\[0, 0\]: must be different"),
        ({"layers_share": 0.0}, r"layers_share=0.0: must be in \(0, 1\]"),
        ({"kl": 0.0}, "kl=0.0: must be above 0"),
        ({"soft_tokens": -1}, "soft_tokens=-1: must be 0 or more"),
        ({"train": 0}, "train=0: must be at least 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        DirectionsConfig(**settings)  # type: ignore[arg-type]
