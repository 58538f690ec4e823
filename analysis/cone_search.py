"""Which cones are looked for in a model, and which are found (Wollschläger et al. 2025, arXiv 2502.17420)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.chance import random_frames
from analysis.cone_training import Answers, Course, Target, answers, coordinates, optimised, rows
from analysis.rows import Subject
from analysis.scores import stacked
from analysis.selection import (
    SIDES,
    Asked,
    Direction,
    DirectionsConfig,
    Material,
    first_of,
    material,
    relabelled,
)
from synth.keys import fold
from synth.prompts import TRAIN, VALIDATION
from synth.settings import EXACT, require, require_above_zero, require_positive

CONE, INDEPENDENT, ARBITRARY = "cone", "independent", "arbitrary"
"""What is looked for: cones of refusal, a direction of refusal that is independent of the difference of means, and one
toward the wrong answers of combinations that were dealt out anew"""


@dataclass(unsafe_hash=True)
class ConesConfig:
    """Settings of how cones are found and tried."""

    dims: tuple[int, ...] = (1, 2, 3)
    """Dimensions of the cones that are found, each by itself."""
    steps: int = 96
    """Steps of AdamW."""
    checks: int = 8
    """How often in these steps the loss on validation prompts is taken, the least of which is kept."""
    batch: int = 4
    """Prompts of each term of the loss at a step, each with a direction of its own."""
    validation: int = 32
    """The same when the loss is checked."""
    learning_rate: float = 0.01
    ablate: float = 1.0
    """Weight of the loss of compliance under ablation."""
    add: float = 0.2
    """Weight of that of refusal under addition."""
    retain: float = 1.0
    """Weight of what ablation changes of answers to safe prompts."""
    independence: float = 200.0
    """Weight of what ablating a direction and the difference of means changes of each other's cosine with the
    stream, in the search for a direction that is independent of it."""
    samples: int = 8
    """Directions of each cone that are tried, the rows of its basis among them."""
    draws: int = 2
    """Random pairs of directions behind the control of independence."""
    prompts: int = 64
    """Prompts of each family, of neither side that cones are found by, that they are tried on."""
    threshold: float = 0.5
    """Share of unsafe prompts that may still be refused, by the first token, under ablation of whichever direction of a
    cone leaves most of them so, where the cone is said to remove refusal."""

    def __post_init__(self) -> None:
        self.dims = tuple(self.dims)
        require_positive(self, "steps", "checks", "batch", "validation", "samples", "draws", "prompts")
        distinct = sorted(set(self.dims)) == list(self.dims) and 1 in self.dims
        require(distinct and self.dims[0] == 1, "dims", list(self.dims),
                "must ascend from 1, a single direction", "for example [1,2,3]")  # fmt: skip
        require(self.samples >= self.dims[-1], "samples", self.samples,
                f"must be at least the largest of dims={list(self.dims)}", "set samples to 8")  # fmt: skip
        require(self.steps % self.checks == 0, "checks", self.checks,
                f"must divide steps={self.steps}", "set checks to 1")  # fmt: skip
        require_above_zero(self, "learning_rate", "ablate", "retain")
        for name in ("add", "independence"):
            value = getattr(self, name)
            require(0 <= value < np.inf, name, value, "must be a finite number of 0 or more", f"set {name} to 0")
        require(0 <= self.threshold < 1, "threshold", self.threshold, "must be in [0, 1)", "set 0.5")


class Sought(NamedTuple):
    """A cone that is looked for."""

    what: str
    """CONE, INDEPENDENT or ARBITRARY"""
    dim: int


class Cones(NamedTuple):
    """What was found in one model."""

    of: Material
    config: ConesConfig
    first: Direction
    """The difference of means of the lowest bypass score (`selection.Found.first`)"""
    found: dict[Sought, Course]
    """The optimisation of each, whose basis [k, D] is its cone's; of nothing ARBITRARY where all is on one side"""
    dealt: Material
    """`of` with the sides that an arbitrary behaviour has"""

    def basis(self, what: str, dim: int = 1) -> np.ndarray:
        """[k, D] orthonormal rows."""
        return np.asarray(self.found[Sought(what, dim)].basis, float)


