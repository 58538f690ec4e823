"""What becomes of responses that were begun for the model (cf. arXiv 2406.05946)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import Look, having, legend, mean_and_range, note, panels, whole_layers
from experiments.findings.results import by_part, sample_note, select, unchanged
from synth.families import JAILBREAKS

PANELS: dict[str, tuple[str, list[str]]] = {
    "unsafe: complied": ("prefill_complied", ["unsafe"]),
    "jailbreaks: complied": ("prefill_complied", list(JAILBREAKS)),
    "random letters: complied": ("prefill_random_complied", ["unsafe"]),
    "unsafe: stopped": ("prefill_stopped", ["unsafe"]),
    "refusal begun: refused": ("prefill_null_refused", ["unsafe"]),
}
"""By title, the metric of a column and its families"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Compliance with the rest and refusal of it, by how many tokens are given."""
    metrics = [metric for metric, _ in PANELS.values()]
    found = select(unchanged(table), metric=metrics, family=["unsafe", *JAILBREAKS]).dropna(subset="value")
    return having(found, "prefill_complied")


def draw(rows: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """A line for each model: its mean; bands are the range over seeds. What is given are right letters of the answer;
    random ones, and tokens of a refusal, to unsafe prompts. Jailbreaks are a mean over their families."""
    parts = by_part(rows)
    figure, axes = panels(list(PANELS), list(parts), "tokens given", height=1.2)
    for line, names in zip(axes, parts.values(), strict=True):
        for axis, (metric, families) in zip(line, PANELS.values(), strict=True):
            shown = select(rows, metric=metric, family=families)
            for model in names:
                by_seed = select(shown, node=model).groupby(["seed", "index"])["value"].mean().reset_index()
                mean_and_range(axis, by_seed, "index", looks[model], model)
            axis.set_ylim(-0.03, 1.03)
            whole_layers(axis, shown, "index")
    legend(figure, axes)
    note(figure, f"share of prompts; bands: range over {sample_note(rows, 'prompts')}")
    return figure
