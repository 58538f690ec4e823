"""What each model does on each family of prompts: one thin bar a seed."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, legend, note, page_width, panels, turn
from experiments.findings.results import models, sample_note, select, unchanged

PARTS = {"complied": (SAFE, ""), "refused": (UNSAFE, "////"), "neither": (NEUTRAL, "....")}
"""Colour and hatch of each"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Shares of generated responses."""
    return select(unchanged(table), metric=list(PARTS))


def draw(rows: pd.DataFrame) -> Figure:
    """Shares of generated responses that comply exactly, refuse exactly, or do neither."""
    families, names = list(dict.fromkeys(rows["family"])), models(rows)
    wide = 0.2 * len(names) + 0.2
    if 2 * wide > page_width():
        # One below the other, so that the names of many models stand once.
        figure, axes = panels(["share of responses"], families, "", height=0.8)
        shown = axes[:, 0]
    else:
        figure, axes = panels(families, ["share of responses"], "", least=wide, height=1.6)
        shown = axes[0]
    seeds = sorted(rows["seed"].unique())
    width = 0.8 / len(seeds)
    for axis, family in zip(shown, families, strict=True):
        for m, model in enumerate(names):
            here = select(rows, family=family, node=model).pivot(index="seed", columns="metric", values="value")
            x = m + (np.arange(len(seeds)) - (len(seeds) - 1) / 2) * width
            bottom = np.zeros(len(seeds))
            for part, (colour, hatch) in PARTS.items():
                height = here.reindex(seeds)[part].to_numpy()
                axis.bar(
                    x,
                    height,
                    0.9 * width,
                    bottom,
                    color=colour,
                    hatch=hatch,
                    edgecolor="white",
                    linewidth=0,
                    label=part,
                )
                bottom += height
        axis.set_xticks(range(len(names)), names)
        turn(axis)
        axis.set_ylim(0, 1)
        axis.margins(x=0.02)
    legend(figure, shown[:1])
    note(figure, sample_note(rows, "prompts"))
    return figure
