"""The numbers to look at first: what `experiments/findings/summary.py` prints, by cell."""

from typing import NamedTuple

import pandas as pd

from experiments.findings import outcomes, summary
from experiments.findings.results import prompt_note, select, unchanged, untaught
from experiments.report.folder import Study
from experiments.report.scorecard import MINUS
from experiments.settings.names import RANDOM, UNTOUCHED


class Number(NamedTuple):
    """A mean over seeds and its range, written."""

    mean: str
    span: str
    share: float | None
    """The mean, where it is a share of prompts: 0 to 1"""


class Table(NamedTuple):
    """One table of key numbers, with one column for each model."""

    title: str
    rows: list[tuple[str, str, list[Number | None]]]
    """Name, what it means, and a number for each model"""


class KeyNumbers(NamedTuple):
    """All of them, and what they are a mean over."""

    over: str
    models: list[tuple[str, str]]
    """Name, and "control" where it is one"""
    tables: list[Table]


def tables(study: Study) -> KeyNumbers:
    """One table of all statistics; in an ablation one for each statistic, with one row for each cell."""
    complied = select(unchanged(study.table), metric="complied")
    if complied.empty:
        return KeyNumbers("", [], [])
    by_cell = {str(cell): summary.cells(rows) for cell, rows in study.table.groupby("cell", sort=False)}
    long = pd.concat([rows.assign(cell=cell) for cell, rows in by_cell.items()], ignore_index=True)
    known = outcomes.outcomes(study.table)
    statistics = {name: known[outcome] for outcome, name in long[["outcome", "statistic"]].drop_duplicates().to_numpy()}
    groups = {key: rows["value"] for key, rows in long.groupby(["statistic", "cell", "node"], sort=False)}

    def row(statistic: str, cell: str) -> list[Number | None]:
        share = statistics[statistic].share
        return [_number(groups.get((statistic, cell, model)), share) for model in study.nodes]

    if study.ablation:
        found = [
            Table(f"{name}: {one.printed}", [(cell or "the study", "", row(name, cell)) for cell in by_cell])
            for name, one in statistics.items()
        ]
    else:
        found = [Table("", [(name, one.printed, row(name, next(iter(by_cell)))) for name, one in statistics.items()])]
    controls = {UNTOUCHED, RANDOM, *untaught(study.table)}
    models = [(model, "control" if model in controls else "") for model in study.nodes]
    return KeyNumbers(prompt_note(study.table), models, found)


def _number(values: "pd.Series[float] | None", share: bool) -> Number | None:
    if values is None or values.isna().all():
        return None
    mean, low, high = (f"{value:.2f}".replace("-", MINUS) for value in (values.mean(), values.min(), values.max()))
    return Number(mean, f"{low} to {high}", float(values.mean()) if share else None)
