"""By how much tuning moved the prediction of each token of a response (cf. arXiv 2406.05946)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import Look, having, legend, mean_and_range, note, panels
from experiments.findings.results import models, sample_note, select, unchanged

PANELS = {
    "unsafe, answer": ("unsafe", "comply"),
    "unsafe, refusal": ("unsafe", "refuse"),
    "safe, answer": ("safe", "comply"),
}
"""By title, the family of a column and the response that is fed"""
LINES = {"token_kl": "KL from\nits start (nats)", "token_kl_matched": "the same at\nequal entropy"}


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """The divergence of each model from the one that its tuning started from, by token."""
    metrics = [f"{metric}_{response}" for metric in LINES for response in ("comply", "refuse")]
    found = select(unchanged(table), metric=metrics, family=["safe", "unsafe"]).dropna(subset="value")
    return having(found, "token_kl_comply")


def draw(rows: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """A line for each model: its mean; bands are the range over seeds."""
    figure, axes = panels(list(PANELS), list(LINES.values()), "token of the response", height=1.5)
    for column, (family, response) in enumerate(PANELS.values()):
        for axis, metric in zip(axes[:, column], LINES, strict=True):
            shown = select(rows, metric=f"{metric}_{response}", family=family)
            for model in models(shown):
                mean_and_range(axis, select(shown, node=model), "index", looks[model], model)
            axis.set_ylim(bottom=0)
    legend(figure, axes)
    note(figure, f"bands: range over {sample_note(rows, 'prompts')}")
    return figure
