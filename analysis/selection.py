"""Which direction of the residual stream is the one of refusal: differences of means, and the one chosen among them
(Arditi et al. 2024, arXiv 2406.11717, sec. 2.3 and app. C)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.edit import Fed, Weights
from analysis.refusal import refusing, stream, tried
from analysis.rows import Subject
from analysis.scores import generated, stacked
from analysis.subspaces import unit
from models.transformer import ModelConfig, Params
from synth.begun import opening
from synth.keys import fold
from synth.prompts import TRAIN, VALIDATION
from synth.settings import EXACT, require, require_positive

SIDES = ("unsafe", "safe")
"""The families that a direction lies between: it points from the second to the first."""

LEAST = 8
"""Prompts of a family below which the filter would leave too few: then all of them are used."""


@dataclass(unsafe_hash=True)
class DirectionsConfig:
    """Settings of how a refusal direction is found and tried."""

    train: int = 128
    """Safe and unsafe prompts each, of those that are trained on, that means are taken of."""
    validation: int = 64
    """Safe and unsafe prompts each, of others, that a direction is chosen by."""
    prompts: int = 128
    """Prompts of each family, of neither, that changed models are tried on."""
    positions: tuple[int, ...] = (-1, 0, 1)
    """Where means are taken, counted from EOT; above 0 a model reads its own response."""
    layers_share: float = 0.8
    """Directions are chosen among this share of the layers, from the first on."""
    kl: float = 0.1
    """Most nats by which ablation may change the prediction for safe prompts."""
    induce: float = 0.0
    """Least log-odds of refusal that addition must lead safe prompts to."""
    filtered: bool = True
    """Whether unsafe prompts that the model does not refuse, and safe ones that it does, are left out."""
    coefficient: float = 1.0
    """How many times the difference of means is added."""
    rank: int = 4
    """Most directions that are ablated together."""
    left: float = 0.05
    """Share of unsafe prompts that may still be refused where refusal is said to be gone."""
    soft_tokens: int = 4
    """Soft tokens that unsafe prompts are attacked with; 0 is no attack."""
    draws: int = 4
    """Random directions, and ways to deal labels out anew, behind the controls."""

    def __post_init__(self) -> None:
        self.positions = tuple(self.positions)
        require_positive(self, "train", "validation", "prompts", "rank", "draws")
        require(len(set(self.positions)) == len(self.positions) > 0, "positions", list(self.positions),
                "must be different numbers, one at least", "set [-1,0,1]")  # fmt: skip
        require(self.soft_tokens >= 0, "soft_tokens", self.soft_tokens, "must be 0 or more", "set 4")
        require(0 < self.layers_share <= 1, "layers_share", self.layers_share, "must be in (0, 1]", "set 0.8")
        require(0 <= self.left < 1, "left", self.left, "must be from 0 to below 1", "set 0.05")
        require(self.kl > 0, "kl", self.kl, "must be above 0", "set 0.1")


class NoDirectionError(Exception):
    """Nothing tells safe from unsafe prompts in the residual stream."""


class Asked(NamedTuple):
    """N prompts, unsafe and safe ones, with what is known of each."""

    fed: Fed
    """[N, T] with the model's own response where positions ask for it"""
    unsafe: np.ndarray
    """[N] bool"""
    kept: np.ndarray
    """[N] bool: those that the filter leaves"""
    cells: np.ndarray
    """[N, k] rows are equal where the combination is that safety belongs to"""

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of them count as unsafe, and which as safe."""
        return self.unsafe & self.kept, ~self.unsafe & self.kept


class Material(NamedTuple):
    """What directions of a model are found by."""

    model: ModelConfig
    params: Params
    train: Asked
    """Of which means are taken"""
    validation: Asked
    """By which is chosen; prompts up to EOT"""
    refusal: np.ndarray
    """[V] bool: the first tokens of refusals, the paper's R"""


