"""Fine-tuning that holds on to the first tokens: the constrained objective of Qi et al. 2024 (arXiv 2406.05946)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from models.likelihood import counted, token_logprobs
from models.training.loop import Terms
from models.training.method import Method
from models.transformer import ModelConfig, Params
from synth.sequences import Pair
from synth.settings import require_above_zero, require_positive


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class ConstrainedSFT:
    """How hard each token is held: the larger its beta, the less it moves from the reference."""

    first: float = 0.5
    """beta of the first token."""
    early: float = 2.0
    """That of the tokens behind it, up to number `until`."""
    until: int = 5
    """The last token that is an early one."""
    later: float = 0.1
    """beta of all that follow."""

    def __post_init__(self) -> None:
        require_above_zero(self, "first", "early", "later")
        if isinstance(self.until, int):
            require_positive(self, "until")


def constrained_sft(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: ConstrainedSFT) -> Terms:
    """Mean over tokens t of y^p of -(2 / beta_t) log sigmoid( beta_t [log p(y_t) - log p_ref(y_t)] ).

    beta_t is `first` for t = 1, `early` for t = 2, ..., `until` and `later` behind that. The paper writes a sum over
    tokens; here it is a mean, as l is. The reference is what tuning starts from: there the gradient is that of l,
    and each token's share of it falls as the token becomes likelier than it was, the sooner the larger its beta.
    """
    ours = token_logprobs(model, params, pair.preferred)
    ratio = ours - token_logprobs(model, jax.lax.stop_gradient(reference), pair.preferred)
    of = counted(pair.preferred)
    number, count = jnp.cumsum(of, axis=-1, dtype=jnp.int32), jnp.sum(of, axis=-1, dtype=ours.dtype)
    parts = {"first": of & (number == 1), "early": of & (number > 1) & (number <= hyper.until)}
    parts["later"] = of & ~(parts["first"] | parts["early"])
    beta = jnp.where(parts["first"], hyper.first, jnp.where(parts["early"], hyper.early, hyper.later))
    loss = -(2 / beta) * jax.nn.log_sigmoid(beta * ratio)

    def over(tokens: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(tokens, values, 0.0), axis=-1)

    split = {name: over(tokens, loss) / count for name, tokens in parts.items()}
    return Terms(over(of, loss) / count, {**split, "logp_preferred": over(of, ours)})


METHOD = Method(__name__, constrained_sft, ConstrainedSFT)
