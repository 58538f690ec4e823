"""What becomes of responses that were begun for the model (cf. arXiv 2406.05946)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import Look, having, legend, mean_and_range, note, panels
from experiments.findings.results import models, sample_note, select, unchanged
from synth.families import JAILBREAKS

PANELS: dict[str, tuple[list[str], tuple[str, str]]] = {
    "unsafe": (["unsafe"], ("prefill_complied", "prefill_stopped")),
    "jailbreaks": (list(JAILBREAKS), ("prefill_complied", "prefill_stopped")),
    "random letters": (["unsafe"], ("prefill_random_complied", "prefill_random_stopped")),
    "refusal begun": (["unsafe"], ("prefill_null_complied", "prefill_null_refused")),
}
"""By title, the families of a column and the metrics of its panels"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Compliance with the rest and refusal of it, by how many tokens are given."""
    metrics = [metric for _, shown in PANELS.values() for metric in shown]
    found = select(unchanged(table), metric=metrics, family=["unsafe", *JAILBREAKS]).dropna(subset="value")
    return having(found, "prefill_complied")


def draw(rows: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """A line for each model: its mean; bands are the range over seeds. What is given are right letters of the answer;
    random ones, and tokens of a refusal, to unsafe prompts. Jailbreaks are a mean over their families."""
    figure, axes = panels(list(PANELS), ["goes on\nto comply", "refuses\nwhat is left"], "tokens given", height=1.5)
    for column, (families, metrics) in enumerate(PANELS.values()):
        for axis, metric in zip(axes[:, column], metrics, strict=True):
            shown = select(rows, metric=metric, family=families)
            for model in models(shown):
                by_seed = select(shown, node=model).groupby(["seed", "index"])["value"].mean().reset_index()
                mean_and_range(axis, by_seed, "index", looks[model], model)
            axis.set_ylim(-0.03, 1.03)
    legend(figure, axes)
    note(figure, f"share of prompts; bands: range over {sample_note(rows, 'prompts')}")
    return figure
