"""Mean tau against layer by the concept group that a text is of (cf. Figs. A.29-30 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    NEUTRAL,
    having,
    legend,
    looks,
    note,
    panels,
    seeds_and_mean,
    whole_layers,
)
from experiments.findings.results import models, sample_note, select, unchanged

METRIC = "tau_group"
NULL = METRICS["separation"].null


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Tau of every family by group in the paper's window, and what permuted labels give."""
    found = select(unchanged(table), metric=[METRIC, NULL.high], module="mlp.post").dropna(subset="value")
    return having(found, METRIC)


def draw(rows: pd.DataFrame) -> Figure:
    """A line of panels for each group, from safe-dominant to unsafe-dominant; thin lines are seeds, thick ones their
    mean; the band is where permuted labels end up."""
    tau, null = select(rows, metric=METRIC), select(rows, metric=NULL.high)
    names, groups = models(tau), sorted(tau["index"].unique())
    labels = [f"group {int(group)}\n{METRICS[METRIC].label}" for group in groups]
    figure, axes = panels(names, labels, "layer", height=1.4, share_y=False)
    for line, group in zip(axes, groups, strict=True):
        for axis, model in zip(line, names, strict=True):
            here = select(tau, node=model, index=group)
            for family, look in looks(dict.fromkeys(tau["family"])).items():
                seeds_and_mean(axis, select(here, family=family), "layer", look, family)
            high = select(null, node=model).groupby("layer")["value"].mean() / 2
            at = high.index.astype(int)
            axis.fill_between(at, -high, high, color=NEUTRAL, alpha=0.5, lw=0, label=NULL.chance)
            whole_layers(axis, tau)
    legend(figure, axes)
    text = "group 1 is safe-dominant, the last unsafe-dominant; the scale differs between panels"
    note(figure, f"{sample_note(tau, 'prompts')}; {text}")
    return figure