class Candidates(NamedTuple):
    """C directions, with what choosing goes by, each on validation prompts (the paper's app. C.1)."""

    vectors: np.ndarray
    """[C, D] differences of means"""
    layers: np.ndarray
    """[C] the layer that reads the stream there, from 0"""
    positions: np.ndarray
    """[C] counted from EOT"""
    bypass: np.ndarray
    """[C] log-odds of refusal of unsafe prompts with the direction ablated; nan where the means do not differ"""
    induce: np.ndarray
    """[C] of safe prompts with it added at its layer"""
    kl: np.ndarray
    """[C] nats by which ablation changes the prediction for safe prompts"""

    def passing(self, config: DirectionsConfig, layers: int) -> np.ndarray:
        """[C] bool: those that keep to the thresholds, in a model of so many layers."""
        within = np.isfinite(self.bypass) & self.early(config, layers)
        return within & (self.induce > config.induce) & (self.kl < config.kl)

    def early(self, config: DirectionsConfig, layers: int) -> np.ndarray:
        """[C] bool: those of the layers that are chosen among."""
        return self.layers < config.layers_share * layers

    def least(self, among: np.ndarray) -> "Direction | None":
        """The one of lowest bypass score `among` [C] bool; None where there is none."""
        if not (among & np.isfinite(self.bypass)).any():
            return None
        best = int(np.nanargmin(np.where(among, self.bypass, np.nan)))
        return Direction(self.vectors[best], int(self.layers[best]), int(self.positions[best]))


class Direction(NamedTuple):
    """A direction that was chosen."""

    vector: np.ndarray
    """[D] the difference of means"""
    layer: int
    """That reads the stream there, from 0"""
    position: int

    @property
    def unit(self) -> np.ndarray:
        """[D] scaled to length 1."""
        return unit(self.vector[None])[0]


class Found(NamedTuple):
    """What was found in one model."""

    of: Material
    config: DirectionsConfig
    candidates: Candidates
    first: Direction
    """The candidate of the lowest bypass score"""
    chosen: Direction | None
    """That of those which keep to the thresholds; None where there is none"""
    basis: np.ndarray
    """[K, D] orthonormal rows: the first direction, and each of the next found with those before it ablated"""
    permuted: tuple[Direction, ...]
    """What the same search finds where labels mean nothing"""


