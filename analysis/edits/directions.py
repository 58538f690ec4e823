"""Refusal directions left out of the residual stream, added to it, or taken out of all weights that write to it (Arditi
et al. 2024, arXiv 2406.11717, sec. 2.4 and 4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from analysis.chance import random_frames, random_units
from analysis.edit import Fed, Kind, Label, Made, Weights
from analysis.refusal import ablating, adding, at_layer, resting, setting
from analysis.rows import Subject
from analysis.selection import Direction, Found
from models.taps import edit
from models.transformer import ModelConfig, Params, position_embeddings
from models.weights import flatten, unflatten
from synth.keys import fold

WRITERS = ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")
"""Weights whose rows, or which themselves, are added to the residual stream."""

EVERYWHERE = 2**16
"""As `Added.last`: further than any response reaches."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Ablated:
    """The model without the span of `basis` [k, D], orthonormal rows, in its residual stream."""

    params: Params
    basis: jax.Array
    model: ModelConfig = field(metadata={"static": True})

    def logits(self, fed: Fed) -> jax.Array:
        return edit(self.model, self.params, fed.tokens, ablating(self.model, self.basis), fed.layout)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Recentred:
    """The model with its coordinates along `basis` [k, D] set, from EOT on, to the means that safe prompts have there.

    Ablation sets them to 0, which is far from where safe prompts lie if the stream has a mean of its own (cf. Marshall
    et al. 2024, arXiv 2411.09003).
    """

    params: Params
    basis: jax.Array
    means: jax.Array
    """[S, R, k] by site of `refusal.writes`, at EOT and the R - 1 positions behind it"""
    model: ModelConfig = field(metadata={"static": True})

    def logits(self, fed: Fed) -> jax.Array:
        along = jnp.broadcast_to(jnp.arange(fed.tokens.shape[1]), fed.tokens.shape)
        behind = (along if fed.layout is None else fed.layout.positions) - fed.go[:, None]
        taps = setting(self.model, self.basis, self.means, behind)
        return edit(self.model, self.params, fed.tokens, taps, fed.layout)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Added:
    """The model with `shifts` [L, D] added to what each layer reads, up to `last` positions behind EOT."""

    params: Params
    shifts: jax.Array
    last: jax.Array | np.int32
    model: ModelConfig = field(metadata={"static": True})

    def logits(self, fed: Fed) -> jax.Array:
        along = jnp.broadcast_to(jnp.arange(fed.tokens.shape[1]), fed.tokens.shape)
        behind = (along if fed.layout is None else fed.layout.positions) - fed.go[:, None]
        taps = adding(self.model, self.shifts, behind <= self.last)
        return edit(self.model, self.params, fed.tokens, taps, fed.layout)


def orthogonalised(model: ModelConfig, params: Params, basis: np.ndarray) -> Weights:
    """The model whose weights write nothing along `basis` [k, D], orthonormal rows (the paper's Eq. 5).

    It is the model of `Ablated` to rounding: what LayerNorm subtracts and scales is read from the stream and not
    written to it. A tied unembedding stays as it was and is untied; sinusoid positions become learned ones.
    Raises ValueError for the block of the released code, whose LayerNorm writes to the stream itself.
    """
    if model.reference_block:
        raise ValueError("model.reference_block=true: its LayerNorm writes to the residual stream; ablate it by taps")
    if "W_U" not in params:
        params, model = {**params, "W_U": params["W_E"].T}, replace(model, tied=False)
    if model.positions == "sinusoid":
        positions = position_embeddings(model, {}, model.context)
        params, model = {**params, "W_pos": positions}, replace(model, positions="learned")
    flat = flatten(params)
    written = {name: np.asarray(flat[name], float) for name in flat if name.split(".")[-1] in WRITERS}
    changed = {name: (x - (x @ basis.T) @ basis).astype(np.float32) for name, x in written.items()}
    return Weights(unflatten({**flat, **changed}), model)


def edits(subject: Subject, found: Found) -> Iterator[Made[Any]]:
    """With the residual stream as module, or the weights:

    ablate          the model without the first `strength` directions that were found one after the other, of which the
                    first has the lowest bypass score of all
    ablate chosen   without the direction of the lowest bypass score that keeps to the paper's thresholds
    recentre        with the first direction's coordinate set to the mean of safe prompts, and not to 0
    add             with `strength` times the first difference of means added to what its layer reads
    add chosen      with the chosen one

    random, in their place: random directions of the same length; permuted: what the same search finds where the labels
    of tasks with concepts were dealt out anew.
    """
    model, params, config = subject.model, subject.params, found.config
    width, draws, key = model.width, config.draws, fold(subject.key, "directions")

    def ablate(basis: np.ndarray) -> Ablated:
        return Ablated(params, jnp.asarray(basis, jnp.float32), model)

    def add(vector: np.ndarray, layer: int) -> Added:
        shifts = at_layer(model, jnp.asarray(config.coefficient * vector, jnp.float32), layer)
        return Added(params, shifts, np.int32(EVERYWHERE), model)

    def both(name: str, one: Direction) -> Iterator[Made[Any]]:
        yield Made(Label(f"ablate{name}", 1, module="resid"), partial(ablate, one.unit[None]))
        yield Made(Label(f"add{name}", config.coefficient, module="resid"), partial(add, one.vector, one.layer))

    first, train = found.first, found.of.train
    rest = resting(model, params, train.fed, train.sides[1], subject.prompts["safe"].complying.room)

    def recentre(direction: np.ndarray) -> Recentred:
        basis = jnp.asarray(direction[None], jnp.float32)
        return Recentred(params, basis, rest @ basis.T, model)

    for k in range(1, len(found.basis) + 1):
        yield Made(Label("ablate", k, module="resid"), partial(ablate, found.basis[:k]))
        for frame in random_frames(width, min(k, width), draws, fold(key, "frames", k)):
            yield Made(Label("ablate random", k, module="resid"), partial(ablate, frame.T))
    yield Made(Label("add", config.coefficient, module="resid"), partial(add, first.vector, first.layer))
    for one in random_units(width, draws, fold(key, "added")) * np.linalg.norm(first.vector):
        yield Made(Label("add random", config.coefficient, module="resid"), partial(add, one, first.layer))
    yield Made(Label("recentre", 1, module="resid"), partial(recentre, first.unit))
    for one in random_units(width, draws, fold(key, "recentred")):
        yield Made(Label("recentre random", 1, module="resid"), partial(recentre, one))
    for one in found.permuted:
        yield from both(" permuted", one)
    if found.chosen is not None:
        yield from both(" chosen", found.chosen)
    if not model.reference_block:
        yield Made(Label("ablate", 1, module="weights"), partial(orthogonalised, model, params, found.basis[:1]))


KIND = Kind(
    __name__,
    "directions",
    edits,
    controls={
        "ablate": "ablate random",
        "ablate chosen": "ablate random",
        "recentre": "recentre random",
        "add": "add random",
        "add chosen": "add random",
    },
)
