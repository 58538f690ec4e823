"""How tuning moved the residual stream, taken apart: singular directions of the shift, and what they are good for
(Pan et al. 2025, arXiv 2502.09674)."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.chance import random_units
from analysis.edit import Weights
from analysis.observe import observe_last
from analysis.refusal import tried
from analysis.rows import Drawn, Subject
from analysis.selection import (
    SIDES,
    Direction,
    DirectionsConfig,
    Material,
    NoDirectionError,
    dealt_out,
    first_of,
    material,
)
from analysis.subspaces import empirical_rank, unit
from models.transformer import ModelConfig, Params
from synth.keys import fold
from synth.prompts import TEST, VALIDATION
from synth.settings import require, require_positive

SITE = "resid_post"
"""The residual stream behind a layer, at EOT"""


@dataclass(unsafe_hash=True)
class ShiftsConfig:
    """Settings of the measurement of how tuning moved the residual stream."""

    prompts: int = 128
    """Safe and unsafe prompts each, none of them trained on or reported on, whose shift is taken apart."""
    shares: tuple[float, ...] = (0.5, 0.9)
    """Shares of the shift's energy of which is said how many components hold them."""
    components: int = 16
    """First components that the detector of unsafe prompts is chosen among."""
    ranks: tuple[int, ...] = (1, 2, 4)
    """Singular directions of dW that the refusal direction is projected on together."""
    permutations: int = 20
    """Ways to deal labels out anew behind the control of the detectors."""
    draws: int = 4
    """Random matrices and directions behind the other controls."""

    def __post_init__(self) -> None:
        self.shares, self.ranks = tuple(self.shares), tuple(self.ranks)
        require_positive(self, "prompts", "components", "permutations", "draws")
        require(all(0 < share < 1 for share in self.shares), "shares", list(self.shares), "must be in (0, 1) each",
                "set [0.5,0.9]")  # fmt: skip
        require(min(self.ranks, default=0) >= 1, "ranks", list(self.ranks), "must be 1 or more each, one at least",
                "set [1,2,4]")  # fmt: skip


class Told(NamedTuple):
    """N prompts that a detector is to tell apart."""

    after: np.ndarray
    """[N, L, D] what the tuned model holds of each at SITE"""
    unsafe: np.ndarray
    """[N] bool"""
    cells: np.ndarray
    """[N, k] as `rows.Drawn.cells`"""


class Shifted(NamedTuple):
    """The same prompts in the model before and after tuning."""

    before: np.ndarray
    """[N, L, D] at SITE"""
    validation: Told
    """After tuning, of other prompts than are reported on"""
    test: Told

    def moved(self, layer: int, centred: bool = False) -> np.ndarray | None:
        """[N, D] the paper's Y - X behind a layer, as `moved`."""
        return moved(self.before, self.validation.after, layer, centred)


def held(chosen: Mapping[str, Drawn], model: ModelConfig, params: Params) -> np.ndarray:
    """[N, L, D] what a model holds at SITE of the prompts `chosen`, family after family."""
    prompts = {family: one.prompts for family, one in chosen.items()}
    most = max(len(one.cells) for one in chosen.values())
    seen = observe_last(model, params, prompts, most)
    return np.concatenate([of[SITE] for of in seen.values()]).astype(float)


