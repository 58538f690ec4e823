"""From one tuned model to another: the line between their weights, and the dW of one added to the other.

arXiv 2407.10264, Figs. A.73 (linear connectivity) and A.74 (transfer).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax

from analysis.edit import Kind, Label, Made, Weights, made_of
from analysis.rows import Subject
from models.transformer import Params
from synth.settings import require_positive


@dataclass(unsafe_hash=True)
class PathsConfig:
    """Settings of the comparisons of tuned models."""

    prompts: int = 64
    """Prompts of each family that every mixture is tried on."""
    between: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Shares of the other model's weights."""
    transfer: tuple[float, ...] = (0.5, 1.0)
    """Multiples of the other model's dW."""

    def __post_init__(self) -> None:
        self.between, self.transfer = tuple(self.between), tuple(self.transfer)
        require_positive(self, "prompts")


def between(tuned_a: Params, tuned_b: Params, share: float) -> Params:
    """On the line from one tuned model to another (Fig. A.73)."""
    return jax.tree.map(lambda a, b: (1 - share) * a + share * b, tuned_a, tuned_b)


def transfer(tuned: Params, other_untuned: Params, other_tuned: Params, alpha: float) -> Params:
    """W_ST + alpha dW' with the dW' of another method (Fig. A.74)."""
    return jax.tree.map(lambda w, u, t: w + alpha * (t - u), tuned, other_untuned, other_tuned)


def edits(subject: Subject, config: PathsConfig) -> Iterator[Made[Weights]]:
    """Every mixture of the subject with each of the others.

    between   1 - strength of the subject's weights, strength of the other's
    transfer  the subject's weights and strength times the other's dW
    """
    own = subject.params
    for other, params in subject.others.items():
        for share in config.between:
            make = partial(made_of, subject.model, between, own, params, share)
            # A quarter of the way from A to B is three quarters from B to A.
            same = other, Label("between", _rounded(1 - share), subject.name)
            yield Made(Label("between", _rounded(share), other), make, same=same)
        for alpha in config.transfer:
            added = partial(made_of, subject.model, transfer, own, subject.reference, params, alpha)
            # A with the dW of B is B with the dW of A.
            turned = (other, Label("transfer", 1.0, subject.name)) if alpha == 1 else None
            yield Made(Label("transfer", alpha, other), added, same=turned)


def _rounded(share: float) -> float:
    """1 - 0.9 is to be 0.1."""
    return round(share, 12)


KIND = Kind(__name__, "paths", edits)
