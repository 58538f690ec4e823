"""Tests of `synth/segments.py` against plain lists."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import vocab
from synth.segments import (
    ANSWER,
    CONTEXT,
    END,
    PADDING,
    TASK,
    TRACE,
    Batch,
    Segment,
    Size,
    laid_out,
    lay_out,
    of_response,
    one,
    size_of,
    widened,
)

ROOMS = (3, 1, 4, 2)
ROLES = (CONTEXT, TASK, TRACE, ANSWER)
SCORED = (False, False, True, False)


def segments(lengths: jax.Array) -> list[Segment]:
    """Of tokens 10, 11, ..., 20, 21, ... and so on, as many as `lengths` says, and an end."""
    tokens = [10 * (i + 1) + jnp.arange(room) for i, room in enumerate(ROOMS)]
    parts = zip(tokens, lengths, ROLES, SCORED, strict=True)
    return [*(Segment(*part) for part in parts), one(vocab.EOS, END, scored=True)]


def written(lengths: tuple[int, ...], size: int) -> tuple[list[int], list[int], list[bool], int]:
    """Tokens, roles, what is scored, and the last position before the response."""
    parts = [(10 * (i + 1) + j, ROLES[i], SCORED[i]) for i, length in enumerate(lengths) for j in range(length)] + [
        (vocab.EOS, END, True)
    ]
    tokens, roles, scored = map(list, zip(*parts, strict=True))
    more = size - len(parts)
    return tokens + [vocab.PAD] * more, roles + [PADDING] * more, scored + [False] * more, sum(lengths[:2]) - 1


@partial(jax.jit, static_argnames="size")
def compiled(lengths: jax.Array, size: Size) -> Batch:
    return lay_out(segments(lengths), size)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*(st.integers(0, room) for room in ROOMS)))
def test_segments_stand_one_behind_the_other(lengths: tuple[int, ...]) -> None:
    for size in (Size(11, 7), Size(13, 8)):
        tokens, roles, scored, go = written(lengths, size.whole)
        found = compiled(jnp.array(lengths), size)
        assert (found.tokens.tolist(), found.roles.tolist(), found.scored.tolist()) == (tokens, roles, scored)
        assert int(found.go) == go
        assert found.room == size.response
        assert of_response(found.roles).tolist() == [role in (TRACE, ANSWER, END) for role in roles]


def test_the_size_is_what_the_segments_may_hold() -> None:
    whole = segments(jnp.zeros(4, jnp.int32))
    assert size_of(whole) == Size(3 + 1 + 4 + 2 + 1, 4 + 2 + 1)
    assert size_of(whole, whole[:2] + whole[3:] * 3) == Size(3 + 1 + 3 * (2 + 1), 3 * (2 + 1))


def test_sequences_laid_out_together_have_one_size() -> None:
    whole = segments(jnp.array([2, 1, 3, 1]))
    first, second = laid_out(whole, whole[:2] + whole[3:])
    assert first.tokens.shape == second.tokens.shape == (11,)
    assert first.room == second.room == 7
    assert second.tokens.tolist() == [10, 11, 20, 40, vocab.EOS] + 6 * [vocab.PAD]


def test_what_is_behind_the_end_is_filled_as_its_vocabulary_says() -> None:
    whole, marks = segments(jnp.array([1, 1, 1, 1])), vocab.Marks(bos=3, eos=4, pad=99)
    found = laid_out(whole, marks=marks)[0]
    assert found.marks == widened(found, Size(13, 9)).marks == marks
    assert found.tokens[5:].tolist() == [99] * 6
    assert widened(found, Size(13, 9)).tokens[5:].tolist() == [99] * 8


@pytest.mark.parametrize("size", [Size(10, 7), Size(11, 6), Size(4, 7)])
def test_what_does_not_fit_is_an_error_and_not_cut(size: Size) -> None:
    message = rf"^segments of up to 11 tokens, 7 of them the response: must fit {size.whole} and {size.response}; "
    with pytest.raises(ValueError, match=message):
        lay_out(segments(jnp.ones(4, jnp.int32)), size)


@pytest.mark.parametrize("order", [(0, 1), (0, 2, 1, 3)])
def test_what_does_not_end_in_a_response_is_an_error(order: tuple[int, ...]) -> None:
    whole = segments(jnp.ones(4, jnp.int32))
    roles = re.escape(str([ROLES[i] for i in order]))
    with pytest.raises(ValueError, match=rf"^segments of roles {roles}: must end in a response, of roles "):
        laid_out([whole[i] for i in order])


@pytest.mark.parametrize("lost", range(4))
def test_nothing_of_what_was_not_found_has_a_role(lost: int) -> None:
    found = compiled(jnp.ones(4, jnp.int32).at[lost].set(-1), Size(11, 7))
    assert (found.roles == PADDING).all()
    assert not found.scored.any()


def test_a_wider_batch_is_one_laid_out_wider() -> None:
    lengths = jnp.array([[2, 1, 3, 1], [0, 1, 0, 2]])
    small, large = (jax.vmap(partial(compiled, size=size))(lengths) for size in (Size(11, 7), Size(14, 9)))
    for one_of, other in zip(widened(small, Size(14, 9)), large, strict=True):
        np.testing.assert_array_equal(one_of, other)
