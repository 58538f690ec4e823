"""How strongly the answer reacts to the input, for each family of prompts and model (cf. Figs. 6 and A.64-65)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import FAMILIES, NEUTRAL, logarithmic, note, panels
from experiments.findings.results import models, sample_note, select, unchanged
from experiments.settings.names import RANDOM

KINDS = ("lipschitz_quantile", "lipschitz_ratio_quantile")


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Percentiles of local Lipschitzness, and of its ratio to that of the untouched model."""
    table = unchanged(table)
    return select(table[table["node"] != RANDOM], metric=list(KINDS)).dropna(subset="value")


def draw(rows: pd.DataFrame) -> Figure:
    """Bars between the quartiles, lines from the 5th to the 95th percentile, means over seeds.

    Points are the seeds' medians.
    """
    kinds = [metric for metric in KINDS if metric in set(rows["metric"])]
    labels = [METRICS[metric].label for metric in kinds]
    names, families = models(rows), list(dict.fromkeys(rows["family"]))
    height = 0.15 * len(families) + 0.1
    figure, axes = panels(names, [""] * len(kinds), labels, height=height, least=0.85, share_x=True)
    for line, metric in zip(axes, kinds, strict=True):
        for axis, model in zip(line, names, strict=True):
            _bars(axis, select(rows, metric=metric, node=model), families)
            logarithmic(axis)
            if (level := METRICS[metric].level) is not None:
                axis.axvline(level, color="0.3", linewidth=0.6, linestyle=":")
    note(
        figure,
        f"f: the largest logit; medians, quartiles, 5th and 95th percentile; {sample_note(rows, 'prompts')}",
    )
    return figure


def _bars(axis: Axes, rows: pd.DataFrame, families: list[str]) -> None:
    """A bar for each family, the first on top."""
    places = {family: len(families) - i for i, family in enumerate(families)}
    for family, place in places.items():
        wide = select(rows, family=family).pivot(index="seed", columns="index", values="value")
        if wide.empty:
            continue
        colour = FAMILIES[family].color if family in FAMILIES else NEUTRAL
        at = wide.mean()
        axis.hlines(place, at[5], at[95], color=colour, linewidth=0.8)
        axis.hlines(place, at[25], at[75], color=colour, linewidth=4, alpha=0.45)
        axis.plot(wide[50], [place] * len(wide), "o", color=colour, markersize=2.2)
    axis.set_yticks(list(places.values()), list(places))
    axis.set_ylim(0.3, len(places) + 0.7)
