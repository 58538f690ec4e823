"""What models do whose weights are moved, or against whose tuning is sampled (cf. arXiv 2405.17374 and 2402.12343)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from analysis.edits.disaligned import DISALIGN, DISALIGN_RANDOM
from analysis.edits.landscape import BY_CHANGE, MOVE
from experiments.figures.common import Look, legend, mean_and_range, note, panels
from experiments.findings.results import changed, models, sample_note, select

COLUMNS = {
    MOVE: "moved at random",
    BY_CHANGE: "by tuning's change",
    DISALIGN: "disaligned",
    DISALIGN_RANDOM: "disaligned, random",
}
"""By intervention, the title of its panels"""
LINES = {
    "unsafe prompts\nrefused": ("unsafe", "refused"),
    "unsafe prompts\ncomplied with": ("unsafe", "complied"),
    "safe prompts\ncomplied with": ("safe", "complied"),
}
"""By label, the family and the metric of its panels"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Refusal of unsafe prompts and compliance with both kinds, by strength."""
    return changed(table, list(COLUMNS), metric=["complied", "refused"], family=["safe", "unsafe"])


def draw(rows: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """A line for each model: its mean; bands are the range over seeds. The last column has
    as large a random change in the place of tuning's."""
    columns = {kind: title for kind, title in COLUMNS.items() if kind in set(rows["intervention"])}
    figure, axes = panels(list(columns.values()), list(LINES), "strength", height=1.1)
    for line, (family, metric) in zip(axes, LINES.values(), strict=True):
        for axis, kind in zip(line, columns, strict=True):
            shown = select(rows, intervention=kind, family=family, metric=metric)
            for model in models(shown):
                mean_and_range(axis, select(shown, node=model), "strength", looks[model], model)
            axis.set_ylim(-0.03, 1.03)
    legend(figure, axes)
    zero = "0 is the model itself, of disaligned ones what it started from"
    note(figure, f"{zero}; bands: range over {sample_note(rows, 'prompts')}")
    return figure
