"""Soft tokens: embeddings that are no token's, put before the response."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from analysis.observe import at_once, in_pieces
from models.fork import take
from models.taps import capture
from models.transformer import ModelConfig, Params, Tap, forward
from synth.keys import batch_keys
from synth.segments import PADDING, Batch


def places(go: jax.Array, count: int, width: int, length: int) -> jax.Array:
    """[B, width] what stands where once `count` soft tokens are inserted at position go [B] of `length` tokens.

    Token t as t, soft token i as length + i, and what is behind the sequence as a number beyond all.
    """
    position = jnp.arange(width)[None]
    offset = position - go[:, None]
    token = position - jnp.clip(offset, 0, count)
    here = jnp.where((offset >= 0) & (offset < count), length + offset, token)
    return jnp.where(token < length, here, np.iinfo(np.int32).max)


def insert(batch: Batch, count: int, width: int) -> Batch:
    """`batch` [B, T] as [B, width] with `count` placeholders (padding) before EOT; tokens behind `width` are lost."""
    place = places(batch.go, count, width, batch.tokens.shape[-1])
    tokens, roles = take(batch.tokens, place, batch.marks.pad), take(batch.roles, place, PADDING)
    return Batch(tokens, roles, batch.go + count, take(batch.scored, place, False), batch.room, batch.marks)


def with_soft_tokens(
    model: ModelConfig, params: Params, batch: Batch, count: int, width: int, shift: bool
) -> Callable[[jax.Array], Tap]:
    """From soft tokens [B, K, D] to the tap that puts the first `count` of them in the places that `insert` makes."""
    place = places(batch.go, count, width, batch.tokens.shape[-1])[..., None]
    tokens = insert(batch, count, width).tokens if shift else batch.tokens
    embedded = capture(model, params, tokens, ["embed"])["embed"]

    def arranged(x: jax.Array, soft: jax.Array) -> jax.Array:
        return take(jnp.concatenate([x, soft.astype(x.dtype)], axis=1), place, 0)

    def put(soft: jax.Array) -> Tap:
        if shift:
            # The place has its position and the embedding of padding, which the soft token replaces.
            instead = soft - jnp.broadcast_to(params["W_E"][batch.marks.pad], soft.shape).astype(soft.dtype)
            whole = embedded + arranged(jnp.zeros_like(embedded[:, : batch.tokens.shape[-1]]), instead)
        else:
            whole = arranged(embedded, soft)
        return lambda site, x: whole[:, : x.shape[1]] if site == "embed" else x

    return put


def start(key: jax.Array, prompts: int, tokens: int, width: int, norm: float) -> jax.Array:
    """[prompts, tokens, width] random vectors of length `norm`; those of token i depend on i alone, not on `tokens`."""
    directions = jax.vmap(lambda key: jax.random.normal(key, (prompts, width)), out_axes=1)(batch_keys(key, tokens))
    return norm * directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)


@partial(jax.jit, static_argnames=("model", "count", "shift", "positions"))
def stream_with(
    model: ModelConfig,
    params: Params,
    batch: Batch,
    soft: jax.Array,
    count: int,
    shift: bool,
    positions: tuple[int, ...],
) -> jax.Array:
    """[B, L, P, D] the residual stream as each layer reads it at `positions`, counted from EOT, with the first `count`
    of `soft` [B, K, D] before EOT."""
    width = batch.tokens.shape[1] + count

    def of_piece(piece: tuple[Batch, jax.Array]) -> jax.Array:
        plain, soft = piece
        batch = insert(plain, count, width)
        put = with_soft_tokens(model, params, plain, count, width, shift)(soft)
        row, at = jnp.arange(len(batch.go))[:, None], batch.go[:, None] + jnp.array(positions)[None]
        seen: list[jax.Array] = []

        def tap(site: str, x: jax.Array) -> jax.Array:
            if site.endswith("resid_pre"):
                seen.append(x[row, at])
            return put(site, x)

        forward(model, params, batch.tokens, tap)
        return jnp.stack(seen, axis=1)

    found: jax.Array = in_pieces(of_piece, (batch, soft), at_once(width))
    return found
