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

    variant: str
    make: Callable[[], Params]
    mirrored: tuple[str, str] | None
    """The method and the variant of the same weights, seen from the other model"""


def mixtures(
    tuned: Mapping[str, Params], reference: Params, method: str, config: PathsConfig, controls: Collection[str] = ()
) -> Iterator[Mixture]:
    """Every mixture of the model of `method` with each of the others, but of two `controls`, which nothing is said of.

    `between OTHER A`   (1 - A) of this model's weights, A of the other's
    `transfer OTHER A`  this model's weights and A times the other's dW
    """
    for other, params in tuned.items():
        if other != method and not {method, other} <= set(controls):
            for share in config.between:
                make = partial(between, tuned[method], params, share)
                yield Mixture(f"between {other} {share:g}", make, (other, f"between {method} {1 - share:g}"))
            for multiple in config.transfer:
                make = partial(transfer, tuned[method], reference, params, multiple)
                mirrored = (other, f"transfer {method} 1") if multiple == 1 else None
                yield Mixture(f"transfer {other} {multiple:g}", make, mirrored)


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
    seen: dict[tuple[str, str], Scores] = {}
    results: dict[str, list[Result]] = {}
    for method in tuned:
        results[method] = []
        for mixture in mixtures(tuned, reference, method, config, controls):
            # A quarter of the way from A to B is three quarters from B to A; A with dW of B is B with dW of A.
            known = seen.get(mixture.mirrored) if mixture.mirrored else None
            found = known or scores(model, mixture.make(), batch)
            seen[method, mixture.variant] = found
            results[method] += results_of(list(prompts), [found], variant=mixture.variant)
    return results
