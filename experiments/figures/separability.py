"""Safe and unsafe prompts told apart, and the shape of their clusters, against layer (cf. Figs. A.19-22, A.31-32)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, note, nothing
from experiments.results import models, sample_note, select

ACCURACIES = {
    "kmeans_accuracy": ("#0072B2", "-", "k-means"),
    "probe_accuracy": ("#CC79A7", "--", "held-out linear probe"),
}
SHARES = {"safe": (SAFE, "-"), "unsafe": (UNSAFE, "--")}
METRICS = (*ACCURACIES, "spectral_share")
BAND = ("_permuted_low", "_permuted_high")


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Two rows of panels a site, a column a model; thin lines are seeds, thick ones their mean."""
    rows = select(table, metric=[metric + part for metric in METRICS for part in ("", *BAND)])
    measured = select(rows, metric=list(METRICS)).dropna(subset="value")
    if measured.empty:
        return nothing("separability was not measured"), rows
    names, sites = models(rows), list(dict.fromkeys(rows["module"]))
    figure, axes = plt.subplots(
        2 * len(sites),
        len(names),
        figsize=(1.4 * len(names) + 0.3, 2.5 * len(sites) + 0.4),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for i, site in enumerate(sites):
        for column, model in enumerate(names):
            here = select(rows, module=site, method=model)
            accuracy, share = axes[2 * i, column], axes[2 * i + 1, column]
            for metric, (colour, style, label) in ACCURACIES.items():
                _against_layer(accuracy, here, metric, colour, style, label)
            for family, (colour, style) in SHARES.items():
                _against_layer(share, select(here, family=family), "spectral_share", colour, style, family)
        axes[2 * i, 0].set_ylabel(f"{site}\naccuracy")
        axes[2 * i + 1, 0].set_ylabel(f"{site}\nspectral share")
        axes[2 * i, 0].set_ylim(0.4, 1.03)
        axes[2 * i + 1, 0].set_ylim(0, 1)
    for axis, model in zip(axes[0], names, strict=True):
        axis.set_title(model)
    for axis in axes[-1]:
        axis.set_xlabel("layer")
        axis.set_xticks(sorted(rows["layer"].unique().astype(int)))
    known = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    known |= dict(zip(*reversed(axes[1, 0].get_legend_handles_labels()), strict=True))
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=len(known), handlelength=2.8)
    note(figure, sample_note(measured, "prompts"))
    return figure, rows


def _against_layer(axis: Axes, rows: pd.DataFrame, metric: str, colour: str, style: str, label: str) -> None:
    wide = select(rows, metric=metric).pivot(index="layer", columns="seed", values="value")
    layers = wide.index.astype(int)
    low, high = (select(rows, metric=metric + part).groupby("layer")["value"].mean() for part in BAND)
    axis.fill_between(layers, low, high, color=NEUTRAL, alpha=0.4, lw=0, label="95 % of permuted labels")
    axis.plot(layers, wide.to_numpy(), style, color=colour, linewidth=0.6, alpha=0.6)
    axis.plot(layers, wide.mean(axis=1), style, color=colour, marker="o", markersize=2.5, label=label)
