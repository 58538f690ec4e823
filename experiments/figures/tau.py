"""Mean tau against layer, safe against unsafe prompts, for every model (cf. Fig. 3 of the paper)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, note
from experiments.results import models, sample_note, select

FAMILIES = {"safe": SAFE, "unsafe": UNSAFE}


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Thin lines are seeds, thick ones their mean; the band is where permuted labels end up."""
    tau = select(table, metric="tau", family=list(FAMILIES), module="mlp.post")
    null = select(table, metric="separation_permuted_high", module="mlp.post")
    names = models(tau)
    figure, axes = plt.subplots(1, len(names), figsize=(1.4 * len(names), 2.0), squeeze=False, layout="constrained")
    for axis, model in zip(axes[0], names, strict=True):
        for family, colour in FAMILIES.items():
            wide = select(tau, method=model, family=family).pivot(index="layer", columns="seed", values="value")
            layers = wide.index.astype(int)
            axis.plot(layers, wide.to_numpy(), color=colour, linewidth=0.6, alpha=0.6)
            style = "-" if family == "safe" else "--"
            axis.plot(layers, wide.mean(axis=1), style, color=colour, marker="o", markersize=2.5, label=family)
        high = select(null, method=model).groupby("layer")["value"].mean() / 2
        axis.fill_between(high.index.astype(int), -high, high, color=NEUTRAL, alpha=0.5, lw=0, label="permuted labels")
        axis.set_title(model)
        axis.set_xticks(layers)
        axis.set_xlabel("layer")
    axes[0, 0].set_ylabel(r"mean $\tau$")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    text = f"{sample_note(tau, 'prompts')}; the scale differs between panels"
    note(figure, text)
    return figure, pd.concat([tau, null])
