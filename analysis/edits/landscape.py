"""Weights moved along random directions, as far one way as the other, and along the change that tuning made.

arXiv 2405.17374 (Peng et al. 2024), the safety landscape.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from analysis.edit import Kind, Label, Made, Weights, made_of
from analysis.rows import Subject
from models.transformer import Params
from synth.keys import fold
from synth.lookup import split_name
from synth.settings import require, require_above_zero, require_positive

MOVE, BY_CHANGE = "move", "move by change"


@dataclass(unsafe_hash=True)
class LandscapeConfig:
    """Settings of the safety landscape and of emulated disalignment."""

    families: tuple[str, ...] = ("safe", "unsafe")
    """Families that every changed model is tried on."""
    prompts: int = 64
    """Prompts of each family: the first that many."""
    reach: float = 1.0
    """How far weights are moved each way, in sizes of each matrix."""
    within: float = 0.5
    """VISAGE is of points no further away than this (the paper's 0.5)."""
    steps: int = 20
    """Into so many steps the way to each end is divided."""
    draws: int = 3
    """Random directions (the paper's 3), and random changes beside that of tuning."""
    kept: float = 0.8
    """The share of what a model does unmoved that it must still do within the basin."""
    disalign: tuple[float, ...] = (0.3, 1.0)
    """Weights a of emulated disalignment, beside 0."""

    def __post_init__(self) -> None:
        self.families, self.disalign = tuple(self.families), tuple(self.disalign)
        require_positive(self, "prompts", "steps", "draws")
        require_above_zero(self, "reach", "within")
        farthest = f"must be at most reach={self.reach}"
        require(self.within <= self.reach, "within", self.within, farthest, f"set within={self.reach}")
        require(0 < self.kept <= 1, "kept", self.kept, "must be above 0 and at most 1", "set 0.8")
        for weight in self.disalign:
            ok = 0 < weight < float("inf")
            require(ok, "disalign", list(self.disalign), "must be finite numbers above 0", "for example [0.3,1]")
        require(len(self.families) > 0, "families", "[]", "must name a family", "set [safe,unsafe]")
        for name in self.families:
            split_name(name, "families")

    @property
    def strengths(self) -> tuple[float, ...]:
        """From one end to the other, with 0 in the middle."""
        return tuple(round(self.reach * i / self.steps, 12) for i in range(-self.steps, self.steps + 1))


@jax.jit
def to_size(direction: Params, params: Params) -> Params:
    """`direction` with each matrix scaled to the Frobenius norm of that of `params`, which are alike; no vector of it.

    The paper's normalisation, by which a direction is as long in every layer as the layer's weights are. Its released
    code leaves norms alone and the models that it looks at have no biases: here neither are moved. A matrix of zeros
    stays one.
    """

    def scaled(along: jax.Array, own: jax.Array) -> jax.Array:
        if own.ndim < 2:
            return jnp.zeros_like(own)
        norm = jnp.linalg.norm(along)
        return jnp.where(norm > 0, along * (jnp.linalg.norm(own) / jnp.where(norm > 0, norm, 1)), 0)

    moved: Params = jax.tree.map(scaled, direction, params)
    return moved


@jax.jit
def random_like(params: Params, key: jax.Array) -> Params:
    """Standard normal numbers in the place of all weights."""

    def drawn(path: tuple[object, ...], own: jax.Array) -> jax.Array:
        return jax.random.normal(fold(key, jax.tree_util.keystr(path)), own.shape, own.dtype)

    found: Params = jax.tree_util.tree_map_with_path(drawn, params)
    return found


@jax.jit
def change(untuned: Params, tuned: Params) -> Params:
    """dW."""
    found: Params = jax.tree.map(jnp.subtract, tuned, untuned)
    return found


@jax.jit
def moved(params: Params, direction: Params, strength: float | jax.Array) -> Params:
    """W + strength D: `params` to the bit at 0."""
    found: Params = jax.tree.map(lambda w, d: w + jnp.asarray(strength, w.dtype) * d, params, direction)
    return found


def edits(subject: Subject, config: LandscapeConfig) -> Iterator[Made[Weights]]:
    """move            strength times the size of each matrix along a random direction, the same one at all strengths
    move by change  as far along dW, for every matrix in the direction of its own; of a model that has one
    """
    key, own = fold(subject.key, "landscape"), subject.params
    makes = [(MOVE, partial(random_like, own, fold(key, draw))) for draw in range(config.draws)]
    if not subject.untouched:
        makes.append((BY_CHANGE, partial(change, subject.reference, own)))
    for name, make_direction in makes:
        along = to_size(make_direction(), own)
        for strength in config.strengths:
            make = partial(made_of, subject.model, moved, own, along, np.float32(strength))
            yield Made(Label(name, strength), make)


KIND = Kind(__name__, "landscape", edits, controls={BY_CHANGE: MOVE})
