"""What writes along a direction of the residual stream, and what the heads that do so attend to (Arditi et al. 2024,
arXiv 2406.11717, Fig. 6: direct feature attribution)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.observe import at_once, in_pieces
from models.kernels import rotated
from models.taps import capture
from models.transformer import ModelConfig, Params
from synth.segments import TASK, TEXT, Batch

REGIONS = {"tasks": (TASK,), "text": (TEXT,)}
"""Parts of a prompt by the roles of their tokens; the rest of it is another."""
REST = "rest"


class Attribution(NamedTuple):
    """What stands at EOT of B prompts. L layers, H heads."""

    heads: jax.Array
    """[B, L, H, A] what each head's output has along each of A directions"""
    mlps: jax.Array
    """[B, L, A] what each MLP's output has"""
    attention: jax.Array
    """[B, L, H, R] how much of each head's attention is on each of REGIONS, and on the rest"""


@partial(jax.jit, static_argnames="model")
def attribute(model: ModelConfig, params: Params, prompts: Batch, directions: jax.Array) -> Attribution:
    """What heads and MLPs write at EOT of `prompts` along unit vectors `directions` [A, D], and what heads attend to.

    The bias of an attention's output belongs to no head.
    """

    def of_piece(batch: Batch) -> Attribution:
        names = [
            f"blocks.{i}.{site}" for i in range(model.layers) for site in ("attn.q", "attn.k", "attn.z", "mlp_out")
        ]
        seen = capture(model, params, batch.tokens, names)
        row = jnp.arange(len(batch.go))
        tasks, text = (jnp.isin(batch.roles, jnp.array(roles)) for roles in REGIONS.values())
        regions = jnp.stack([tasks, text, ~(tasks | text)], axis=-1)
        heads, mlps, attention = [], [], []
        for i in range(model.layers):
            q, k, z, mlp = (seen[f"blocks.{i}.{site}"] for site in ("attn.q", "attn.k", "attn.z", "mlp_out"))
            write = params["blocks"][str(i)]["attn"]["W_O"].reshape(model.heads, model.head_width, model.width)
            heads.append(jnp.einsum("bhk,hkd,ad->bha", z[row, batch.go], write, directions))
            mlps.append(mlp[row, batch.go] @ directions.T)
            pattern = _pattern(model, q, k, batch.go)
            attention.append(jnp.einsum("bht,btr->bhr", pattern, regions.astype(pattern.dtype)))
        return Attribution(*(jnp.stack(parts, axis=1) for parts in (heads, mlps, attention)))

    found: Attribution = in_pieces(of_piece, prompts, at_once(prompts.tokens.shape[1]))
    return found


def _pattern(model: ModelConfig, q: jax.Array, k: jax.Array, go: jax.Array) -> jax.Array:
    """[B, H, T] what each head attends to from the positions `go` [B], of queries and keys [B, T, heads, K]."""
    position = jnp.arange(q.shape[1])
    if model.positions == "rotary":
        q, k = rotated(q, position), rotated(k, position)
    k = jnp.repeat(k, model.heads // model.keys, axis=2)
    scores = jnp.einsum("bhk,bthk->bht", q[jnp.arange(len(go)), go], k).astype(jnp.float32) * model.head_width**-0.5
    seen = (position[None] <= go[:, None])[:, None]
    return jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))


def mean_shares(attention: np.ndarray) -> dict[str, np.ndarray]:
    """By region, [L, H] the mean over prompts of `Attribution.attention` [B, L, H, R]."""
    return dict(zip((*REGIONS, REST), np.moveaxis(attention.mean(axis=0, dtype=float), -1, 0), strict=True))
