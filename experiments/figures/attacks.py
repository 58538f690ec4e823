"""What soft tokens do to each model, by their number (cf. Figs. 7 and A.66-71 of the paper)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import DARK, NEUTRAL, SAFE, UNSAFE, Look, having, legend, note, panels, seeds_and_mean
from experiments.findings.results import models, sample_note, select, unchanged

LABELS = {name: METRICS[f"adv_{name}"].label for name in ("complied", "tau", "lipschitz", "projection_total")}
LINES = {
    "adv": ("attack", Look(UNSAFE, "-", "o")),
    "adv_random": ("random soft tokens", Look(DARK, ":", "s")),
    "adv_untouched": ("attack, before tuning", Look(NEUTRAL, "--", "^")),
}
UNATTACKED = {"tau": "mlp.post_last", "lipschitz": None, "projection_total": "W_in"}
"""Metrics that safe prompts have as well, and the module they have them for."""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """What soft tokens do to one family of prompts, and what safe prompts are like, in the last layer."""
    table = unchanged(table)
    found = select(table, metric=[f"{line}_{quantity}" for line in LINES for quantity in LABELS]).dropna(subset="value")
    found = having(found, "adv_complied")
    if found.empty:
        return found
    found = _last(select(found, family=found["family"].iloc[0]), found["layer"].max())
    safe = select(table, metric=list(UNATTACKED), family="safe").dropna(subset="value")
    safe = safe[safe["module"].isna() | safe["module"].isin(UNATTACKED.values())]
    return pd.concat([found, _last(safe, found["layer"].max())])


def _last(rows: pd.DataFrame, layer: int) -> pd.DataFrame:
    return rows[rows["layer"].isna() | (rows["layer"] == layer)]


def draw(rows: pd.DataFrame) -> Figure:
    """Thin lines are seeds, thick ones their mean; green is where safe prompts are."""
    attacked = select(rows, metric="adv_complied")
    names = models(select(rows, metric=[f"{line}_complied" for line in LINES]))
    figure, axes = panels(names, list(LABELS.values()), "soft tokens", share_y=False)
    for line, quantity in zip(axes, LABELS, strict=True):
        for axis, model in zip(line, names, strict=True):
            _panel(axis, select(rows, node=model), quantity)
    for axis in axes[0]:
        axis.set_ylim(-0.03, 1.03)
    legend(figure, axes)
    text = f"{attacked['family'].iloc[0]} prompts attacked, layer {int(rows['layer'].max())}"
    note(figure, f"{text}; {sample_note(attacked, 'prompts')}; all but the first row have their own scales")
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, quantity: str) -> None:
    for line, (label, look) in LINES.items():
        here = select(rows, metric=f"{line}_{quantity}")
        seeds_and_mean(axis, here, "index", look, label)
        if len(here):
            axis.set_xticks(sorted(here["index"].unique().astype(int)))
    level = select(rows, metric=quantity, family="safe")["value"]
    if len(level):
        axis.axhline(level.mean(), color=SAFE, linewidth=0.9, linestyle="-.", label="safe prompts")
    if not axis.has_data():
        axis.text(0.5, 0.5, "no change\nof weights", transform=axis.transAxes, ha="center", va="center", fontsize=6.5)
        axis.set_yticks([])
