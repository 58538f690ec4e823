"""Reinforced transition optimisation beside the preferred response (Yuan et al. 2024, arXiv 2407.09121)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from models.likelihood import Score, scored
from models.training.loop import Terms
from models.training.method import Method
from models.training.scoring import logged, read_both
from models.transformer import ModelConfig, Params
from synth.segments import END, Batch
from synth.sequences import Pair


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class RTO:
    """Reinforced transition optimisation has no coefficients."""


def rto(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: RTO) -> Terms:
    """l(y^p) - mean over t of log p(first token of y^p | x, y^l_<t), the second on prompts to be refused alone.

    t goes over the letters of y^l, the end apart, so that after any number of them, none to all but the last, the
    refusal's first token is taught: of y^p it is the first one that is scored. Eq. 2 writes sums over tokens; here both
    are means, so that the scale is that of `sft`, and y^p has no prefix, as in the paper's Eq. 1.
    """
    (ours, preferred), (theirs, dispreferred) = read_both(model, params, pair)
    good, bad = scored(ours, preferred), scored(theirs, dispreferred)
    turn = jnp.where(pair.refused, _turning(theirs, dispreferred, _first(preferred)).cross_entropy, 0.0)
    return Terms(good.cross_entropy + turn, {"descent": good.cross_entropy, "turn": turn, **logged(good, bad)})


def _first(batch: Batch) -> jax.Array:
    """[B] the first token that is scored."""
    return jnp.take_along_axis(batch.tokens, jnp.argmax(batch.scored, axis=-1)[:, None], axis=-1)[:, 0]


def _turning(logits: jax.Array, batch: Batch, token: jax.Array) -> Score:
    """Of `token` [B] in place of each letter of the responses."""
    letter = batch.scored & (batch.roles != END)
    return scored(logits, batch._replace(tokens=jnp.where(letter, token[:, None], batch.tokens), scored=letter))


METHOD = Method(__name__, rto, RTO)
