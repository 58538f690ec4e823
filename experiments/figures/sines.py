"""Angle of dW's left singular vectors to W's column space, against chance (cf. Fig. 4 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import DARK, NEUTRAL, UNSAFE, having, legend, note, panels
from experiments.findings.results import seed_note, select, tuned, unchanged

METRIC = "sine_sorted"
NULL = METRICS[METRIC].null


def rows(table: pd.DataFrame, module: str) -> pd.DataFrame:
    """Sorted sines of a matrix, and those of random frames."""
    return having(select(unchanged(table), metric=[METRIC, *NULL.metrics], module=module), METRIC)


def draw(rows: pd.DataFrame) -> Figure:
    """Sorted sines for every layer and model, a line for each seed; the band holds 95 % of random frames."""
    names, layers = tuned(rows), sorted(rows["layer"].unique())
    labels = [f"layer {layer}\n{METRICS[METRIC].label}" for layer in layers]
    figure, axes = panels(names, labels, "index, sorted", height=1.05)
    draws = int(select(rows, metric=NULL.mean)["n"].max())
    for line, layer in zip(axes, layers, strict=True):
        for axis, model in zip(line, names, strict=True):
            here = select(rows, layer=layer, node=model)
            for seed in sorted(here["seed"].unique()):
                wide = select(here, seed=seed).pivot(index="index", columns="metric", values="value")
                index = wide.index.astype(int)
                band = f"95 % of {draws} draws"
                axis.fill_between(index, wide[NULL.low], wide[NULL.high], color=NEUTRAL, alpha=0.35, lw=0, label=band)
                axis.plot(index, wide[NULL.mean], ":", color=DARK, linewidth=0.8, label=f"{NULL.chance}: mean")
                own = "left singular vectors of ΔW (a line for each seed)"
                axis.plot(index, wide[METRIC], color=UNSAFE, linewidth=0.9, label=own)
    for axis in axes[:, 0]:
        axis.set_ylim(None, 1.0)
    legend(figure, axes)
    note(figure, f"{rows['module'].iloc[0]}; {seed_note(rows)}")
    return figure
