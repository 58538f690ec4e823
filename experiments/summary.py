"""The summary a study prints: one row a model, mean and range over seeds."""

import pandas as pd
from rich.table import Table

from synth.prompts import JAILBREAKS


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Per seed and model, the numbers of the summary: columns method, seed, statistic, value."""
    last = table["layer"].max()
    column_space = table[table["metric"] == "sine_excess"]
    parts = {
        "safe complied": _select(table, metric="complied", family="safe"),
        "unsafe refused": _select(table, metric="refused", family="unsafe"),
        **{f"{name} success": _select(table, metric="complied", family=name) for name in JAILBREAKS},
        f"separation, layer {last}": _select(table, metric="separation", layer=last, module="mlp.post"),
        "... / spread": _select(table, metric="separation_scaled", layer=last, module="mlp.post"),
        "sin - random": column_space,
    }
    frames = [
        rows.groupby(["method", "seed"], sort=False)["value"]
        .mean()
        .rename("value")
        .reset_index()
        .assign(statistic=name)
        for name, rows in parts.items()
        if len(rows)
    ]
    return pd.concat(frames, ignore_index=True)


def render(table: pd.DataFrame) -> Table:
    """`mean [lowest, highest]` over seeds for each model and statistic."""
    long = cells(table)
    seeds = table["seed"].nunique()
    out = Table(title=f"Mean [range] over {seeds} seeds", title_justify="left")
    out.add_column("model")
    statistics = list(dict.fromkeys(long["statistic"]))
    for name in statistics:
        out.add_column(name, justify="right")
    for method in dict.fromkeys(table["method"]):
        row = [_cell(_select(long, method=method, statistic=name)["value"]) for name in statistics]
        out.add_row(method, *row)
    return out


def _cell(values: pd.Series) -> str:
    if values.empty:
        return "-"
    return f"{values.mean():.2f} [{values.min():.2f}, {values.max():.2f}]"


def _select(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table
