"""Unlearning that keeps what is not to be unlearnt (after Yao et al. 2023, arXiv 2310.10683)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from models.likelihood import next_logits
from models.training.loop import Terms
from models.training.method import Method
from models.training.methods.unlearning import descent_and_ascent
from models.training.scoring import divergence, score_both
from models.transformer import ModelConfig, Params
from synth.sequences import Pair
from synth.settings import require_above_zero


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class UnlearningKL:
    """Unlearning that holds on to the reference where the preferred response is not a refusal."""

    gamma: float = 0.1
    """Weight of the dispreferred response."""
    delta: float = 1.0
    """Weight of the divergence from the reference."""

    def __post_init__(self) -> None:
        require_above_zero(self, "gamma", "delta")


def unlearning_kl(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: UnlearningKL) -> Terms:
    """l(y^p) - gamma l(y^l) + delta KL(p_ref || p), the last on safe prompts alone.

    KL is a mean over the tokens of y^p of the divergence of the next token's distribution. 0 at
    the reference.
    """
    preferred, dispreferred, ours = score_both(model, params, pair)
    theirs = next_logits(model, jax.lax.stop_gradient(reference), pair.preferred.tokens[:, :-1])
    plain = descent_and_ascent(preferred, dispreferred, hyper.gamma)
    kl = divergence(ours, theirs, pair.preferred)
    drift = hyper.delta * jnp.where(pair.refused, 0.0, kl)
    return Terms(plain.loss + drift, {"drift": drift, **plain.parts})


METHOD = Method(__name__, unlearning_kl, UnlearningKL)
