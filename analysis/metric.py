"""What a metric is: how it is called, in what unit it is, and what chance alone gives of it."""

from collections.abc import Mapping
from typing import NamedTuple

SHARE, PART, COUNT, NUMBER = "share of prompts", "part", "count", "number"
"""A share of prompts is known to one prompt only, and a part is a share of anything else; a number has no unit."""
ACTIVATION, WEIGHT, NATS, SINE = "activation", "weight", "nats", "sine"
GRADIENT = "logit per unit of embedding"
"""Activations, weights and embeddings have no unit but their own."""

PERMUTED, DIRECTIONS, FRAMES, MATRIX = "permuted labels", "random directions", "random frames", "random matrix"
EVEN, UNTUNED, OTHER, SOFT = "even share", "untuned", "untuned model, other prompts", "random soft tokens"
OTHER_PLACE, LETTERS = "means of the other position", "random letters"

CHANCES = {
    PERMUTED: "The same statistic with safe and unsafe labels dealt at random, many times: "
    "what chance alone separates.",
    DIRECTIONS: "As many random directions of the same size in place of those that were found: "
    "what any direction would pick up.",
    FRAMES: "Random orthonormal frames of the same size in place of the singular vectors: "
    "a random direction is already nearly at right angles to a subspace.",
    MATRIX: "A change of the same size in random directions: what any change would have there.",
    EVEN: "The share that each part would have if all were alike: every weight changed, or every token moved, as much.",
    UNTUNED: "The same quantity of the weights before tuning.",
    OTHER: "The model before tuning compared with itself on as many other prompts: "
    "the angles that so few prompts make.",
    SOFT: "As many random soft tokens of the same length: what they do without any optimisation.",
    LETTERS: "As many random letters in place of the right ones that are given.",
    OTHER_PLACE: "The means of safe and unsafe prompts at the other of two positions: "
    "what lies nearer either mean wherever it was read.",
}
"""What nulls are made by, a sentence each."""


class Null(NamedTuple):
    """What a metric is where there is nothing to be found: other metrics, of the same rows."""

    chance: str = ""
    """One of CHANCES; empty where there is no null"""
    mean: str = ""
    """The metric that has its mean"""
    low: str = ""
    """That below which 2.5 % of it lie, if it is measured"""
    high: str = ""
    """That above which 2.5 % of it lie, if it is measured"""

    @property
    def metrics(self) -> dict[str, str]:
        """The metrics it has, by name what they are of it."""
        named = {self.mean: "mean", self.low: "2.5 %", self.high: "97.5 %"}
        return {name: what for name, what in named.items() if name}


class Metric(NamedTuple):
    """A row of the registry."""

    label: str
    """In figures; what is between dollars is a formula"""
    unit: str
    sentence: str
    """What it says"""
    null: Null = Null()
    level: float | None = None
    """Its value where there is no effect, if that is a number"""


def permuted(metric: str, low: bool = True, high: bool = True) -> Null:
    """The null of a metric of clusters, by other labels, and which of its ends are measured."""
    name = f"{metric}_permuted"
    return Null(PERMUTED, name, f"{name}_low" * low, f"{name}_high" * high)


def soft(quantity: str) -> Null:
    """The null of the attack by soft tokens."""
    return Null(SOFT, f"adv_random_{quantity}")


def with_nulls(own: Mapping[str, Metric]) -> dict[str, Metric]:
    """`own`, and a row for each metric that is a null of one of them."""
    return {
        **own,
        **{
            name: Metric(
                f"{row.label}, {row.null.chance}",
                row.unit,
                f"This is the {what} of `{metric}` by {row.null.chance}.",
            )
            for metric, row in own.items()
            for name, what in row.null.metrics.items()
        },
    }


def nulls(metrics: Mapping[str, Metric]) -> dict[str, str]:
    """By the name of each metric that is a null, the metric that it is the null of."""
    return {name: metric for metric, row in metrics.items() for name in row.null.metrics}


def page(metrics: Mapping[str, Metric]) -> str:
    """`docs/metrics.md`: every metric that is no null, with its null, and what stands in its place by chance."""
    lines = [
        "# Metrics",
        "",
        "`analysis/metrics/` has a row for each metric of a study; [analysis.md](analysis.md) says what measures it.",
        "",
        "| `metric` | what it says | unit | with no effect |",
        "| --- | --- | --- | --- |",
    ]
    known = nulls(metrics)
    for name, row in metrics.items():
        if name in known:
            continue
        level = [] if row.level is None else [f"{row.level:g}"]
        null = [", ".join(f"`{one}`" for one in row.null.metrics) + f": {row.null.chance}"] if row.null.chance else []
        lines.append(f"| `{name}` | {row.sentence} | {row.unit} | {'; '.join(level + null)} |")
    lines += ["", "| by chance | what stands in its place |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {said} |" for name, said in CHANCES.items())]) + "\n"
