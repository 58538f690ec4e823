"""W + alpha dW for every weight (arXiv 2407.10264, Eq. A.3, Figs. A.72 and A.75): a change undone, halved, taken
further."""

from collections.abc import Iterator
from functools import partial

import jax

from analysis.edit import Kind, Label, Made, Weights, made_of
from analysis.edits.settings import InterventionsConfig
from analysis.rows import Subject
from models.transformer import Params


def scaled(untuned: Params, tuned: Params, alpha: float) -> Params:
    """W + alpha dW for every weight: `untuned` to the bit at 0, `tuned` at 1."""
    return jax.tree.map(lambda w, t: (1 - alpha) * w + alpha * t, untuned, tuned)


def edits(subject: Subject, config: InterventionsConfig) -> Iterator[Made[Weights]]:
    """alpha  the model with its dW times strength"""
    for alpha in config.alphas:
        make = partial(made_of, subject.model, scaled, subject.reference, subject.params, alpha)
        yield Made(Label("alpha", alpha), make)


KIND = Kind(__name__, "multiples", edits)
