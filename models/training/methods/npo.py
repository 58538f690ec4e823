"""Negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868) beside the preferred response."""

from dataclasses import dataclass

import jax

from models.likelihood import score
from models.training.loop import Terms
from models.training.method import Method
from models.training.scoring import logged, score_pair
from models.transformer import ModelConfig, Params
from synth.sequences import Pair
from synth.settings import require_above_zero


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class NPO:
    """Negative preference optimisation beside the preferred response."""

    beta: float = 0.1
    """Inverse temperature: the smaller, the more like plain ascent."""
    gamma: float = 0.1
    """Weight of the dispreferred response's term."""

    def __post_init__(self) -> None:
        require_above_zero(self, "beta", "gamma")


def npo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: NPO) -> Terms:
    """l(y^p) - gamma (2 / beta) log sigmoid( -beta [log p(y^l) - log p_ref(y^l)] ), the second term by Eq. 3.

    `unlearning` with its unbounded ascent replaced by a term that is bounded below.
    Log-probabilities in it are sums over tokens, l is a mean. At the reference that term is
    gamma (2 / beta) log 2.
    """
    preferred, dispreferred = score_pair(model, params, pair)
    anchor = score(model, jax.lax.stop_gradient(reference), pair.dispreferred)
    leak = dispreferred.total - anchor.total
    descent = preferred.cross_entropy
    ascent = -hyper.gamma * (2 / hyper.beta) * jax.nn.log_sigmoid(-hyper.beta * leak)
    return Terms(descent + ascent, {"descent": descent, "ascent": ascent, **logged(preferred, dispreferred)})


METHOD = Method(__name__, npo, NPO)
