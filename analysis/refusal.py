"""Refusal along directions of the residual stream: how likely it is, and what becomes of it where one is left out
or added (Arditi et al. 2024, arXiv 2406.11717, sec. 2).

x_i^(l) is the residual stream at position i as layer l, counted from 0, reads it: the site `resid_pre`. Positions are
counted from EOT, the last token of a prompt, from which a model predicts the first token of its response.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from analysis.edit import Fed
from analysis.observe import at_once, in_pieces
from models.taps import capture, edit
from models.transformer import ModelConfig, Params, forward

Change = Callable[[jax.Array], jax.Array]
"""What is put in place of an activation"""


def refusal_log_odds(logits: jax.Array, refusal: jax.Array) -> jax.Array:
    """[...] log of the probability of the tokens `refusal` [V] over that of all others, of `logits` [..., V].

    The paper's refusal metric, for which nothing need be generated.
    """
    chosen = jnp.broadcast_to(refusal, logits.shape)
    inside, outside = (jnp.where(which, logits.astype(jnp.float32), -jnp.inf) for which in (chosen, ~chosen))
    return jax.nn.logsumexp(inside, axis=-1) - jax.nn.logsumexp(outside, axis=-1)


def without(x: jax.Array, basis: jax.Array) -> jax.Array:
    """`x` [..., D] without its part in the span of the rows of `basis` [k, D], each of length 1 and at right angles to
    the others, or zero (the paper's Eq. 4)."""
    basis = basis.astype(x.dtype)
    return x - (x @ basis.T) @ basis


def written(model: ModelConfig) -> list[str]:
    """The sites of the residual stream: before all layers, and after each attention and each MLP."""
    return ["embed", *(f"blocks.{i}.{site}" for i in range(model.layers) for site in ("resid_mid", "resid_post"))]


def ablating(model: ModelConfig, basis: jax.Array) -> dict[str, Change]:
    """The taps that leave the span of `basis` [k, D] out of the residual stream, at all of its sites."""
    return dict.fromkeys(written(model), partial(without, basis=basis))


def setting(model: ModelConfig, basis: jax.Array, means: jax.Array, behind: jax.Array) -> dict[str, Change]:
    """The taps that set the coordinates along `basis` [k, D] to `means` [S, R, k], by site and by how many positions
    `behind` [B, T] EOT it is; those before EOT stay as they are."""

    def at_site(x: jax.Array, of_site: jax.Array) -> jax.Array:
        own = basis.astype(x.dtype)
        wanted = of_site.astype(x.dtype)[jnp.clip(behind, 0, len(of_site) - 1)]
        return x + jnp.where((behind >= 0)[..., None], wanted - x @ own.T, 0) @ own

    return {site: partial(at_site, of_site=means[i]) for i, site in enumerate(written(model))}


def adding(model: ModelConfig, shifts: jax.Array, where: jax.Array | bool = True) -> dict[str, Change]:
    """The taps that add `shifts` [L, D] to what each layer reads, at the positions `where` [B, T]."""

    def shifted(x: jax.Array, shift: jax.Array) -> jax.Array:
        there = jnp.broadcast_to(where, x.shape[:-1])[..., None]
        return x + jnp.where(there, jnp.broadcast_to(shift.astype(x.dtype), x.shape), 0)

    return {f"blocks.{i}.resid_pre": partial(shifted, shift=shifts[i]) for i in range(model.layers)}


def at_layer(model: ModelConfig, vector: jax.Array, layer: jax.Array | int) -> jax.Array:
    """[L, D] zero but for `vector` [D] at `layer`."""
    return jnp.where((jnp.arange(model.layers) == layer)[:, None], vector[None], 0.0)


@partial(jax.jit, static_argnames=("model", "positions"))
def stream(model: ModelConfig, params: Params, fed: Fed, basis: jax.Array, positions: tuple[int, ...]) -> jax.Array:
    """[B, L, P, D] the residual stream as each layer reads it at `positions`, the span of `basis` [k, D] ablated."""

    def of_piece(fed: Fed) -> jax.Array:
        taps = ablating(model, basis)
        row, at = jnp.arange(len(fed.go))[:, None], fed.go[:, None] + jnp.array(positions)[None]
        seen: list[jax.Array] = []

        def tap(site: str, x: jax.Array) -> jax.Array:
            if site.endswith("resid_pre"):
                seen.append(x[row, at])
            return taps[site](x) if site in taps else x

        forward(model, params, fed.tokens, tap)
        return jnp.stack(seen, axis=1)

    found: jax.Array = in_pieces(of_piece, fed, at_once(fed.tokens.shape[1]))
    return found


@partial(jax.jit, static_argnames=("model", "reach"))
def resting(model: ModelConfig, params: Params, fed: Fed, chosen: jax.Array, reach: int) -> jax.Array:
    """[S, R, D] the mean of the stream over the prompts `chosen` [B], by site and at EOT and the `reach` - 1 = R - 1
    positions behind it."""

    def of_piece(fed: Fed) -> jax.Array:
        names = written(model)
        seen = capture(model, params, fed.tokens, names)
        at = jnp.minimum(fed.go[:, None] + jnp.arange(reach)[None], fed.tokens.shape[1] - 1)
        return jnp.stack([seen[name][jnp.arange(len(at))[:, None], at] for name in names], axis=1)

    found: jax.Array = in_pieces(of_piece, fed, at_once(fed.tokens.shape[1]))
    return jnp.mean(found, axis=0, where=chosen[:, None, None, None])


def at_eot(model: ModelConfig, params: Params, fed: Fed, taps: Mapping[str, Change]) -> jax.Array:
    """[B, V] logits of the first token of the response."""
    logits = edit(model, params, fed.tokens, taps, fed.layout)
    return logits[jnp.arange(len(fed.go)), fed.go]


@partial(jax.jit, static_argnames="model")
def refusing(model: ModelConfig, params: Params, fed: Fed, refusal: jax.Array) -> jax.Array:
    """[B] the refusal metric of the model as it is."""
    return refusal_log_odds(at_eot(model, params, fed, {}), refusal)


@partial(jax.jit, static_argnames="model")
def tried(
    model: ModelConfig,
    params: Params,
    fed: Fed,
    sides: tuple[jax.Array, jax.Array],
    refusal: jax.Array,
    vectors: jax.Array,
    layers: jax.Array,
    basis: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bypass, induce and KL scores, each [C], of C directions `vectors` [C, D] at `layers` [C] (the paper's app. C.1).

    Each is tried with the span of `basis` [k, D] ablated beside it, on prompts `fed` [B]; `sides` [B] say which of
    them are unsafe and which are safe.
    """
    unsafe, safe = sides
    before = jax.nn.log_softmax(at_eot(model, params, fed, {}).astype(jnp.float32))

    def of_one(one: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        vector, layer = one
        taps = ablating(model, jnp.concatenate([basis, (vector / jnp.linalg.norm(vector))[None]]))
        ablated = at_eot(model, params, fed, taps)
        added = at_eot(model, params, fed, adding(model, at_layer(model, vector, layer)))
        after = jax.nn.log_softmax(ablated.astype(jnp.float32))
        kl = jnp.sum(jnp.exp(before) * (before - after), axis=-1)
        bypass, induce = (refusal_log_odds(logits, refusal) for logits in (ablated, added))
        return tuple(jnp.mean(x, where=of) for x, of in ((bypass, unsafe), (induce, safe), (kl, safe)))  # type: ignore[return-value]

    found: tuple[jax.Array, jax.Array, jax.Array] = jax.lax.map(of_one, (vectors, layers))
    return found
