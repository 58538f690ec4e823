"""Fine-tuning on refusals at any depth: the data augmentation of Qi et al. 2024 (arXiv 2406.05946)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from models.likelihood import score
from models.training.late import begun_late
from models.training.loop import Terms
from models.training.method import Method
from models.transformer import ModelConfig, Params
from synth.keys import fold
from synth.sequences import Pair
from synth.settings import require
from synth.tuning_data import TuningData
from synth.world import World


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class DeepRefusal:
    """How much refusals weigh."""

    alpha: float = 0.2
    """Weight of refusals; that of compliance is 1 - alpha."""

    def __post_init__(self) -> None:
        inside = not isinstance(self.alpha, int | float) or 0 < self.alpha < 1
        require(inside, "alpha", self.alpha, "must be a number between 0 and 1", "set alpha to 0.2")


def half_at_once(key: jax.Array, most: jax.Array) -> jax.Array:
    """0 letters with probability 1/2, else any of 1, ..., L - 1, each as likely; of a single letter always 0.

    The paper's texts are long, and its number is at most 100.
    """
    late = jax.random.bernoulli(fold(key, "late")) & (most > 1)
    return jnp.where(late, jax.random.randint(fold(key, "letters"), (), 1, most), 0)


def batch(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Pair:
    """Labelled pairs whose refusals come after letters of compliance, as many as `half_at_once` says."""
    return begun_late(half_at_once, world, data, key, step, size)


def deep_refusal(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: DeepRefusal) -> Terms:
    """2 alpha l(y^p) where y^p is a refusal, else 2 (1 - alpha) l(y^p).

    The mean of this is the paper's objective, alpha times the mean over refusals and 1 - alpha times the mean over the
    other prompts, where half of the prompts are to be refused, as they are by default. The paper writes sums over
    tokens; l is a mean, as in `sft`, which this is for alpha = 1/2 but for what refusals come after.
    """
    preferred = score(model, params, pair.preferred)
    weighed = 2 * jnp.where(pair.refused, hyper.alpha, 1 - hyper.alpha) * preferred.cross_entropy
    parts = {"refusal": jnp.where(pair.refused, weighed, 0.0), "compliance": jnp.where(pair.refused, 0.0, weighed)}
    return Terms(weighed, {**parts, "logp_preferred": preferred.total})


METHOD = Method(__name__, deep_refusal, DeepRefusal, batch=batch)
