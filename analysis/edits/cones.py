"""Directions of cones that were found by gradient, left out of the residual stream or added to it (Wollschläger et al.
2025, arXiv 2502.17420)."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.chance import random_frames
from analysis.cone_search import ARBITRARY, CONE, INDEPENDENT, Cones, Sought, dims, sampled
from analysis.edit import Kind, Label, Made
from analysis.edits.directions import EVERYWHERE, Ablated, Added
from analysis.refusal import at_layer
from analysis.rows import Subject
from synth.keys import fold


def edits(subject: Subject, found: Cones) -> Iterator[Made[Any]]:
    """The model without a direction (`ablate ...`), or with it added to what the layer of the difference of means reads
    and as long (`add ...`), `strength` being the dimension of its cone:

    cone         each row of the basis that was found, and directions sampled from its cone
    cone random  the same of a random cone
    means        the difference of means
    independent  the direction found as independent of it; its random one is `cone random` of dimension 1
    arbitrary    the direction found toward wrong answers of combinations that were dealt out anew
    """
    model, params, config, first = subject.model, subject.params, found.config, found.first
    key, length = fold(subject.key, "cones", "tried"), float(np.linalg.norm(first.vector))

    def both(name: str, dim: int, directions: np.ndarray) -> Iterator[Made[Any]]:
        for one in directions:
            yield Made(Label(f"ablate {name}", dim, module="resid"), partial(ablate, one))
            yield Made(Label(f"add {name}", dim, module="resid"), partial(add, one))

    def ablate(direction: np.ndarray) -> Ablated:
        return Ablated(params, jnp.asarray(direction[None], jnp.float32), model)

    def add(direction: np.ndarray) -> Added:
        shifts = at_layer(model, jnp.asarray(length * direction, jnp.float32), first.layer)
        return Added(params, shifts, np.int32(EVERYWHERE), model)

    for k in dims(config, model.width):
        drawn = fold(key, "samples", k)
        yield from both("cone", k, sampled(found.basis(CONE, k), config.samples, drawn))
        frame = random_frames(model.width, k, 1, fold(drawn, "random"))[0].T
        yield from both("cone random", k, sampled(frame, config.samples, drawn))
    yield from both("means", 1, first.unit[None])
    yield from both("independent", 1, found.basis(INDEPENDENT))
    if Sought(ARBITRARY, 1) in found.found:
        yield from both("arbitrary", 1, found.basis(ARBITRARY))


NAMES = ("cone", "means", "independent", "arbitrary")

KIND = Kind(
    __name__,
    "cones",
    edits,
    controls={f"{what} {name}": f"{what} cone random" for what in ("ablate", "add") for name in NAMES},
)
