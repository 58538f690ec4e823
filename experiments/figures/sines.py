"""Angle of dW's left singular vectors to W's column space, against chance (cf. Fig. 4 of the paper)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, UNSAFE, note, nothing
from experiments.results import seed_note, select, tuned

NULL = ["sine_random_sorted_low", "sine_random_sorted", "sine_random_sorted_high"]


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Sorted sines for every layer and model, a line a seed; the band holds 95 % of random frames."""
    rows = select(table, metric=["sine_sorted", *NULL], module="W_in")
    if rows.empty:
        return nothing("no model has a change of weights"), rows
    names, layers = tuned(rows), sorted(rows["layer"].unique())
    size = (1.6 * len(names), 1.25 * len(layers))
    figure, axes = plt.subplots(len(layers), len(names), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for i, layer in enumerate(layers):
        for axis, model in zip(axes[i], names, strict=True):
            here = select(rows, layer=layer, method=model)
            for seed in sorted(here["seed"].unique()):
                wide = select(here, seed=seed).pivot(index="index", columns="metric", values="value")
                index = wide.index.astype(int)
                axis.fill_between(index, wide[NULL[0]], wide[NULL[2]], color=NEUTRAL, alpha=0.35, lw=0)
                axis.plot(index, wide[NULL[1]], ":", color="0.3", linewidth=0.8)
                axis.plot(index, wide["sine_sorted"], color=UNSAFE, linewidth=0.9)
            if i == 0:
                axis.set_title(model)
            if i == len(layers) - 1:
                axis.set_xlabel("index, sorted")
        axes[i, 0].set_ylabel(f"layer {layer}\n" + r"sin $\theta_i$")
    axes[0, 0].set_ylim(None, 1.0)
    draws = int(select(rows, metric=NULL[1])["n"].max())
    axes[0, 0].plot([], [], color=UNSAFE, linewidth=0.9, label=r"left singular vectors of $\Delta W$ (a line a seed)")
    axes[0, 0].plot([], [], ":", color="0.3", linewidth=0.8, label="random frames: mean")
    axes[0, 0].fill_between([], [], [], color=NEUTRAL, alpha=0.35, lw=0, label=f"95 % of {draws} draws")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    note(figure, seed_note(rows))
    return figure, rows
