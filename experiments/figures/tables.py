"""Behaviour as tables for a paper (cf. Tables A.1 and A.2): LaTeX and Markdown, percent of prompts."""

import pandas as pd

from experiments.findings.outcomes import interval
from experiments.findings.results import sample_note, select, unchanged
from experiments.settings.names import RANDOM

ALL = {
    "safe": ("complied", "Safe (Instruct)"),
    "unsafe": ("refused", "Unsafe (Null)"),
    "co_task": ("complied", "JB-CO-Task (Instruct)"),
    "co_text": ("complied", "JB-CO-Text (Instruct)"),
    "misgen_task": ("complied", "JB-MisGen (Instruct)"),
}
MISGEN = {
    "misgen_task": ("complied", "by task (Instruct)"),
    "misgen_text": ("complied", "by text (Instruct)"),
    "misgen_both": ("complied", "by both (Instruct)"),
}
Columns = dict[str, tuple[str, str]]
"""By family: the metric that counts as success, and the heading"""


def rows(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Shares of the prompts of each family; none unless two families at least are there."""
    table = unchanged(table[table["node"] != RANDOM])
    found = pd.concat([select(table, metric=metric, family=family) for family, (metric, _) in columns.items()])
    return found if found["family"].nunique() > 1 else found.head(0)


def latex(rows: pd.DataFrame, columns: Columns) -> str:
    """A table for the booktabs package."""
    heads, body = _entries(rows, columns, r"{mean:.1f} $\pm$ {spread:.1f}", "{mean:.1f}")
    lines = [
        f"% Percent of prompts: mean $\\pm$ standard deviation over {sample_note(rows, 'prompts')}.",
        r"\begin{tabular}{ll" + "r" * (len(heads) - 2) + "}",
        r"\toprule",
        *(" & ".join(map(_escaped, line)) + r" \\" for line in [heads]),
        r"\midrule",
        *(" & ".join([_escaped(line[0]), *line[1:]]) + r" \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def markdown(rows: pd.DataFrame, columns: Columns) -> str:
    """The same for GitHub and pandoc."""
    heads, body = _entries(rows, columns, "{mean:.1f} ± {spread:.1f}", "{mean:.1f}")
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)], *body]
    note = f"Percent of prompts: mean ± standard deviation over {sample_note(rows, 'prompts')}."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{note}\n"


def _entries(rows: pd.DataFrame, columns: Columns, form: str, alone: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and one line for each model and learning rate."""
    there = [family for family in columns if family in set(rows["family"])]
    heads = ["Model", "Learning rate", *(columns[family][1] for family in there)]
    lines = []
    for (model, rate), of_model in rows.groupby(["node", "learning_rate"], sort=False, observed=True):
        entries = []
        for family in there:
            percent = interval(100 * select(of_model, family=family)["value"])
            known = form if percent.n > 1 else alone
            spread = 0.0 if pd.isna(percent.spread) else percent.spread
            entries.append(known.format(mean=percent.mean, spread=spread) if percent.n else "-")
        lines.append([str(model), f"{rate:g}", *entries])
    return heads, lines


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("&", r"\&").replace("%", r"\%")
