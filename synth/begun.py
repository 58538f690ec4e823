"""Responses that are begun for the model: by the first tokens of another response, or of their own."""

import jax
import jax.numpy as jnp

from synth.segments import CONTEXT, Batch, of_response


def begun(batch: Batch, other: Batch, count: jax.Array | int) -> Batch:
    """`batch` [..., T] whose response begins with the first `count` [...] tokens of that of `other`, which are not
    scored; from there on it is as it was.

    Both are the same prompts, laid out in one size. Where a response stands for the text letter by letter, what is left
    of it are the letters that are left.
    """
    first = _begins(batch, count)
    tokens, roles = (jnp.where(first, theirs, ours) for ours, theirs in zip(batch[:2], other[:2], strict=True))
    return batch._replace(tokens=tokens, roles=roles, scored=batch.scored & ~first)


def given(batch: Batch, count: jax.Array | int) -> Batch:
    """`batch` [..., T] with the first `count` [...] tokens of its response as part of the prompt: what a model then
    says is the rest."""
    first = _begins(batch, count)
    roles = jnp.where(first, CONTEXT, batch.roles)
    return batch._replace(roles=roles, go=batch.go + count, scored=batch.scored & ~first)


def letters(batch: Batch) -> jax.Array:
    """[...] how many tokens the responses of `batch` [..., T] have, the end apart."""
    return jnp.sum(of_response(batch.roles), axis=-1) - 1


def opening(batch: Batch) -> jax.Array:
    """[...] the token that the responses of `batch` [..., T] open with."""
    return jnp.take_along_axis(batch.tokens, batch.go[..., None] + 1, axis=-1)[..., 0]


def _begins(batch: Batch, count: jax.Array | int) -> jax.Array:
    along = jnp.broadcast_to(jnp.arange(batch.tokens.shape[-1]), batch.tokens.shape)
    behind = along - batch.go[..., None]
    return (behind >= 1) & (behind <= jnp.broadcast_to(jnp.asarray(count), batch.go.shape)[..., None])
