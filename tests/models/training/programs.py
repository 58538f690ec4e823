"""What tests train where no transformer is needed: a linear map of random inputs, fitted by least squares."""

import functools

import jax
import jax.numpy as jnp

from models.training.loop import Program, Terms
from models.training.optimizer import OptimizerConfig
from models.transformer import Params

SIZE = 3
PULL = 0.05
"""Weight of the squared distance to the reference."""


def inputs(key: jax.Array, step: jax.Array | int, goal: jax.Array | float, examples: int = 8) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, step), (examples, SIZE))


def loss(params: Params, reference: Params, x: jax.Array, progress: jax.Array, goal: jax.Array) -> Terms:
    x = x.astype(params["w"].dtype)
    missed = (x @ params["w"] + params["b"][None] - goal.astype(x.dtype) * x).astype(jnp.float32)
    fit = jnp.sum(jnp.square(missed), axis=-1)
    far = jnp.sum(jnp.square(params["w"] - reference["w"])).astype(jnp.float32)
    pull = jnp.broadcast_to(PULL * far, fit.shape)
    return Terms(fit + pull, {"fit": fit, "pull": pull})


@functools.cache
def regression(optimizer: OptimizerConfig, examples: int = 8) -> Program:
    """Fits x w + b to `hyper` x; its `hyper` is one number."""
    return Program(optimizer, functools.partial(inputs, examples=examples), loss, examples)


def zeros(runs: int) -> Params:
    return {"w": jnp.zeros((runs, SIZE, SIZE)), "b": jnp.zeros((runs, SIZE))}
