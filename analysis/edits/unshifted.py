"""One direction taken out of what tuning changed: out of dW, or out of the tuned model's residual stream (cf. Pan et
al. 2025, arXiv 2502.09674, who remove components of the shift)."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np

from analysis.chance import random_units
from analysis.components import Removed
from analysis.edit import Kind, Label, Made, Weights
from analysis.edits.directions import WRITERS, Ablated
from analysis.rows import Subject
from models.transformer import ModelConfig, Params
from models.weights import flatten, unflatten
from synth.keys import fold


def without_in_change(model: ModelConfig, tuned: Params, untuned: Params, direction: np.ndarray) -> Weights:
    """The tuned model whose weights write along `direction` [D], of length 1, what they wrote before tuning; the rest
    of dW is kept. A tied unembedding stays as tuning left it and is untied."""
    if "W_U" not in tuned:
        tuned, model = {**tuned, "W_U": tuned["W_E"].T}, replace(model, tied=False)
    after, before = flatten(tuned), flatten(untuned)
    changed = {}
    for name in after:
        if name.split(".")[-1] in WRITERS:
            change = np.asarray(after[name], float) - np.asarray(before[name], float)
            along = (change @ direction)[..., None] * direction
            changed[name] = (np.asarray(after[name], float) - along).astype(np.float32)
    return Weights(unflatten({**after, **changed}), model)


def edits(subject: Subject, found: Removed) -> Iterator[Made[Weights | Ablated]]:
    """Without one direction each, or a random one in its place:

    change without refusal  dW writes nothing along the refusal direction
    change without shift    dW writes nothing along the first component of the shift
    ablate shift            the tuned model has nothing along the first component of the shift in its residual stream
    """
    model, tuned, key = subject.model, subject.params, fold(subject.key, "shifts")

    def ablate(direction: np.ndarray) -> Ablated:
        return Ablated(tuned, jnp.asarray(direction[None], jnp.float32), model)

    change = partial(without_in_change, model, tuned, subject.reference)
    yield Made(Label("change without refusal", 1, module="weights"), partial(change, found.refusal))
    yield Made(Label("change without shift", 1, module="weights"), partial(change, found.component))
    yield Made(Label("ablate shift", 1, module="resid"), partial(ablate, found.component))
    for one in random_units(model.width, found.draws, fold(key, "removed")):
        yield Made(Label("change without random", 1, module="weights"), partial(change, one))
        yield Made(Label("ablate shift random", 1, module="resid"), partial(ablate, one))


KIND = Kind(
    __name__,
    "shifts",
    edits,
    controls={
        "change without refusal": "change without random",
        "change without shift": "change without random",
        "ablate shift": "ablate shift random",
    },
)
