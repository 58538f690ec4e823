"""How likely a model finds a text: log-probabilities of tokens and of whole responses.

`log p(y|x)` is summed over the tokens of the response that are scored, its EOS among them; `l` is the cross-entropy
-log p(y|x) / |y|, a mean over the same tokens.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.transformer import Layout, ModelConfig, Params, forward
from synth.segments import Batch


class Score(NamedTuple):
    """Log-probability of the responses of a batch."""

    total: jax.Array
    """[B] log p(y|x), summed over tokens"""
    tokens: jax.Array
    """[B] |y|"""

    @property
    def cross_entropy(self) -> jax.Array:
        """[B] l, the mean over tokens."""
        return -self.total / self.tokens.astype(self.total.dtype)


def next_logits(model: ModelConfig, params: Params, tokens: jax.Array, layout: Layout | None = None) -> jax.Array:
    """[B, T, V] float32 of `tokens` [B, T], whatever the weights' precision: row t is for token t + 1.

    Raises ValueError as `forward` does.
    """
    return forward(model, params, tokens, layout=layout).astype(jnp.float32)


def token_logprobs(model: ModelConfig, params: Params, batch: Batch) -> jax.Array:
    """[B, T - 1] log-probability of token t + 1 given tokens 0..t."""
    return _chosen(next_logits(model, params, batch.tokens[:, :-1]), batch)


def score(model: ModelConfig, params: Params, batch: Batch) -> Score:
    """Log-probability of each response in `batch`, EOS included."""
    return scored(next_logits(model, params, batch.tokens[:, :-1]), batch)


def scored(logits: jax.Array, batch: Batch) -> Score:
    """The same by `logits` [B, T - 1, V], those of the tokens of `batch` but the last."""
    of = counted(batch)
    return Score(jnp.sum(jnp.where(of, _chosen(logits, batch), 0.0), axis=-1), jnp.sum(of, axis=-1))


def counted(batch: Batch) -> jax.Array:
    """[B, T - 1] bool: whether token t + 1 is scored."""
    return batch.scored[:, 1:]


def _chosen(logits: jax.Array, batch: Batch) -> jax.Array:
    chosen = jnp.take_along_axis(logits, batch.tokens[:, 1:, None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)
