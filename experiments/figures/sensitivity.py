"""How strongly the answer reacts to the input, for each family of prompts and model (cf. Fig. 6 of the paper)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, note, nothing
from experiments.results import models, sample_note, select

COLOURS = {"safe": SAFE, "unsafe": UNSAFE}


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Bars between the quartiles, lines from the 5th to the 95th percentile, means over seeds.

    Points are the seeds' medians.
    """
    kinds = {"lipschitz_quantile": r"$\|\nabla_x \max_j h_j\|_2$", "lipschitz_ratio_quantile": "after / before tuning"}
    rows = select(table, metric=list(kinds)).dropna(subset="value")
    if rows.empty:
        return nothing("sensitivity was not measured"), table.head(0)
    names, families = models(rows), list(dict.fromkeys(rows["family"]))
    figure, axes = plt.subplots(
        2,
        len(names),
        figsize=(1.5 * len(names) + 0.5, 0.28 * len(families) + 1.4),
        sharex="row",
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for line, (metric, label) in zip(axes, kinds.items(), strict=True):
        for axis, model in zip(line, names, strict=True):
            here = select(rows, metric=metric, method=model)
            _bars(axis, here, families)
            axis.set_xscale("log")
            axis.set_xlabel(label)
            axis.set_title(model)
    for axis in axes[1]:
        axis.axvline(1, color="0.3", linewidth=0.6, linestyle=":")
    note(figure, sample_note(rows, "prompts"))
    return figure, rows


def _bars(axis: Axes, rows: pd.DataFrame, families: list[str]) -> None:
    """A bar for each family, the first on top; families are named on the left of the first panel only."""
    places = {family: len(families) - i for i, family in enumerate(families)}
    for family, place in places.items():
        wide = select(rows, family=family).pivot(index="seed", columns="index", values="value")
        if wide.empty:
            continue
        colour = COLOURS.get(family, NEUTRAL)
        at = wide.mean()
        axis.hlines(place, at[5], at[95], color=colour, linewidth=0.8)
        axis.hlines(place, at[25], at[75], color=colour, linewidth=5, alpha=0.45)
        axis.plot(wide[50], [place] * len(wide), "o", color=colour, markersize=2.5)
    axis.set_yticks(list(places.values()), list(places))
