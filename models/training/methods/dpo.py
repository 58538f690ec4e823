"""Direct preference optimisation with a coefficient for each response (arXiv 2407.10264, sec. 2)."""

from dataclasses import dataclass

import jax

from models.training.loop import Terms
from models.training.method import Method
from models.training.scoring import log_ratios
from models.transformer import ModelConfig, Params
from synth.sequences import Pair
from synth.settings import require_above_zero


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class DPO:
    """The two coefficients of the paper; equal ones give ordinary DPO."""

    beta: float = 0.1
    """Weight of the preferred response's log-ratio to the reference."""
    gamma: float = 0.01
    """Weight of the dispreferred one's."""
    per: float = 1.0
    """Tokens that log-probabilities are divided by. 1 leaves them sums over the response, as in
    ordinary DPO. The code released with the paper divides them by its window of 159 tokens, so
    the paper's coefficients go with per=159."""

    def __post_init__(self) -> None:
        require_above_zero(self, "beta", "gamma", "per")


def dpo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: DPO) -> Terms:
    """-log sigmoid( beta / per [log p(y^p) - log p_ref(y^p)] - gamma / per [log p(y^l) - log p_ref(y^l)] ).

    Log-probabilities are sums over tokens, so with per = 1 the coefficients are those of ordinary
    DPO. The paper (sec. 2) writes l for log p without saying over how many tokens; the code
    released with it divides the sums by its window, 159 tokens, whatever a response's length.
    At the reference the loss is log 2.
    """
    ratios = log_ratios(model, params, reference, pair)
    gain, leak = hyper.beta / hyper.per * ratios.gain, hyper.gamma / hyper.per * ratios.leak
    return Terms(-jax.nn.log_sigmoid(gain - leak), {"gain": gain, "leak": leak, **ratios.logged})


METHOD = Method(__name__, dpo, DPO)
