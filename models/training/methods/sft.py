"""Supervised fine-tuning on the preferred response (arXiv 2407.10264, sec. 2: SSFT)."""

from dataclasses import dataclass

import jax

from models.likelihood import score
from models.training.loop import Terms
from models.training.method import Method
from models.transformer import ModelConfig, Params
from synth.sequences import Pair


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class SFT:
    """Supervised fine-tuning has no coefficients."""


def sft(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: SFT) -> Terms:
    """l(y^p): cross-entropy of the preferred response."""
    preferred = score(model, params, pair.preferred)
    return Terms(preferred.cross_entropy, {"logp_preferred": preferred.total})


METHOD = Method(__name__, sft, SFT)
