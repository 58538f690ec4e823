"""From one tuned model to another: the line between their weights, and the dW of one added to the other.

arXiv 2407.10264, Figs. A.73 (linear connectivity) and A.74 (transfer).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from analysis.multiples import between, transfer
from analysis.rows import Result
from analysis.scores import Scores, results_of, scores, stacked
from models.transformer import ModelConfig, Params
from synth.sequences import Prompts
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


class Mixture(NamedTuple):
    """Weights made of those of two models."""

    intervention: str
    strength: float
    other: str
    make: Callable[[], Params]
    mirrored: float | None
    """How strong the same intervention on the other model is, if it gives the same weights"""


def mixtures(
    tuned: Mapping[str, Params], reference: Params, method: str, config: PathsConfig, controls: Collection[str] = ()
) -> Iterator[Mixture]:
    """Every mixture of the model of `method` with each of the others, but of two `controls`, which nothing is said of.

    between   1 - strength of this model's weights, strength of the other's
    transfer  this model's weights and strength times the other's dW
    """
    for other, params in tuned.items():
        if other != method and not {method, other} <= set(controls):
            for share in config.between:
                make = partial(between, tuned[method], params, share)
                yield Mixture("between", share, other, make, 1 - share)
            for multiple in config.transfer:
                make = partial(transfer, tuned[method], reference, params, multiple)
                yield Mixture("transfer", multiple, other, make, 1.0 if multiple == 1 else None)


def measure(
    model: ModelConfig,
    tuned: Mapping[str, Params],
    reference: Params,
    prompts: Mapping[str, Prompts],
    config: PathsConfig,
    controls: Collection[str] = (),
) -> dict[str, list[Result]]:
    """Behaviour of every mixture (`mixtures`) of one seed's models on each family, by the method it starts from."""
    batch = stacked(prompts, config.prompts)
    seen: dict[tuple[str, str, str, float | None], Scores] = {}
    results: dict[str, list[Result]] = {}
    for method in tuned:
        results[method] = []
        for mixture in mixtures(tuned, reference, method, config, controls):
            # A quarter of the way from A to B is three quarters from B to A; A with dW of B is B with dW of A.
            kind, strength, other = mixture.intervention, mixture.strength, mixture.other
            known = seen.get((kind, other, method, _rounded(mixture.mirrored)))
            found = known or scores(model, mixture.make(), batch)
            seen[kind, method, other, _rounded(strength)] = found
            where = {"intervention": kind, "strength": strength, "other": other}
            results[method] += results_of(list(prompts), [found], **where)
    return results


def _rounded(strength: float | None) -> float | None:
    """1 - 0.9 is 0.1."""
    return None if strength is None else round(strength, 9)
