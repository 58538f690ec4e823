"""The summary a study prints: mean and range over seeds."""

import pandas as pd
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from experiments.findings import outcomes
from experiments.findings.results import models, prompt_note, select, untaught
from experiments.settings.names import RANDOM
from models.training.methods import MATCHED


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Per cell, seed and model, the numbers of the summary: columns cell, node, seed, outcome, statistic, value.

    `statistic` is the outcome as it is shown.
    """
    last = table["layer"].max()
    found = outcomes.values(table, printed=True)
    statistic = found["outcome"].replace("separation", f"separation, layer {last}")
    return found.assign(statistic=statistic)[["cell", "node", "seed", "outcome", "statistic", "value"]]


def render(table: pd.DataFrame) -> Table:
    """A row for each statistic, or in a sweep for each cell of it, and a column for each model but the random one.

    The mean over seeds, and the range: below it, in a sweep behind it. Of several controls one has a column, the
    matched one if it is there: the report has all.
    """
    table = table[table["node"] != RANDOM]
    controls = untaught(table)
    shown = MATCHED if MATCHED in controls else next(iter(controls), "")
    table = table[~table["node"].isin(controls) | (table["node"] == shown)]
    long, names = cells(table), models(table)
    over = prompt_note(table)
    of_sweep = outcomes.cells(table)
    title = f"Mean over {over}; range {'below' if len(of_sweep) < 2 else 'behind'}"
    out = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    out.add_column("", min_width=14)
    for model in names:
        out.add_column(model, justify="right", no_wrap=True)
    for statistic in dict.fromkeys(long["statistic"]):
        rows = select(long, statistic=statistic)
        if len(of_sweep) < 2:
            out.add_row(statistic, *(_cell(rows, model, "\n") for model in names))
            continue
        out.add_row(Text(statistic, "bold"))
        for cell in of_sweep:
            out.add_row(f"  {cell}", *(_cell(select(rows, cell=cell), model, "  ") for model in names))
    return out


def _cell(rows: pd.DataFrame, model: str, between: str) -> Text | str:
    values = select(rows, node=model)["value"]
    if values.empty:
        return "-"
    return Text.assemble(f"{values.mean():.2f}{between}", (f"{values.min():.2f} {values.max():.2f}", "dim"))