def dims(config: ConesConfig, width: int) -> tuple[int, ...]:
    """Dimensions that a stream of this width has."""
    return tuple(k for k in config.dims if k <= width)


def sampled(basis: np.ndarray, count: int, key: jax.Array) -> np.ndarray:
    """[count, D] unit vectors of the cone of `basis` [k, D]: its rows, and others drawn as in training.

    Of a cone of one dimension there is but one, [1, D].
    """
    if len(basis) == 1:
        return basis
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    drawn = coordinates(rng, (count - len(basis),), len(basis), len(basis)).astype(float)
    return np.concatenate([basis, drawn @ basis])


def search(subject: Subject, found_by: DirectionsConfig, config: ConesConfig) -> Cones:
    """The difference of means as `directions` finds it, and by gradient what `Sought` names.

    Raises NoDirectionError where safe and unsafe prompts leave the same everywhere, and ValueError for a subject that
    cannot draw prompts.
    """
    of = material(subject, found_by)
    model, width = of.model, of.model.width
    first, _, _ = first_of(of, found_by)
    key = fold(subject.key, "cones")
    dealt = relabelled(of, fold(key, "labels"))
    sought = [*(Sought(CONE, k) for k in dims(config, width)), Sought(INDEPENDENT, 1)]
    # Few combinations may all be dealt to one side.
    if all(side.any() for asked in (dealt.train, dealt.validation) for side in asked.sides):
        sought.append(Sought(ARBITRARY, 1))
    most = max(one.dim for one in sought)
    known = [
        _answers(subject, first, asked, count, side)
        for asked, count, side in (
            (of.train, found_by.train, TRAIN),
            (of.validation, found_by.validation, VALIDATION),
        )
    ]
    targets, begin, steps, checked = [], [], [], []
    for one in sought:
        own = fold(key, one.what, one.dim)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(own)))
        sides = dealt if one.what == ARBITRARY else of
        penalty = config.independence * (one.what == INDEPENDENT)
        weights = jnp.array([config.ablate, config.add, config.retain, penalty], jnp.float32)
        targets.append(Target(jnp.asarray(first.vector, jnp.float32), jnp.int32(first.layer), weights))
        # Ablation is the same of both signs: addition alone would have to turn a start of the other one.
        frame = random_frames(width, most, 1, fold(own, "begin"))[0].T
        begin.append(np.where((frame @ first.vector < 0)[:, None], -frame, frame).astype(np.float32))
        each = rows(rng, sides.train.sides, config.steps, config.batch, one.dim, most)
        steps.append(jax.tree.map(lambda x: x.reshape(config.checks, -1, *x.shape[1:]), each))
        checked.append(rows(rng, sides.validation.sides, 1, config.validation, one.dim, most))
    courses = optimised(
        model, of.params, *known, _stack(targets), _stack(begin), _stack(steps), _stack(checked), config.learning_rate
    )
    found: dict[Sought, Course] = {}
    for i, one in enumerate(sought):
        found[one] = Course(courses.basis[i, : one.dim], courses.losses[i])
    return Cones(of, config, first, found, dealt)


def _answers(subject: Subject, first: Direction, asked: Asked, count: int, side: int) -> Answers:
    """What is known of the prompts `asked`, both answers with them."""
    assert subject.draw is not None
    drawn = subject.draw(SIDES, count, side)
    whole = stacked({family: one.prompts for family, one in drawn.items()}, EXACT)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), whole)
    return answers(subject.model, subject.params, flat.complying, flat.refusing, asked.unsafe, first.unit)


def _stack(trees: Sequence[Any]) -> Any:
    """One tree of arrays with a leading axis for each of `trees`."""
    return jax.tree.map(lambda *arrays: jnp.stack([jnp.asarray(array) for array in arrays]), *trees)
