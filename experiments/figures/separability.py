"""Safe and unsafe prompts told apart, and the shape of their clusters, against layer (cf. Figs. A.19-22, A.31-32)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    BLUE,
    FAMILIES,
    NEUTRAL,
    PINK,
    Look,
    legend,
    note,
    panels,
    seeds_and_mean,
    whole_layers,
)
from experiments.findings.results import models, sample_note, select, unchanged

ACCURACIES = {
    "kmeans_accuracy": (Look(BLUE, "-", "o"), "k-means"),
    "probe_accuracy": (Look(PINK, "--", "s"), "held-out linear probe"),
}
SHARE = "spectral_share"
MEASURED = [*ACCURACIES, SHARE]


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracies and spectral shares, and those of permuted labels, of every site."""
    nulls = [METRICS[metric].null for metric in MEASURED]
    ends = [end for null in nulls for end in (null.low, null.high)]
    found = select(unchanged(table), metric=[*MEASURED, *ends])
    measured = select(found, metric=MEASURED).dropna(subset="value")
    return found.dropna(subset="value") if len(measured) else found.head(0)


def draw(rows: pd.DataFrame) -> Figure:
    """Two rows of panels for each site, a column for each model; thin lines are seeds, thick ones their mean."""
    names, sites = models(rows), list(dict.fromkeys(rows["module"]))
    labels = [f"{site}\n{what}" for site in sites for what in ("accuracy", METRICS[SHARE].label)]
    figure, axes = panels(names, labels, "layer", height=1.1, least=0.8)
    for i, site in enumerate(sites):
        for column, model in enumerate(names):
            here = select(rows, module=site, node=model)
            for metric, (look, label) in ACCURACIES.items():
                _against_layer(axes[2 * i, column], here, metric, look, label)
            for family, look in FAMILIES.items():
                _against_layer(axes[2 * i + 1, column], select(here, family=family), SHARE, look, family)
            whole_layers(axes[2 * i, column], here)
        axes[2 * i, 0].set_ylim(0.4, 1.03)
        axes[2 * i + 1, 0].set_ylim(0, 1)
    legend(figure, axes)
    note(figure, sample_note(select(rows, metric=MEASURED), "prompts"))
    return figure


def _against_layer(axis: Axes, rows: pd.DataFrame, metric: str, look: Look, label: str) -> None:
    null = METRICS[metric].null
    low, high = (select(rows, metric=end).groupby("layer")["value"].mean() for end in (null.low, null.high))
    at = low.index.to_numpy(float)
    axis.fill_between(at, low, high, color=NEUTRAL, alpha=0.4, lw=0, label=f"95 % of {null.chance}")
    seeds_and_mean(axis, select(rows, metric=metric), "layer", look, label)
