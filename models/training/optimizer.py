"""Adam on all weights of a model as two arrays, and its settings."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from models.transformer import Params
from synth.settings import require, require_above_zero, require_among, require_positive, require_share


class Packed(NamedTuple):
    """Weights end to end: what the optimizer does to each of them is then a few large operations, not many small."""

    matrices: Any
    """Of all weights that are no vectors"""
    vectors: Any
    """Of the rest, which have no weight decay"""


@dataclass(unsafe_hash=True)
class OptimizerConfig:
    """AdamW with gradient clipping, the shape of the learning rate, and how a step is computed."""

    schedule: str = "cosine"
    """How the learning rate falls after the warm-up: "cosine", "linear" or "constant"."""
    warmup: float = 0.0
    """Share of the steps over which the learning rate rises from 0."""
    final: float = 0.01
    """Learning rate at the last step as a share of its peak."""
    weight_decay: float = 1e-4
    """On matrices only."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    b1: float = 0.9
    b2: float = 0.95
    ema: float = 0.0
    """Decay of a running mean of the weights, which is then the result; 0 for the last weights themselves."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other: less memory, the same gradient."""
    precision: str = "float32"
    """What forward and backward pass are computed in: "float32" or "bfloat16" (for GPUs). Weights, optimizer,
    norms and log-probabilities are float32 either way."""

    def __post_init__(self) -> None:
        require_among(self, "schedule", ("cosine", "linear", "constant"))
        require_share(self, "warmup", "final")
        for name in ("b1", "b2", "ema"):
            value = getattr(self, name)
            require(0 <= value < 1, name, value, "must be from 0 to below 1", f"set {name} to 0.9")
        require_above_zero(self, "clip")
        require(0 <= self.weight_decay < 1, "weight_decay", self.weight_decay, "must be from 0 to below 1", "set 1e-4")
        require_positive(self, "accumulate")
        require_among(self, "precision", ("float32", "bfloat16"))

    def transform(self) -> optax.GradientTransformation:
        """The update per unit of learning rate, of packed weights."""
        chain = optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.scale_by_adam(self.b1, self.b2),
            optax.add_decayed_weights(self.weight_decay, mask=Packed(matrices=True, vectors=False)),
        )

        def update(*of: Any) -> Any:
            # Optax raises Adam's decay to an integer power, which is no strict promotion.
            with jax.numpy_dtype_promotion("standard"):
                return chain.update(*of)

        return optax.GradientTransformation(chain.init, update)

    def rate(self, progress: jax.Array) -> jax.Array:
        """Learning rate as a share of its peak when `progress` in [0, 1] of the steps are done."""
        rising = progress / max(self.warmup, 1e-9)
        along = jnp.clip((progress - self.warmup) / max(1 - self.warmup, 1e-9), 0, 1)
        left = {"cosine": 0.5 * (1 + jnp.cos(jnp.pi * along)), "linear": 1 - along, "constant": jnp.ones(())}
        falling = self.final + (1 - self.final) * left[self.schedule]
        return jnp.where(progress < self.warmup, rising, falling)

    def check_batch(self, batch_size: int) -> None:
        """Raises SettingError unless a batch can be cut into `accumulate` equal parts."""
        require(
            batch_size % self.accumulate == 0,
            "optimizer.accumulate",
            self.accumulate,
            f"must divide batch_size={batch_size}",
            f"set it to {math.gcd(batch_size, self.accumulate)}",
        )


def pack(params: Params) -> Packed:
    """The weights of one run."""

    def flat(leaves: list[jax.Array]) -> jax.Array:
        return jnp.concatenate([leaf.ravel() for leaf in leaves]) if leaves else jnp.zeros(0)

    leaves = jax.tree.leaves(params)
    return Packed(flat([w for w in leaves if w.ndim >= 2]), flat([w for w in leaves if w.ndim < 2]))


def unpack(packed: Packed, like: Params) -> Params:
    """The weights of one run, with the shapes of `like`."""
    leaves, tree = jax.tree.flatten(like)
    taken, out = [0, 0], []
    for leaf in leaves:
        which = int(leaf.ndim < 2)
        begin = taken[which]
        taken[which] += leaf.size
        out.append(packed[which][begin : begin + leaf.size].reshape(leaf.shape))
    return jax.tree.unflatten(tree, out)
