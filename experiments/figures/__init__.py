"""Figures, each a function of the results table alone, kept as PDF, PNG and the CSV drawn."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures import behaviour, projections, sines, tau

STYLE = Path(__file__).with_name("paper.mplstyle")

FIGURES: dict[str, Callable[[pd.DataFrame], tuple[Figure, pd.DataFrame]]] = {
    "behaviour": behaviour.draw,
    "tau": tau.draw,
    "sines": sines.draw,
    "projections": projections.draw,
}


KINDS = ("pdf", "png", "csv")


def style_version() -> str:
    """What the look of the figures depends on beside their code."""
    return f"{hashlib.sha256(STYLE.read_bytes()).hexdigest()[:8]} {matplotlib.__version__}"


def all_drawn(folder: Path) -> bool:
    """Whether every file of every figure is in `folder`."""
    return all((folder / f"{name}.{kind}").is_file() for name in FIGURES for kind in KINDS)


def draw_all(table: pd.DataFrame, folder: Path) -> None:
    """Every figure of the registry into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        with plt.style.context(STYLE):
            figure, drawn = draw(table)
            # A date in the file would make equal figures differ.
            figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
            figure.savefig(folder / f"{name}.png")
            plt.close(figure)
        drawn.to_csv(folder / f"{name}.csv", index=False)
