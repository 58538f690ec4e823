"""The controls, a sentence each, and which of them stands beside a number."""

from typing import NamedTuple

import pandas as pd

from analysis.edits import EDITS
from analysis.metric import CHANCES, nulls
from analysis.metrics import METRICS
from experiments.settings.names import RANDOM, UNTOUCHED


class Control(NamedTuple):
    """A control of the page's list."""

    name: str
    sentence: str


MODELS = {
    UNTOUCHED: "The pretrained model, which tuning starts from: what was there before.",
    "continued": "As many steps of ordinary further training, with no safety in it: what any training changes.",
    RANDOM: "The model before any training, with random weights: what the architecture and the prompts alone give.",
    "shuffled": "Refusals trained on prompts chosen at random: tuning to refuse that carries no notion of safety.",
    "irrelevant": "Refusals trained by the first letter of the text, on as many prompts: what learning a rule changes "
    "where it has nothing to do with safety.",
    "refuse_all": "Refusals trained on all prompts, safe ones too: tuning to refuse with nothing to tell apart.",
    "pretraining_more": "As many steps on pretraining's own prompts: further training on what is known already.",
    "sham": "One letter again and again trained as the answer to safe prompts that an irrelevant rule chooses: "
    "learning a response that is always the same, with no refusal and nothing unsafe in it.",
}
RANDOM_PARTS = Control(
    "random parts",
    "Parts of the change of weights of equal rank and norm but random direction, removed or kept in place of the "
    "part in question; random axes in place of the cluster axis: what any change of that size would do.",
)
FURTHER = "further training"


def present(table: pd.DataFrame) -> list[Control]:
    """Those that a table has rows of."""
    methods, metrics = set(table["node"]), set(table["metric"])
    found = [Control(name, sentence) for name, sentence in MODELS.items() if name in methods]
    made_by = {row.null.chance for row in METRICS.values() if metrics & row.null.metrics.keys()}
    found += [Control(name, sentence) for name, sentence in CHANCES.items() if name in made_by]
    if set(table["intervention"].dropna()) & set(counterparts().values()):
        found.append(RANDOM_PARTS)
    if len(table):
        found.append(
            Control(
                "held-out prompts",
                "Every prompt measured is one that a hash keeps out of training of any kind and of whatever is fitted: "
                "nothing is remembered, and no probe or axis has seen what it is judged by.",
            )
        )
    return found


def counterparts() -> dict[str, str]:
    """Of each intervention that has one, its random counterpart."""
    return {name: control for kind in EDITS.values() for name, control in kind.controls.items()}


def is_control(metrics: "pd.Series[str]") -> "pd.Series[bool]":
    """Which metrics are themselves controls, shown beside what they control rather than on lines of their own."""
    return metrics.isin(list(nulls(METRICS)))


def beside(metrics: "pd.Series[str]") -> "dict[str, tuple[str, str]]":
    """For each metric its control's metric and name, where it has one of its own."""
    known = set(metrics)
    rows = {metric: METRICS[metric].null for metric in known & METRICS.keys()}
    return {metric: (null.mean, null.chance) for metric, null in rows.items() if null.mean in known}
