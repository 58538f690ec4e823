"""Unlearning: descent on the preferred, ascent on the dispreferred response (arXiv 2407.10264, sec. 2)."""

from dataclasses import dataclass

import jax

from models.likelihood import Score
from models.training.loop import Terms
from models.training.method import Method
from models.training.scoring import logged, score_pair
from models.transformer import ModelConfig, Params
from synth.sequences import Pair
from synth.settings import require_above_zero


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class Unlearning:
    """How hard the dispreferred response is pushed away."""

    gamma: float = 0.1

    def __post_init__(self) -> None:
        require_above_zero(self, "gamma")


def unlearning(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: Unlearning) -> Terms:
    """l(y^p) - gamma l(y^l).

    l is a mean over the response's tokens. The code released with the paper divides the sums by
    its window of 159 tokens instead. Compliance and refusal, in the styles of these names, are of one
    length, so that gamma weighs the same; only a prompt's weight in the batch then goes by its length, and the scale of
    the loss, which Adam takes out.
    """
    return descent_and_ascent(*score_pair(model, params, pair), hyper.gamma)


def descent_and_ascent(preferred: Score, dispreferred: Score, gamma: jax.Array | float) -> Terms:
    """The same from the scores of both responses."""
    descent, ascent = preferred.cross_entropy, -gamma * dispreferred.cross_entropy
    return Terms(descent + ascent, {"descent": descent, "ascent": ascent, **logged(preferred, dispreferred)})


METHOD = Method(__name__, unlearning, Unlearning)
