"""Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from models.training.loop import Terms
from models.training.method import Method
from models.training.scoring import log_ratios
from models.transformer import ModelConfig, Params
from synth.sequences import Pair
from synth.settings import require_above_zero


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class IPO:
    """Identity preference optimisation."""

    tau: float = 0.05
    """Regularisation: the margin aimed at is 1 / (2 tau)."""

    def __post_init__(self) -> None:
        require_above_zero(self, "tau")


def ipo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: IPO) -> Terms:
    """( [log p(y^p) - log p_ref(y^p)] - [log p(y^l) - log p_ref(y^l)] - 1 / (2 tau) )^2, Eq. 17.

    Log-probabilities are sums over tokens. At the reference the loss is 1 / (4 tau^2).
    """
    gain, leak, logged = log_ratios(model, params, reference, pair)
    return Terms(jnp.square(gain - leak - 1 / (2 * hyper.tau)), {"gain": gain, "leak": leak, **logged})


METHOD = Method(__name__, ipo, IPO)
