"""From one tuned model to another: the line between their weights, and the dW of one added to the other.

arXiv 2407.10264, Figs. A.73 (linear connectivity) and A.74 (transfer).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from analysis.interventions import between, results_of, scores, stacked, transfer
from analysis.rows import Result
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


def mixtures(
    tuned: Mapping[str, Params], reference: Params, method: str, config: PathsConfig
) -> Iterator[tuple[str, Params]]:
    """Every mixture of the model of `method` with each of the others, by its variant.

    `between OTHER A`   (1 - A) of this model's weights, A of the other's
    `transfer OTHER A`  this model's weights and A times the other's dW
    """
    for other, params in tuned.items():
        if other != method:
            for share in config.between:
                yield f"between {other} {share:g}", between(tuned[method], params, share)
            for multiple in config.transfer:
                yield f"transfer {other} {multiple:g}", transfer(tuned[method], reference, params, multiple)


def measure(
    model: ModelConfig,
    tuned: Mapping[str, Params],
    reference: Params,
    prompts: Mapping[str, Prompts],
    config: PathsConfig,
) -> dict[str, list[Result]]:
    """Behaviour of every mixture of one seed's models on each family, by the method that it starts from."""
    batch = stacked(prompts, config.prompts)
    return {
        method: [
            result
            for variant, params in mixtures(tuned, reference, method, config)
            for result in results_of(list(prompts), [scores(model, params, batch)], variant=variant)
        ]
        for method in tuned
    }
