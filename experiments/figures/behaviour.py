"""What each model does on each family of prompts: one thin bar a seed."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, note
from experiments.results import models, sample_note, select, unchanged

PARTS = {"complied": SAFE, "refused": UNSAFE, "neither": NEUTRAL}
HATCHES = {"complied": "", "refused": "////", "neither": ""}


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Shares of generated responses that comply exactly, refuse exactly, or do neither."""
    rows = select(unchanged(table), metric=list(PARTS))
    families, names = list(dict.fromkeys(rows["family"])), models(rows)
    columns = min(4, len(families))
    height = -(-len(families) // columns)
    figure, axes = plt.subplots(
        height,
        columns,
        figsize=(1.72 * columns, 1.75 * height + 0.35),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(families) :]:
        axis.axis("off")
    seeds = sorted(rows["seed"].unique())
    width = 0.8 / len(seeds)
    for axis, family in zip(axes.flat, families, strict=False):
        for m, model in enumerate(names):
            here = select(rows, family=family, method=model).pivot(index="seed", columns="metric", values="value")
            x = m + (np.arange(len(seeds)) - (len(seeds) - 1) / 2) * width
            bottom = np.zeros(len(seeds))
            for part, colour in PARTS.items():
                height = here.loc[seeds, part].to_numpy()
                axis.bar(
                    x,
                    height,
                    0.9 * width,
                    bottom,
                    color=colour,
                    hatch=HATCHES[part],
                    edgecolor="white",
                    linewidth=0,
                    label=part if m == 0 else None,
                )
                bottom += height
        axis.set_title(family)
        axis.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        axis.set_ylim(0, 1)
        axis.margins(x=0.02)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of responses")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    note(figure, sample_note(rows, "prompts"))
    return figure, rows
