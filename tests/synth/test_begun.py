"""Tests of `synth/begun.py` against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np

from synth import sequences
from synth.begun import begun, given, letters
from synth.lookup import sample_batch
from synth.prompts import TRAIN
from synth.segments import ANSWER, CONTEXT, END
from synth.world import World


def test_begun_and_given_are_what_a_loop_writes(world: World, key: jax.Array) -> None:
    complying, refusing = sequences.both(world, sample_batch(world, "pretraining", TRAIN, key, 60))
    most = np.asarray(letters(refusing))
    assert (most == (np.asarray(refusing.roles) == ANSWER).sum(axis=1)).all()
    assert len(set(most.tolist())) > 2
    count = np.arange(60) % (most + 1)
    late = begun(refusing, complying, jnp.asarray(count))
    told = given(late, jnp.asarray(count))
    for i, k in enumerate(count.tolist()):
        go = int(refusing.go[i])
        first, rest = slice(go + 1, go + 1 + k), slice(go + 1 + k, go + 2 + int(most[i]))
        tokens = [*refusing.tokens[i, : go + 1], *complying.tokens[i, first], *refusing.tokens[i, rest]]
        assert late.tokens[i, : len(tokens)].tolist() == told.tokens[i, : len(tokens)].tolist() == tokens
        assert not np.any(late.scored[i, first])
        assert np.all(late.scored[i, rest])
        assert np.array_equal(late.roles[i], refusing.roles[i])
        assert np.all(told.roles[i, first] == CONTEXT)
        assert np.all(told.roles[i, rest] == late.roles[i, rest])
        assert int(told.go[i]) == go + k
        assert int(late.go[i]) == go
        assert late.roles[i, go + 1 + int(most[i])] == END


def test_no_token_given_is_nothing(world: World, key: jax.Array) -> None:
    complying, refusing = sequences.both(world, sample_batch(world, "pretraining", TRAIN, key, 60))
    for same in (begun(refusing, complying, 0), given(refusing, 0), begun(refusing, refusing, 0)):
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(same, refusing, strict=True))
