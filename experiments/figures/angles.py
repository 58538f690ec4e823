"""Angles between what activations span before and after tuning (cf. Figs. A.16 and A.43-44 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    FAMILIES,
    having,
    legend,
    looks,
    mean_only,
    note,
    panels,
    seeds_and_mean,
    whole_layers,
)
from experiments.findings.results import sample_note, select, tuned, unchanged
from synth.families import JAILBREAKS

METRIC = "activation_angle_mean"
NULL = METRICS[METRIC].null


def rows(table: pd.DataFrame, jailbreaks: bool) -> pd.DataFrame:
    """Mean sines of safe and unsafe prompts, and of jailbreaks or not."""
    of = [*FAMILIES, *(JAILBREAKS if jailbreaks else ())]
    found = select(unchanged(table), metric=[METRIC, NULL.mean], family=of).dropna(subset="value")
    found = having(found, METRIC)
    return found.head(0) if jailbreaks and set(found["family"]) <= set(FAMILIES) else found


def draw(rows: pd.DataFrame) -> Figure:
    """Lines are means over seeds, thin ones seeds; dotted: the untuned model against itself on other prompts."""
    names, lines = tuned(rows), looks(dict.fromkeys(rows["family"]))
    figure, axes = panels(names, [METRICS[METRIC].label], "layer", height=1.4)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, node=model)
        for family, look in lines.items():
            seeds_and_mean(axis, select(here, metric=METRIC, family=family), "layer", look, family)
        mean_only(axis, select(here, metric=NULL.mean), "layer", NULL.chance)
        whole_layers(axis, here)
    axes[0, 0].set_ylim(0, None)
    legend(figure, axes)
    note(figure, f"{rows['module'].iloc[0]}; {sample_note(rows, 'directions')}")
    return figure
