"""What soft tokens do to each model, by their number (cf. Figs. 7 and A.66-71 of the paper)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, note, nothing
from experiments.results import models, sample_note, select

LABELS = {
    "complied": "share complied",
    "tau": r"mean $\tau$",
    "lipschitz": "Lipschitzness",
    "projection_total": r"$\|\Delta W a\|$",
}
LINES = {
    "adv": ("attack", UNSAFE, "-"),
    "adv_random": ("random soft tokens", "0.3", ":"),
    "adv_untouched": ("attack, before tuning", NEUTRAL, "--"),
}
UNATTACKED = {"tau": "mlp.post_last", "lipschitz": None, "projection_total": "W_in"}
"""Metrics that safe prompts have as well, and the module they have them for."""


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Thin lines are seeds, thick ones their mean; green is where safe prompts are. Activations of the last layer."""
    metrics = [f"{line}_{quantity}" for line in LINES for quantity in LABELS]
    found = select(table, metric=metrics)
    rows = found.dropna(subset="value")
    if rows.empty:
        reasons = ["no model was attacked by soft tokens", *found["missing"].dropna()]
        return nothing(reasons[-1]), table.head(0)
    rows = select(rows, family=rows["family"].iloc[0])
    last = rows["layer"].max()
    rows = rows[rows["layer"].isna() | (rows["layer"] == last)]
    safe = select(table, metric=list(UNATTACKED), family="safe")
    safe = safe[safe["module"].isna() | safe["module"].isin(UNATTACKED.values())]
    safe = safe[safe["layer"].isna() | (safe["layer"] == last)].dropna(subset="value")
    names = models(rows)
    figure, axes = plt.subplots(
        len(LABELS), len(names), figsize=(1.5 * len(names) + 0.3, 5.2), sharex=True, squeeze=False, layout="constrained"
    )
    for line, (quantity, label) in zip(axes, LABELS.items(), strict=True):
        for axis, model in zip(line, names, strict=True):
            _panel(axis, select(rows, method=model), select(safe, method=model), quantity)
        line[0].set_ylabel(label)
    for axis, model in zip(axes[0], names, strict=True):
        axis.set_title(model)
        axis.set_ylim(-0.03, 1.03)
    for axis in axes[-1]:
        axis.set_xlabel("soft tokens")
    legends = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes[:, 0])
    lines = {label: handle for legend in legends for handle, label in legend}
    figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=4)
    attacked = select(rows, metric="adv_complied")
    text = f"{attacked['family'].iloc[0]} prompts attacked, layer {int(last)}; {sample_note(attacked, 'prompts')}"
    note(figure, f"{text}; all but the first row have their own scales")
    return figure, pd.concat([rows, safe])


def _panel(axis: Axes, rows: pd.DataFrame, safe: pd.DataFrame, quantity: str) -> None:
    for line, (label, colour, style) in LINES.items():
        wide = select(rows, metric=f"{line}_{quantity}").pivot(index="index", columns="seed", values="value")
        if wide.empty:
            continue
        strengths = wide.index.astype(int)
        axis.plot(strengths, wide.to_numpy(), style, color=colour, linewidth=0.6, alpha=0.6)
        axis.plot(strengths, wide.mean(axis=1), style, color=colour, marker="o", markersize=2, label=label)
        axis.set_xticks(strengths)
    level = select(safe, metric=quantity)["value"]
    if len(level):
        axis.axhline(level.mean(), color=SAFE, linewidth=0.9, label="safe prompts")
    if not axis.has_data():
        axis.text(0.5, 0.5, "no change\nof weights", transform=axis.transAxes, ha="center", va="center", fontsize=6.5)
        axis.set_yticks([])
