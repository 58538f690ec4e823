"""How far prompts reach along dW's right singular vectors (cf. Fig. 5 of the paper)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import SAFE, UNSAFE, note, nothing
from experiments.results import sample_note, select, tuned

FAMILIES = {"safe": (SAFE, "-"), "unsafe": (UNSAFE, "--")}


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """|sigma_i v_i . a| in the last layer, a line a seed and a thick one for their mean."""
    rows = select(table, metric=["projection_abs", "projection_abs_random"], module="W_in", family=list(FAMILIES))
    if rows.empty:
        return nothing("no model has a change of weights"), rows
    rows = select(rows, layer=rows["layer"].max())
    measured = select(rows, metric="projection_abs")
    null = select(rows, metric="projection_abs_random")
    names = tuned(rows)
    figure, axes = plt.subplots(1, len(names), figsize=(1.7 * len(names), 1.8), squeeze=False, layout="constrained")
    for axis, model in zip(axes[0], names, strict=True):
        for family, (colour, style) in FAMILIES.items():
            wide = select(measured, method=model, family=family).pivot(index="index", columns="seed", values="value")
            index = wide.index.astype(int)
            axis.plot(index, wide.to_numpy(), color=colour, linewidth=0.6, alpha=0.6)
            axis.plot(index, wide.mean(axis=1), style, color=colour, label=family)
        chance = select(null, method=model).groupby("index")["value"].mean()
        axis.plot(chance.index.astype(int), chance, ":", color="0.3", linewidth=1, label="random directions")
        axis.set_title(model)
        axis.set_xlabel(r"singular vector $i$")
        axis.set_xticks([1, 5, 10, 15] if index.max() >= 15 else index)
        axis.set_ylim(0, None)
    axes[0, 0].set_ylabel(r"mean $|\sigma_i v_i^\top a|$")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    text = f"layer {int(rows['layer'].max())}; {sample_note(measured, 'prompts')}"
    note(figure, text)
    return figure, rows