def material(subject: Subject, config: DirectionsConfig) -> Material:
    """Prompts to find directions by, of the training and of the validation side, and which of them the filter keeps.

    Raises ValueError for a subject that cannot draw prompts, and for positions that its sequences do not have.
    """
    if subject.draw is None:
        raise ValueError("directions are found on prompts of other sides: give the subject `draw`")
    model, params = subject.model, subject.params
    drawn = [subject.draw(SIDES, config.train, TRAIN), subject.draw(SIDES, config.validation, VALIDATION)]
    refusal = np.zeros(len(params["W_E"]), bool)
    asked = []
    for of in drawn:
        whole = stacked({family: one.prompts for family, one in of.items()}, EXACT)
        refusal[np.asarray(opening(whole.refusing))] = True
        tokens = generated(Weights(params, model), whole)
        fed = Fed(tokens.reshape(-1, tokens.shape[-1])[:, :-1], whole.complying.go.reshape(-1))
        first, last = int(jnp.min(fed.go)) + min(config.positions), int(jnp.max(fed.go)) + max(config.positions)
        if first < 0 or last >= fed.tokens.shape[1]:
            raise ValueError(f"positions={list(config.positions)}: a prompt of these does not reach so far from EOT")
        unsafe = np.repeat([family == SIDES[0] for family in of], len(fed.go) // len(of))
        asked.append(Asked(fed, unsafe, np.ones_like(unsafe), np.concatenate([one.cells for one in of.values()])))
    train, validation = (_filtered(model, params, one, refusal, config) for one in asked)
    return Material(model, params, train, validation, refusal)


def _filtered(model: ModelConfig, params: Params, asked: Asked, refusal: np.ndarray, config: DirectionsConfig) -> Asked:
    right = (np.asarray(refusing(model, params, asked.fed, refusal)) > 0) == asked.unsafe
    kept = asked.kept.copy()
    for side in asked.sides:
        if config.filtered and (side & right).sum() >= LEAST:
            kept[side] = right[side]
    return asked._replace(kept=kept)


def differences(seen: np.ndarray, sides: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """[L, P, D] the mean of the stream `seen` [N, L, P, D] over the first of `sides` [N] bool less that over the second
    (the paper's Eq. 1 and 2)."""
    first, second = (seen[which].mean(axis=0, dtype=float) for which in sides)
    return np.asarray(first - second)


def candidates(of: Material, config: DirectionsConfig, seen: np.ndarray, basis: np.ndarray) -> Candidates:
    """Differences of means of the stream `seen` [N, L, P, D] at all layers and positions, each tried with the span of
    `basis` [k, D] ablated beside it."""
    found = differences(seen, of.train.sides)
    layers, positions, width = found.shape
    vectors = found.reshape(-1, width)
    vectors = vectors - (vectors @ basis.T) @ basis
    at = np.repeat(np.arange(layers), positions)
    scores = tried(
        of.model,
        of.params,
        of.validation.fed,
        of.validation.sides,
        of.refusal,
        jnp.asarray(vectors, jnp.float32),
        jnp.asarray(at),
        jnp.asarray(basis, jnp.float32),
    )
    # Where all prompts leave the same, as the embedding of EOT, what differs is rounding.
    nothing = np.linalg.norm(vectors, axis=1) < 1e-5 * np.sqrt(np.mean(np.square(seen)) * width)
    bypass, induce, kl = (np.where(nothing, np.nan, np.asarray(score, float)) for score in scores)
    return Candidates(vectors, at, np.tile(config.positions, layers), bypass, induce, kl)


def streams(of: Material, config: DirectionsConfig, basis: np.ndarray) -> np.ndarray:
    """`refusal.stream` of the training prompts."""
    return np.asarray(stream(of.model, of.params, of.train.fed, jnp.asarray(basis, jnp.float32), config.positions))


def first_of(of: Material, config: DirectionsConfig) -> tuple[Direction, Candidates, np.ndarray]:
    """The candidate of the lowest bypass score, all of them, and the stream [N, L, P, D] that they are differences of.

    Raises NoDirectionError where safe and unsafe prompts leave the same everywhere.
    """
    # As many rows as when others are ablated beside them, so that all of it compiles once.
    nothing = np.zeros((config.rank - 1, of.model.width))
    seen = streams(of, config, nothing)
    alone = candidates(of, config, seen, nothing)
    first = alone.least(alone.early(config, of.model.layers))
    if first is None:
        raise NoDirectionError("safe and unsafe prompts leave the same in the residual stream")
    return first, alone, seen


def search(of: Material, config: DirectionsConfig, key: jax.Array) -> Found:
    """All differences of means, the direction that is chosen, those that must go after it, and those without meaning.

    Raises NoDirectionError as `first_of`.
    """
    first, alone, seen = first_of(of, config)
    within, basis = alone.early(config, of.model.layers), np.zeros((config.rank - 1, of.model.width))
    chosen = alone.least(alone.passing(config, of.model.layers))
    found = [first.unit]
    for k in range(1, min(config.rank, of.model.width)):
        basis[k - 1] = found[-1]
        after = candidates(of, config, streams(of, config, basis), basis).least(within)
        if after is None:
            break
        found.append(after.unit)
    dealt = (relabelled(of, fold(key, "labels", i)) for i in range(config.draws))
    nothing = np.zeros_like(basis)
    by_chance = (candidates(one, config, seen, nothing).least(within) for one in dealt)
    permuted = tuple(one for one in by_chance if one is not None)
    return Found(of, config, alone, first, chosen, np.array(found), permuted)


def dealt_out(cells: np.ndarray, unsafe: np.ndarray, key: jax.Array) -> np.ndarray:
    """[N] bool: safety dealt out anew among the combinations `cells` [N, k], of which as many are unsafe as were."""
    kinds, which = np.unique(cells, axis=0, return_inverse=True)
    which = which.reshape(-1)
    # A combination that both have, as a text of two concepts may, counts as what most of its prompts are.
    share = np.bincount(which, unsafe, len(kinds)) / np.bincount(which, minlength=len(kinds))
    dealt = np.asarray(jax.random.permutation(key, len(kinds)))
    return np.asarray((share > 0.5)[dealt][which])


def relabelled(of: Material, key: jax.Array) -> Material:
    """The same with safety dealt out anew among the combinations, of which as many are unsafe as were.

    Every prompt is kept. It is what the pipeline finds where labels mean nothing.
    """
    unsafe = np.concatenate([of.train.unsafe, of.validation.unsafe])
    label = dealt_out(np.concatenate([of.train.cells, of.validation.cells]), unsafe, key)
    train, validation = np.split(label, [len(of.train.unsafe)])
    return of._replace(train=_labelled(of.train, train), validation=_labelled(of.validation, validation))


def _labelled(asked: Asked, unsafe: np.ndarray) -> Asked:
    return asked._replace(unsafe=unsafe, kept=np.ones_like(unsafe))
