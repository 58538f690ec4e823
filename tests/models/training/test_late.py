"""Tests of `late.py`: which letters of compliance come before a refusal, by a loop and by their distribution."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from models.training.late import late_pairs, uniform
from models.training.method import DrawBatch, labelled_pairs
from models.training.methods import deep_refusal
from synth import vocab
from synth.keys import batch_keys, fold
from synth.segments import ANSWER, END
from synth.sequences import Pair
from synth.tuning_data import ENDLESS, TuningData
from synth.world import World

SIZE = 400
STREAM = TuningData(ENDLESS, 0.5, 0.1)
BATCHES = pytest.mark.parametrize("batch", [late_pairs, deep_refusal.batch])


@functools.cache
def drawing(batch: DrawBatch, world: World) -> Callable[[TuningData, jax.Array, int], Pair]:
    return jax.jit(lambda data, key, step: batch(world, data, key, step, SIZE))


def counts(pair: Pair) -> np.ndarray:
    """How many letters come before each refusal."""
    given = (np.asarray(pair.preferred.roles) == ANSWER) & ~np.asarray(pair.preferred.scored)
    return given.sum(axis=1)[np.asarray(pair.refused)]


@BATCHES
def test_a_refusal_comes_after_letters_of_compliance_that_are_not_scored(
    batch: DrawBatch, world: World, key: jax.Array
) -> None:
    plain, late = (drawing(make, world)(STREAM, key, 3) for make in (labelled_pairs, batch))
    for ours, theirs in zip(jax.tree.leaves(late[1:]), jax.tree.leaves(plain[1:]), strict=True):
        assert np.array_equal(ours, theirs)
    begun, seen = iter(counts(late)), set()
    for i, refused in enumerate(np.asarray(late.refused)):
        roles = np.asarray(plain.preferred.roles[i])
        letters = np.asarray((plain.dispreferred if refused else plain.preferred).tokens[i])[roles == ANSWER].tolist()
        k = int(next(begun)) if refused else 0
        seen.add((k, len(letters)))
        said = [*letters[:k], *[vocab.NULL] * (len(letters) - k), vocab.EOS] if refused else [*letters, vocab.EOS]
        of = slice(int(late.preferred.go[i]) + 1, int(late.preferred.go[i]) + 1 + len(said))
        assert late.preferred.tokens[i, of].tolist() == said
        assert late.preferred.scored[i, of].tolist() == [t >= k for t in range(len(said))]
        assert not np.any(late.preferred.scored[i, of.stop :])
        assert np.array_equal(late.preferred.tokens[i, : of.start], plain.preferred.tokens[i, : of.start])
        assert np.array_equal(late.preferred.roles[i], roles)
        assert roles[of.stop - 1] == END
        assert k < len(letters)
    assert len({length for _, length in seen}) > 2
    assert any(k == length - 1 > 1 for k, length in seen)


@BATCHES
def test_how_many_letters_come_before_is_drawn_from_its_own_keys(
    batch: DrawBatch, world: World, key: jax.Array
) -> None:
    draw, few = drawing(batch, world), TuningData(20, 0.5, 0.0)
    first, again, other, later = (
        draw(few, stream, step) for stream, step in ((key, 0), (key, 0), (fold(key, 1), 0), (key, 1))
    )
    assert np.array_equal(counts(first), counts(again))
    assert not np.array_equal(counts(first), counts(other))
    assert not np.array_equal(counts(first), counts(later))
    # Ten prompts at most, which come again and again, begun anew each time.
    prompts = [tuple(row) for row in np.asarray(first.dispreferred.tokens)[np.asarray(first.refused)].tolist()]
    assert len({*prompts}) <= 10
    assert len({*zip(prompts, counts(first).tolist(), strict=True)}) > len({*prompts})


@pytest.mark.parametrize("letters", [1, 2, 5])
def test_the_number_of_letters_has_its_distribution(letters: int, key: jax.Array) -> None:
    keys, size = batch_keys(fold(key, letters), 4000), 4000
    most = jnp.full(size, letters)
    found = np.bincount(np.asarray(jax.vmap(uniform)(keys, most)), minlength=letters)
    assert len(found) == letters
    # One fixed key: the level is the chance that a right drawing fails here.
    assert letters == 1 or chisquare(found).pvalue > 1e-3
    half = np.bincount(np.asarray(jax.vmap(deep_refusal.half_at_once)(keys, most)), minlength=letters)
    assert len(half) == letters
    expected = [size / 2, *[size / 2 / (letters - 1)] * (letters - 1)] if letters > 1 else [size]
    assert letters == 1 or chisquare(half, expected).pvalue > 1e-3
    assert (half[0] == size) == (letters == 1)


def test_batches_have_these_distributions(world: World, key: jax.Array) -> None:
    """Over all refusals of some steps, of whatever length."""
    for batch, expect in ((late_pairs, lambda n: np.full(n, 1 / n)), (deep_refusal.batch, half)):
        observed, expected = np.zeros(50), np.zeros(50)
        for step in range(5):
            pair = drawing(batch, world)(STREAM, key, step)
            lengths = (np.asarray(pair.preferred.roles) == ANSWER).sum(axis=1)[np.asarray(pair.refused)]
            observed += np.bincount(counts(pair), minlength=50)
            for length in lengths:
                expected[:length] += expect(length)
        some = expected > 5
        assert some.sum() > 3
        assert chisquare(observed[some], expected[some] * observed[some].sum() / expected[some].sum()).pvalue > 1e-3


def half(letters: int) -> np.ndarray:
    return np.array([0.5, *[0.5 / (letters - 1)] * (letters - 1)]) if letters > 1 else np.ones(1)
