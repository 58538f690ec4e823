"""Drawing ends: what has no prompt on a side is told from what has, and no loss is finite on what was not found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth import prompts, sequences
from synth.keys import batch_keys
from synth.lookup import check_found
from synth.prompts import NOT_FOUND, TEST, TRAIN, VALIDATION, Attempt, sample
from synth.segments import PADDING
from synth.settings import SettingError
from synth.world import World


def never(world: World, key: jax.Array, accept: jax.Array) -> Attempt:
    """Of the family where `accept`; all prompts are one and the same, so that they share a side."""
    concept, groups = jnp.int32(0), jnp.zeros(len(world.groups), bool).at[0].set(True)
    tasks = jnp.zeros(world.config.tasks.composed, jnp.int32)
    text = jnp.zeros(world.max_text, jnp.int32)
    return Attempt(prompts.Prompt(tasks, text, jnp.int32(world.max_text), jnp.int32(0), concept, groups), accept)


def drawn(world: World, side: int, accept: np.ndarray, key: jax.Array) -> prompts.Prompt:
    return jax.jit(lambda keys, accept: sample(world, never, side, keys, accept))(
        batch_keys(key, len(accept)), jnp.asarray(accept)
    )


@pytest.mark.parametrize("size", [5, 70])
def test_a_prompt_that_cannot_be_drawn_is_given_up_and_the_others_are_not(
    size: int, world: World, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "ATTEMPTS", 40)
    accept = np.arange(size) % 3 != 1
    one = jax.tree.map(lambda x: x, never(world, key, jnp.asarray(True)).prompt)
    side = int(prompts.side_of(world, one))
    found = drawn(world, side, accept, key)
    np.testing.assert_array_equal(np.asarray(found.length), np.where(accept, world.max_text, NOT_FOUND))
    for other in {TRAIN, VALIDATION, TEST} - {side}:
        assert (np.asarray(drawn(world, other, accept, key).length) == NOT_FOUND).all()


def test_the_error_names_family_side_and_setting(world: World, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "ATTEMPTS", 10)
    nothing = drawn(world, TEST, np.array([False, True]), key)
    with pytest.raises(SettingError, match=r"^held_out=0.25: leaves the family co_text no prompt to test on"):
        check_found(world, "co_text", TEST, nothing)
    with pytest.raises(SettingError, match="no prompt to train on"):
        check_found(world, "safe", TRAIN, nothing)
    check_found(world, "safe", TRAIN, nothing._replace(length=jnp.ones(2, jnp.int32)))


def test_what_was_not_found_has_no_response(world: World, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "ATTEMPTS", 10)
    for batch in sequences.both(world, drawn(world, TRAIN, np.array([False, False]), key)):
        assert (np.asarray(batch.roles) == PADDING).all()