def shifted(subject: Subject, config: ShiftsConfig) -> Shifted:
    """Validation prompts seen by both models, and test prompts by the tuned one.

    Raises ValueError for a subject that cannot draw prompts.
    """
    if subject.draw is None:
        raise ValueError("shifts are taken apart on prompts of another side: give the subject `draw`")
    chosen = subject.draw(SIDES, config.prompts, VALIDATION)
    before, after = (held(chosen, subject.model, params) for params in (subject.reference, subject.params))
    count = min(len(subject.observations[family].complied) for family in SIDES)
    reported = subject.draw(SIDES, count, TEST)
    there = np.concatenate([np.asarray(subject.observations[family].last[SITE])[:count] for family in SIDES])

    def told(after: np.ndarray, cells: list[np.ndarray]) -> Told:
        return Told(after.astype(float), np.repeat([True, False], len(after) // 2), np.concatenate(cells))

    own = [told(after, [chosen[family].cells for family in SIDES])]
    own.append(told(there, [reported[family].cells for family in SIDES]))
    return Shifted(before, *own)


class Spectrum(NamedTuple):
    """A matrix of shifts [N, D] by its singular values."""

    share: float
    """Of its energy, that of the first component"""
    ranks: tuple[int, ...]
    """For each of the shares, the fewest components that hold so much of its energy (the paper's effective rank)"""
    components: np.ndarray
    """[min(N, D), D] rows of length 1"""


def spectrum(matrix: np.ndarray, shares: tuple[float, ...]) -> Spectrum:
    """Of a `matrix` [N, D] that is not zero."""
    _, values, components = np.linalg.svd(matrix, full_matrices=False)
    ranks = tuple(empirical_rank(values, share) for share in shares)
    return Spectrum(float(values[0] ** 2 / np.sum(values**2)), ranks, components)


def turned(matrix: np.ndarray, draws: int, key: jax.Array) -> list[np.ndarray]:
    """`draws` times the rows of `matrix` [N, D], each turned to a random direction."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return [norms * random_units(matrix.shape[1], len(matrix), fold(key, i)) for i in range(draws)]


def accuracy(components: np.ndarray, validation: Told, test: Told, layer: int) -> float:
    """The share of `test` prompts that the best of `components` [K, D] tells apart, by what it has of the stream behind
    `layer`: which of them, which way it points and its threshold, beyond which lie as many prompts as are unsafe (the
    paper's), are chosen on `validation` prompts."""
    along, there = (of.after[:, layer] @ np.concatenate([components, -components]).T for of in (validation, test))
    count = int(validation.unsafe.sum())
    if count in (0, len(validation.unsafe)):
        return float((test.unsafe == validation.unsafe[0]).mean())
    # Between the last that is to lie beyond it and the next.
    ordered = np.sort(along, axis=0)[::-1]
    threshold = (ordered[count - 1] + ordered[count]) / 2
    right = ((along > threshold[None]) == validation.unsafe[:, None]).mean(axis=0)
    best = int(right.argmax())
    return float(((there[:, best] > threshold[best]) == test.unsafe).mean())


def dealt(of: Shifted, permutations: int, key: jax.Array) -> list[tuple[Told, Told]]:
    """Validation and test prompts with safety dealt out anew among the combinations of tasks with concepts, the same
    for both."""
    cells, unsafe = (
        np.concatenate([getattr(one, name) for one in (of.validation, of.test)]) for name in ("cells", "unsafe")
    )
    found = []
    for i in range(permutations):
        ours, theirs = np.split(dealt_out(cells, unsafe, fold(key, i)), [len(of.validation.unsafe)])
        found.append((of.validation._replace(unsafe=ours), of.test._replace(unsafe=theirs)))
    return found


class Removed(NamedTuple):
    """What is taken out of a model."""

    refusal: np.ndarray
    """[D] of length 1: the refusal direction"""
    component: np.ndarray
    """[D] of length 1: the first component of the shift behind one of the layers"""
    layer: int
    """From 0"""
    draws: int
    """Random directions in the place of each"""


def removed(of: Material, firsts: dict[int, np.ndarray], refusal: Direction, draws: int) -> Removed:
    """Of the first components [D] behind layers, `firsts` by layer, that without which unsafe validation prompts are
    refused least."""
    bypass, _, _ = tried(
        of.model,
        of.params,
        of.validation.fed,
        of.validation.sides,
        of.refusal,
        jnp.asarray(np.stack([*firsts.values()]), jnp.float32),
        jnp.asarray([*firsts]),
        jnp.zeros((1, of.model.width)),
    )
    layer = [*firsts][int(np.argmin(bypass))]
    return Removed(refusal.unit, firsts[layer], layer, draws)


REFUSAL, SHIFT, AXIS = "refusal", "shift", "axis"
"""Directions that are found in a model: that of refusal, and by layer the first component of the shift and the axis
between safe and unsafe prompts"""
Place = tuple[str, int | None]
"""One of these, and behind which layer, from 0"""


def moved(before: np.ndarray, after: np.ndarray, layer: int, centred: bool = False) -> np.ndarray | None:
    """[N, D] the shift behind a layer, less its mean if `centred`; None where tuning moved nothing there."""
    shift = (after - before)[:, layer]
    shift = shift - centred * shift.mean(axis=0)
    return shift if np.linalg.norm(shift) > 1e-6 * np.linalg.norm(before[:, layer]) else None


def in_stream(before: np.ndarray, after: np.ndarray) -> dict[Place, np.ndarray]:
    """The shifts and axes [D], of length 1, of a model that holds `after` [N, L, D], the first half of it unsafe, where
    it held `before`; none where it did not move, or tells nothing apart."""
    found: dict[Place, np.ndarray] = {}
    unsafe, safe = (side.mean(axis=0) for side in np.split(after, len(SIDES)))
    for layer in range(after.shape[1]):
        shift = moved(before, after, layer)
        if shift is not None:
            found[SHIFT, layer] = spectrum(shift, ()).components[0]
        if np.linalg.norm((unsafe - safe)[layer]) > 1e-6 * np.linalg.norm(safe[layer]):
            found[AXIS, layer] = unit((unsafe - safe)[[layer]])[0]
    return found


def found_in(
    subject: Subject, config: ShiftsConfig, directions: DirectionsConfig, of: Weights, before: np.ndarray
) -> dict[Place, np.ndarray]:
    """All directions of a model of the weights `of`, that of refusal if it has one; `before` is `Shifted.before`."""
    assert subject.draw
    found = in_stream(before, held(subject.draw(SIDES, config.prompts, VALIDATION), of.model, of.params))
    with suppress(NoDirectionError):
        asked = material(subject._replace(params=of.params, model=of.model), directions)
        found[REFUSAL, None] = first_of(asked, directions)[0].unit
    return found
