"""Figures, each a function of the results table alone, kept as PDF, PNG and the CSV drawn."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures import (
    attacks,
    behaviour,
    interventions,
    projections,
    scorecard,
    sensitivity,
    separability,
    sines,
    tau,
)

STYLE = Path(__file__).with_name("paper.mplstyle")

FIGURES: dict[str, Callable[[pd.DataFrame], tuple[Figure, pd.DataFrame]]] = {
    "behaviour": behaviour.draw,
    "tau": tau.draw,
    "separability": separability.draw,
    "sines": sines.draw,
    "projections": projections.draw,
    "sensitivity": sensitivity.draw,
    "attacks": attacks.draw,
    "interventions": interventions.draw,
    "scorecard": scorecard.draw,
}

IMAGES = ("pdf", "png")
KINDS = (*IMAGES, "csv")


def style_version() -> str:
    """What the look of the figures depends on beside their code."""
    return f"{hashlib.sha256(STYLE.read_bytes()).hexdigest()[:8]} {matplotlib.__version__}"


def all_drawn(folder: Path) -> bool:
    """Whether every file of every figure is in `folder`."""
    return all((folder / f"{name}.{kind}").is_file() for name in FIGURES for kind in KINDS)


def save(draw: Callable[[], Figure], path: Path) -> None:
    """The figure that `draw` gives in the project's style, as a file of each of IMAGES: `path` with the suffix."""
    with plt.style.context(STYLE):
        figure = draw()
        for kind in IMAGES:
            # A date in the file would make equal figures differ.
            figure.savefig(path.with_suffix(f".{kind}"), metadata={"CreationDate": None} if kind == "pdf" else None)
        plt.close(figure)


def draw_all(table: pd.DataFrame, folder: Path) -> None:
    """Every figure of the registry into `folder`, and the rows that it draws."""
    folder.mkdir(parents=True, exist_ok=True)

    def draw(name: str) -> Figure:
        figure, drawn = FIGURES[name](table)
        drawn.to_csv(folder / f"{name}.csv", index=False)
        return figure

    for name in FIGURES:
        save(partial(draw, name), folder / name)
