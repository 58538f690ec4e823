"""The controls, a sentence each, and which of them stands beside a number."""

from typing import NamedTuple

import pandas as pd

from analysis.edits import EDITS
from experiments.findings.results import RANDOM, UNTOUCHED


class Control(NamedTuple):
    """A control of the page's list."""

    name: str
    sentence: str


MODELS = {
    UNTOUCHED: "The pretrained model that every method starts from: what was there before tuning.",
    "continued": "As many steps of ordinary further training, with no safety in it: what any training changes.",
    RANDOM: "The model before any training, with random weights: what the architecture and the prompts alone give.",
    "shuffled": "Refusals trained on prompts chosen at random: tuning to refuse that carries no notion of safety.",
    "irrelevant": "Refusals trained by the first letter of the text, on as many prompts: what learning a rule changes "
    "where it has nothing to do with safety.",
    "refuse_all": "Refusals trained on all prompts, safe ones too: tuning to refuse with nothing to tell apart.",
    "pretraining_more": "As many steps on pretraining's own prompts: further training on what is known already.",
}
SUFFIXES = {
    "_permuted": (
        "permuted labels",
        "The same statistic with safe and unsafe labels dealt at random, many times: what chance alone separates.",
    ),
    "_random": (
        "random directions",
        "As many random directions of the same size in place of those of the change of weights: "
        "what any direction would pick up.",
    ),
    "_random_mean": (
        "random frames",
        "Random orthonormal frames of the same size in place of the singular vectors: a random direction is already "
        "nearly at right angles to a subspace.",
    ),
    "_even": (
        "even share",
        "The share of the change each part of the model would have if every weight changed alike.",
    ),
    "_untuned": ("untuned", "The same quantity of the weights before tuning."),
}
RANDOM_PARTS = Control(
    "random parts",
    "Parts of the change of weights of equal rank and norm but random direction, removed or kept in place of the "
    "part in question; random axes in place of the cluster axis: what any change of that size would do.",
)
FURTHER = "further training"


def present(table: pd.DataFrame) -> list[Control]:
    """Those that a table has rows of."""
    methods, metrics = set(table["method"]), set(table["metric"])
    found = [Control(name, sentence) for name, sentence in MODELS.items() if name in methods]
    for suffix, (name, sentence) in SUFFIXES.items():
        if any(
            metric.endswith(suffix) and metric.removesuffix(suffix) in metrics | _means(metrics) for metric in metrics
        ):
            found.append(Control(name, sentence))
    if set(table["intervention"].dropna()) & set(counterparts().values()):
        found.append(RANDOM_PARTS)
    if len(table):
        found.append(
            Control(
                "held-out prompts",
                "Every prompt measured is one that a hash keeps out of training of any kind: nothing is remembered.",
            )
        )
    return found


def counterparts() -> dict[str, str]:
    """Of each intervention that has one, its random counterpart."""
    return {name: control for kind in EDITS.values() for name, control in kind.controls.items()}


def is_control(metrics: "pd.Series[str]") -> "pd.Series[bool]":
    """Which metrics are themselves controls, shown beside what they control rather than on lines of their own."""
    return metrics.str.contains(r"_permuted(?:_low|_high)?$|_random(?:_mean)?$|_even$|^rank_untuned$|^adv_random_")


def beside(metrics: "pd.Series[str]") -> "dict[str, tuple[str, str]]":
    """For each metric its control's metric and name, where it has one of its own."""
    known = set(metrics)
    found = {}
    for metric in known:
        stem = metric.removesuffix("_mean")
        candidates = [
            *((f"{metric}{suffix}", name) for suffix, (name, _) in SUFFIXES.items()),
            (f"{stem}_random_mean", SUFFIXES["_random_mean"][0]),
            (metric.replace("adv_", "adv_random_", 1), "random soft tokens"),
            (metric.replace("rank_change", "rank_untuned"), SUFFIXES["_untuned"][0]),
        ]
        for candidate, name in candidates:
            if candidate in known and candidate != metric:
                found[metric] = (candidate, name)
                break
    return found


def _means(metrics: set[str]) -> set[str]:
    return {metric.removesuffix("_mean") for metric in metrics}
