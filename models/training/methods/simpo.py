"""Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734)."""

from dataclasses import dataclass

import jax

from models.training.loop import Terms
from models.training.method import Method
from models.training.scoring import logged, score_pair
from models.transformer import ModelConfig, Params
from synth.sequences import Pair
from synth.settings import require_above_zero


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class SimPO:
    """Simple preference optimisation: no reference."""

    beta: float = 2.0
    """Scale of the mean log-probabilities."""
    gamma: float = 1.0
    """Margin aimed at."""

    def __post_init__(self) -> None:
        require_above_zero(self, "beta", "gamma")


def simpo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: SimPO) -> Terms:
    """-log sigmoid( -beta l(y^p) + beta l(y^l) - gamma ), Eq. 6.

    Log-probabilities are means over tokens, that is -l.
    """
    preferred, dispreferred = score_pair(model, params, pair)
    margin = hyper.beta * (dispreferred.cross_entropy - preferred.cross_entropy) - hyper.gamma
    return Terms(-jax.nn.log_sigmoid(margin), {"margin": margin, **logged(preferred, dispreferred)})


METHOD = Method(__name__, simpo, SimPO)
