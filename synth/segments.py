"""Sequences of tokens, laid out of segments: the one type that crosses packages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from synth.vocab import MARKS, Marks

# The role of each position, so that any mask is one comparison.
PADDING, START, TASK, TEXT_START, TEXT, RESPONSE_START, ANSWER, END, TRACE, CONTEXT = range(10)

_RESPONSE = (TRACE, ANSWER, END)
"""The roles of what a model is to say"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Segment:
    """Tokens that stand one behind the other and have one role."""

    tokens: jax.Array
    """[most] of which the first `length` are the segment"""
    length: jax.Array | int
    """Below 0 in a prompt that was not found: no position of its sequence then has a role"""
    role: int = field(metadata={"static": True})
    scored: bool = field(default=False, metadata={"static": True})
    """Whether log p(y|x) and the losses on a response count it"""


class Size(NamedTuple):
    """What sequences have room for."""

    whole: int
    """Tokens"""
    response: int
    """Of them those of a response, its end included"""


@jax.tree_util.register_static
class Room(int):
    """A number of tokens that compiled programs are made for."""


class Batch(NamedTuple):
    """Token sequences [..., T], padded at the end."""

    tokens: jax.Array
    roles: jax.Array
    """[..., T] what each position is, one of the roles of this module"""
    go: jax.Array
    """[...] the last position before the response, which predicts its first token"""
    scored: jax.Array
    """[..., T] bool: which tokens log p(y|x) and the losses on a response count"""
    room: Room
    """The most tokens of a response, its end included; a number of the program, not of the data"""
    marks: Marks = MARKS
    """What ends its responses and fills what is behind them"""


def one(token: int, role: int, scored: bool = False) -> Segment:
    """A segment of one token."""
    return Segment(jnp.full(1, token, jnp.int32), 1, role, scored)


def of_response(roles: Any) -> Any:
    """[...] bool: whether positions with `roles` [...] belong to a response; works on NumPy and JAX arrays alike."""
    trace, answer, end = (roles == role for role in _RESPONSE)
    return trace | answer | end


def size_of(*sequences: Sequence[Segment]) -> Size:
    """What holds each of `sequences`, however long its segments are."""
    sizes = [
        (sum(s.tokens.shape[-1] for s in segments), sum(s.tokens.shape[-1] for s in segments if s.role in _RESPONSE))
        for segments in sequences
    ]
    return Size(*map(max, zip(*sizes, strict=True)))


def lay_out(segments: Sequence[Segment], size: Size, marks: Marks = MARKS) -> Batch:
    """The sequence of `segments`, one behind the other and padded to `size`; the last of them are the response.

    `marks` are those of the vocabulary that the tokens are of, by default a grammar world's.

    Raises ValueError where they do not end in a response, or may be longer than `size`: nothing is cut.
    """
    most, said = size_of(segments), [segment.role in _RESPONSE for segment in segments]
    if said != sorted(said) or not any(said):
        raise ValueError(
            f"segments of roles {[s.role for s in segments]}: must end in a response, of roles {_RESPONSE}"
        )
    if any(needed > there for needed, there in zip(most, size, strict=True)):
        raise ValueError(
            f"segments of up to {most.whole} tokens, {most.response} of them the response: must fit {size.whole} and "
            f"{size.response}; lay out in size_of them"
        )
    position = jnp.arange(size.whole)
    tokens, roles = jnp.zeros_like(position), jnp.zeros_like(position)
    scored = jnp.zeros_like(position, bool)
    first: Any = 0
    go: Any = None
    found: Any = True
    padding = Segment(jnp.full(1, marks.pad, jnp.int32), 0, PADDING)
    # Later segments win: each gives the tokens and roles from its first position on.
    for segment in (*segments, padding):
        if go is None and segment.role in _RESPONSE:
            go = first - 1
        begun, last = position >= first, segment.tokens.shape[-1] - 1
        own = segment.tokens[jnp.clip(position - first, 0, last)] if last else segment.tokens[0]
        tokens = jnp.where(begun, own, tokens)
        roles = jnp.where(begun, segment.role, roles)
        scored = jnp.where(begun, segment.scored, scored)
        first = first + segment.length
        if not isinstance(segment.length, int):
            found = found & (segment.length >= 0)
    # No part of a prompt that was not found counts as anything.
    roles, scored = jnp.where(found, roles, PADDING), jnp.where(found, scored, False)
    return Batch(tokens.astype(jnp.int32), roles.astype(jnp.int32), jnp.int32(go), scored, Room(size.response), marks)


def laid_out(*sequences: Sequence[Segment], marks: Marks = MARKS) -> tuple[Batch, ...]:
    """Each of `sequences`, all in the least size that holds them; `marks` as for `lay_out`."""
    size = size_of(*sequences)
    return tuple(lay_out(segments, size, marks) for segments in sequences)


def widened(batch: Batch, size: Size) -> Batch:
    """`batch` [..., T] as it would have been laid out in a larger `size`."""
    more = [(0, 0)] * (batch.tokens.ndim - 1) + [(0, size.whole - batch.tokens.shape[-1])]
    filled = zip((batch.tokens, batch.roles, batch.scored), (batch.marks.pad, PADDING, False), strict=True)
    tokens, roles, scored = (jnp.pad(x, more, constant_values=fill) for x, fill in filled)
    return Batch(tokens, roles, batch.go, scored, Room(size.response), batch.marks)
