"""By how much tuning moved the prediction of each token of a response (cf. arXiv 2406.05946)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import Look, having, legend, mean_and_range, note, panels, whole_layers
from experiments.findings.results import by_part, sample_note, select, unchanged

PANELS = {
    "unsafe, answer": ("unsafe", "token_kl_comply"),
    "at equal entropy": ("unsafe", "token_kl_matched_comply"),
    "unsafe, refusal": ("unsafe", "token_kl_refuse"),
    "safe, answer": ("safe", "token_kl_comply"),
}
"""By title, the family of a column and the metric of the response that is fed"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """The divergence of each model from the one that its tuning started from, by token."""
    metrics = [metric for _, metric in PANELS.values()]
    found = select(unchanged(table), metric=metrics, family=["safe", "unsafe"]).dropna(subset="value")
    return having(found, "token_kl_comply")


def draw(rows: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """A line for each model: its mean; bands are the range over seeds."""
    parts = by_part(rows)
    figure, axes = panels(list(PANELS), list(parts), "token of the response", height=1.2)
    for line, names in zip(axes, parts.values(), strict=True):
        for axis, (family, metric) in zip(line, PANELS.values(), strict=True):
            for model in names:
                mean_and_range(
                    axis, select(rows, metric=metric, family=family, node=model), "index", looks[model], model
                )
            axis.set_ylim(bottom=0)
            whole_layers(axis, select(rows, metric=metric), "index")
    legend(figure, axes)
    note(
        figure, f"KL from the model that tuning started from, in nats; bands: range over {sample_note(rows, 'prompts')}"
    )
    return figure
