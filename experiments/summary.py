"""The summary a study prints: mean and range over seeds."""

import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from experiments.results import models, sample_note, select, unchanged
from synth.families import JAILBREAKS


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Per seed and model, the numbers of the summary: columns method, seed, statistic, value."""
    table = unchanged(table)
    last = table["layer"].max()
    deepest = {"layer": last, "module": "mlp.post"}
    parts = {
        "safe complied": select(table, metric="complied", family="safe"),
        "unsafe refused": select(table, metric="refused", family="unsafe"),
        **{_label(name): select(table, metric="complied", family=name) for name in _others(table)},
        f"separation, layer {last}": select(table, metric="separation", **deepest),
        "separation / spread": select(table, metric="separation_scaled", **deepest),
        "sin - random, all layers": select(table, metric="sine_excess", module="W_in"),
        "prompts seen before": select(table, metric="repeats"),
    }
    return pd.concat(
        [
            rows.groupby(["method", "seed"], sort=False, as_index=False)["value"].mean().assign(statistic=name)
            for name, rows in parts.items()
        ],
        ignore_index=True,
    )


def _others(table: pd.DataFrame) -> list[str]:
    """The families in the table beside `safe` and `unsafe`."""
    families = dict.fromkeys(select(table, metric="complied")["family"])
    return [name for name in families if name not in ("safe", "unsafe")]


def _label(family: str) -> str:
    return f"attack {family}" if family in JAILBREAKS else f"{family} complied"


def render(table: pd.DataFrame) -> Table:
    """A row for each statistic, a column for each model: the mean over seeds, below it the range."""
    long = cells(table)
    over = sample_note(select(unchanged(table), metric="complied"), "prompts")
    out = Table(
        title=f"Mean over {over}; range below", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left"
    )
    out.add_column("", min_width=14)
    for model in models(table):
        out.add_column(model, justify="right", no_wrap=True)
    for statistic in dict.fromkeys(long["statistic"]):
        row = [_cell(select(long, method=model, statistic=statistic)["value"]) for model in models(table)]
        out.add_row(statistic, *row)
    return out


def _cell(values: pd.Series) -> str:
    if values.empty:
        return "-"
    return f"{values.mean():.2f}\n[dim]{values.min():.2f} {values.max():.2f}[/dim]"
