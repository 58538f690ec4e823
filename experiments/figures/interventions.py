"""What parts and multiples of dW do, and patches along the cluster axis (cf. Figs. A.72-75 of the paper)."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, note, nothing
from experiments.results import sample_note, select, tuned
from synth.families import JAILBREAKS

COLOURS = ("#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
PARTS = {
    "all": ("only W_in", None),
    "in columns": ("only columns", "random columns scaled"),
    "outside": ("without columns", "without random columns scaled"),
    "no top 1": ("without top 1", "without random 1"),
    "no top 2": ("without top 2", "without random 2"),
    "no top 4": ("without top 4", "without random 4"),
}
"""What is kept of dW of W_in, and the control of it."""


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A column a method: behaviour against alpha, dW of the first MLP matrix in parts, patches against layer.

    Lines and marks are means over seeds, bands and bars their range.
    """
    rows = select(table, metric=["complied", "refused", "log_odds"]).dropna(subset=["variant", "value"])
    if rows.empty:
        return nothing("no model was intervened on"), rows
    names = tuned(rows)
    size = (1.5 * len(names) + 1.8, 5.2)
    figure, axes = plt.subplots(3, len(names), figsize=size, sharey="row", squeeze=False, layout="constrained")
    for column, model in zip(axes.T, names, strict=True):
        here = select(rows, method=model)
        column[0].set_title(model)
        _against_alpha(column[0], here)
        _parts(column[1], select(here, metric="log_odds", family="unsafe"))
        _patches(column[2], select(here, metric="refused", family="unsafe"))
    axes[0, 0].set_ylabel("share of prompts")
    axes[1, 0].set_ylabel("change of log odds\nof compliance, unsafe")
    axes[2, 0].set_ylabel("unsafe prompts refused")
    for axis in (*axes[0], *axes[2]):
        axis.set_ylim(-0.03, 1.03)
    for row in axes:
        handles = dict(zip(*reversed(row[0].get_legend_handles_labels()), strict=True))
        row[-1].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1.02, 0.5))
    note(figure, sample_note(rows, "prompts"))
    return figure, rows


def _line(axis: Axes, rows: pd.DataFrame, by: str, colour: str, style: str, label: str) -> None:
    seeds = rows.groupby(by)["value"]
    mean = seeds.mean()
    x = mean.index.to_numpy(float)
    axis.fill_between(x, seeds.min(), seeds.max(), color=colour, alpha=0.2, lw=0)
    axis.plot(x, mean, style, color=colour, marker="o", markersize=2, label=label)


def _against_alpha(axis: Axes, rows: pd.DataFrame) -> None:
    of_alpha = rows[rows["variant"].str.startswith("alpha ")]
    of_alpha = of_alpha.assign(alpha=of_alpha["variant"].str.removeprefix("alpha ").astype(float))
    families = [name for name in JAILBREAKS if name in set(of_alpha["family"])]
    for family, colour in zip(families, COLOURS * len(families), strict=False):
        here = select(of_alpha, metric="complied", family=family)
        _line(axis, here, "alpha", colour, ":", f"{family}: complied")
    _line(axis, select(of_alpha, metric="complied", family="safe"), "alpha", SAFE, "-", "safe: complied")
    _line(axis, select(of_alpha, metric="refused", family="unsafe"), "alpha", UNSAFE, "--", "unsafe: refused")
    axis.set_xlabel(r"$\alpha$ of $W + \alpha \Delta W$")


def _parts(axis: Axes, rows: pd.DataFrame) -> None:
    """Against the untuned model of the same seed."""
    by_variant = rows[rows["module"] != "W_out"].pivot_table(index="seed", columns="variant", values="value")
    change = by_variant.sub(by_variant.reindex(columns=["alpha 0"])["alpha 0"], axis=0)
    axis.axhline(0, color="0.3", linewidth=0.8, linestyle=":")
    for i, (part, control) in enumerate(PARTS.values()):
        kept = (part, -0.12, UNSAFE, "o", r"what is kept of $\Delta W_{in}$")
        random = (control, 0.12, NEUTRAL, "s", "the same of random directions")
        for variant, shift, colour, marker, label in (kept, random):
            if variant in change:
                values = change[variant]
                axis.plot([i + shift] * 2, [values.min(), values.max()], color=colour, linewidth=1)
                axis.plot(i + shift, values.mean(), marker, color=colour, markersize=3, label=label)
    axis.set_xticks(range(len(PARTS)), list(PARTS), rotation=40, ha="right", rotation_mode="anchor")


def _patches(axis: Axes, rows: pd.DataFrame) -> None:
    for goal, style in (("tuned", "-"), ("untuned", "--")):
        for kind, colour, label in (("", UNSAFE, "cluster axis"), ("random ", NEUTRAL, "random axis")):
            here = select(rows, variant=f"patch {kind}to {goal}")
            _line(axis, here, "layer", colour, style, f"{label} to {goal}")
    axis.set_xlabel("layer patched")
    axis.set_xticks(sorted(select(rows, variant="patch to tuned")["layer"].unique().astype(int)))
