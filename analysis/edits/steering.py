"""Harmfulness or refusal added to prompts (Zhao et al. 2025, arXiv 2507.11878)."""

from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp
import numpy as np

from analysis.contrast import PLACES, Steered
from analysis.edit import Kind, Label, Made
from analysis.edits.directions import Added
from analysis.refusal import at_layer
from analysis.rows import Subject


def edits(subject: Subject, found: list[Steered]) -> Iterator[Made[Added]]:
    """All that `contrast.steered` gives, with `position` the last one that it is added at."""
    model, params = subject.model, subject.params

    def add(one: Steered) -> Added:
        shifts = at_layer(model, jnp.asarray(one.vector, jnp.float32), one.layer)
        return Added(params, shifts, np.int32(one.last), model)

    for one in found:
        yield Made(Label(one.name, one.strength, module="resid", position=one.last), partial(add, one))


KIND = Kind(
    __name__,
    "harmfulness",
    edits,
    controls={f"steer {name}": "steer random" for name in PLACES}
    | {f"steer {name} own": f"steer {name} own random" for name in PLACES},
)
