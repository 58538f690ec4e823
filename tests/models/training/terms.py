"""What the tests of methods share: coefficients, objectives and their gradients, compiled once each."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.training.loop import Terms
from models.training.method import Objective
from models.training.methods import METHODS
from models.training.methods.constrained_sft import ConstrainedSFT
from models.training.methods.deep_refusal import DeepRefusal
from models.training.methods.dpo import DPO
from models.training.methods.ipo import IPO
from models.training.methods.npo import NPO
from models.training.methods.simpo import SimPO
from models.training.methods.unlearning import Unlearning
from models.training.methods.unlearning_kl import UnlearningKL
from models.transformer import ModelConfig, Params

HYPER = {name: method.hyper() for name, method in METHODS.items()} | {
    "dpo": DPO(0.3, 0.2),
    "unlearning": Unlearning(0.4),
    "npo": NPO(0.3, 0.2),
    "unlearning_kl": UnlearningKL(0.4, 0.7),
    "ipo": IPO(0.1),
    "simpo": SimPO(1.5, 0.5),
    "deep_refusal": DeepRefusal(0.3),
    **dict.fromkeys(("constrained_sft", "comply_constrained"), ConstrainedSFT(0.7, 1.5, 2, 0.4)),
}
"""Other than the defaults, where a method has any"""


def terms(method: str, model: ModelConfig, params: Params, reference: Params, batch: Any) -> Terms:
    return compiled(METHODS[method].objective, model)(params, reference, batch, HYPER[method])


@functools.cache
def compiled(objective: Objective, model: ModelConfig) -> Callable[[Params, Params, Any, Any], Terms]:
    return jax.jit(functools.partial(objective, model))


Gradients = tuple[jax.Array, tuple[Params, Params]]


def gradients(method: str, model: ModelConfig, params: Params, reference: Params, batch: Any) -> Gradients:
    """The mean of the loss, and its gradients by `params` and by `reference`."""
    return _gradients(METHODS[method].objective, model)(params, reference, batch, HYPER[method])


@functools.cache
def _gradients(objective: Objective, model: ModelConfig) -> Callable[[Params, Params, Any, Any], Gradients]:
    def mean(params: Params, reference: Params, batch: Any, hyper: Any) -> jax.Array:
        return jnp.mean(objective(model, params, reference, batch, hyper).loss)

    return jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))
