"""What the figures share: colours, names, and picking rows of the table."""

import pandas as pd
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers and in grey.
SAFE, UNSAFE, NEUTRAL = "#009E73", "#D55E00", "#999999"
UNTOUCHED = "untouched"


def select(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Rows where each named column equals the value, or one of a list of values."""
    for column, value in where.items():
        values = value if isinstance(value, list | tuple) else [value]
        table = table[table[column].isin(values)]
    return table


def models(table: pd.DataFrame) -> list[str]:
    """The models in the order of the table, the untouched one first."""
    return list(dict.fromkeys(table["method"]))


def tuned(table: pd.DataFrame) -> list[str]:
    """The models that have a change of weights."""
    return [model for model in models(table) if model != UNTOUCHED]


def sample_note(rows: pd.DataFrame, of: str) -> str:
    """How many seeds, and how many of what each value is a mean over."""
    counts = sorted(set(rows["n"].astype(int)))
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    return f"{rows['seed'].nunique()} seeds, n = {number} {of} each"


def note(figure: Figure, text: str) -> None:
    """A small line under the figure, at its right."""
    figure.supxlabel(text, x=1.0, ha="right", fontsize=6.5)
