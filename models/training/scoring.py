"""Likelihoods that several objectives are made of: both responses of a pair, and against the reference.

y^p is the preferred response of a pair (the bijection's output on a safe prompt, the null token
on an unsafe one), y^l the other (arXiv 2407.10264, sec. 2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.fork import fork
from models.likelihood import Score, counted, next_logits, scored
from models.transformer import ModelConfig, Params
from synth.segments import Batch
from synth.sequences import Pair


def score_pair(model: ModelConfig, params: Params, pair: Pair) -> tuple[Score, Score]:
    """Scores of the preferred and of the dispreferred responses."""
    preferred, dispreferred, _ = score_both(model, params, pair)
    return preferred, dispreferred


def score_both(model: ModelConfig, params: Params, pair: Pair) -> tuple[Score, Score, jax.Array]:
    """Scores of the preferred and of the dispreferred responses, and `next_logits` of the preferred ones."""
    preferred, dispreferred = read_both(model, params, pair)
    return scored(*preferred), scored(*dispreferred), preferred[0]


def read_both(model: ModelConfig, params: Params, pair: Pair) -> tuple[tuple[jax.Array, Batch], ...]:
    """`next_logits` of the preferred and of the dispreferred responses, from one pass, each with the sequences that
    they are for: of the second ones what begins with EOT alone."""
    forked = fork(model, pair.preferred, pair.dispreferred)
    logits = forked.apart(next_logits(model, params, forked.tokens, forked.layout))
    return tuple(zip(logits, forked.sequences, strict=True))


class Ratios(NamedTuple):
    """The responses of B pairs against the reference."""

    gain: jax.Array
    """[B] log p(y^p) - log p_ref(y^p)"""
    leak: jax.Array
    """[B] log p(y^l) - log p_ref(y^l)"""
    logged: dict[str, jax.Array]
    """log p of both responses"""


def log_ratios(model: ModelConfig, params: Params, reference: Params, pair: Pair) -> Ratios:
    """How much more probable both responses are than under the reference, which gets no gradient."""
    ours = score_pair(model, params, pair)
    theirs = score_pair(model, jax.lax.stop_gradient(reference), pair)
    return Ratios(ours[0].total - theirs[0].total, ours[1].total - theirs[1].total, logged(*ours))


def logged(preferred: Score, dispreferred: Score) -> dict[str, jax.Array]:
    """log p of both responses [B] each, as parts of `Terms`."""
    return {"logp_preferred": preferred.total, "logp_dispreferred": dispreferred.total}


def divergence(logits: jax.Array, reference_logits: jax.Array, batch: Batch) -> jax.Array:
    """[B] KL(p_ref || p) in nats of the next token, by `next_logits` [B, T - 1, V] of both models.

    It is the mean over the letters and the EOS of the responses of `batch` [B, T].
    """
    ours, theirs = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference_logits)
    return jnp.mean(jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1), axis=-1, where=counted(batch))
