"""Outcomes against the property of the data, or of training, that a study sweeps, with their nulls."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from experiments.figures.common import (
    DARK,
    NEUTRAL,
    Look,
    legend,
    logarithmic,
    note,
    page_width,
    panels,
    turn,
)
from experiments.findings.outcomes import cells, interval, swept
from experiments.findings.results import models, select
from experiments.settings.names import UNTOUCHED
from models.training.methods import CONTROLS

BAND = CONTROLS[0]
LOG_FROM = 30
"""The ratio of the largest to the smallest value from which the axis is logarithmic"""


def places(names: Sequence[str]) -> np.ndarray | None:
    """Where the cells lie on the axis, if all their names are numbers."""
    try:
        found = np.array([float(name) for name in names])
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def is_log(x: np.ndarray) -> bool:
    """Whether numbers are better seen on a logarithmic axis."""
    return bool((x > 0).all() and x.max() / x.min() >= LOG_FROM)


def draw(values: pd.DataFrame, looks: Mapping[str, Look], planned: Sequence[str] = ()) -> Figure:
    """A panel for each outcome of `experiments.findings.outcomes.values`, a line for each model.

    `looks` are those of the models. `planned` are cells of the sweep, of which some may have no values: lines
    break there.
    """
    names = list(dict.fromkeys(values["outcome"]))
    order = list(planned) or cells(values)
    numbers = places(order)
    x = np.arange(len(order), dtype=float) if numbers is None else numbers
    property_names = swept(values)
    label = property_names[0].split(".")[-1].replace("_", " ") if len(property_names) == 1 else ""
    figure, axes = panels(names, [""], label, height=1.5, least=1.3, share_y=False)
    for axis, name in zip(axes[0], names, strict=True):
        _panel(axis, select(values, outcome=name), looks, order, x)
        _ticks(axis, order, x, numbers is not None)
    legend(figure, axes)
    seeds = _range(values.groupby(["outcome", "cell", "node"])["seed"].nunique())
    text = f"{', '.join(property_names)}; mean and 95 % t-interval over {seeds} seed{'s' * (seeds != '1')}"
    nulls = [chance for chance in dict.fromkeys(values["chance"]) if chance]
    text += f"; dotted in each line's colour: {', '.join(nulls)}" * bool(nulls)
    note(figure, f"{text}; n = {_range(values['n'].astype(int))} each")
    return figure


def _range(numbers: pd.Series) -> str:
    return "-".join(map(str, dict.fromkeys((numbers.min(), numbers.max()))))


def summary(rows: pd.DataFrame, order: Sequence[str], share: bool) -> pd.DataFrame:
    """Mean and ends of the interval, one row for each cell, nan where there are no values."""
    found = []
    for cell in order:
        here = select(rows, cell=cell)
        one = interval(here["value"], 1 / here["n"].min() if share and len(here) else 0.0)
        found.append((one.mean, one.low, one.high, here["null"].mean()))
    return pd.DataFrame(found, list(order), ["mean", "low", "high", "null"])


def _panel(axis: Axes, rows: pd.DataFrame, looks: Mapping[str, Look], order: Sequence[str], x: np.ndarray) -> None:
    share, level = bool(rows["share"].iloc[0]), rows["level"].iloc[0]
    right = np.argsort(x)
    lines = [model for model in models(rows) if model not in (UNTOUCHED, BAND)]
    for model in models(rows):
        look = looks[model]
        at = summary(select(rows, node=model), order, share).iloc[right]
        if model == UNTOUCHED:
            axis.plot(x[right], at["mean"], color="black", linewidth=0.7, label=model)
        elif model == BAND:
            axis.fill_between(x[right], at["low"], at["high"], color=NEUTRAL, alpha=0.35, lw=0, label=model)
            axis.plot(x[right], at["mean"], color=NEUTRAL, linewidth=0.8, linestyle=look.linestyle)
        else:
            apart = _apart(x, lines.index(model) - (len(lines) - 1) / 2)[right]
            bars = np.stack([at["mean"] - at["low"], at["high"] - at["mean"]])
            axis.errorbar(
                apart,
                at["mean"],
                bars,
                **look._asdict(),
                linewidth=1.1,
                markersize=3,
                elinewidth=0.7,
                capsize=1.3,
                label=model,
            )
            axis.plot(apart, at["null"], linestyle=(0, (1, 2)), color=look.color, linewidth=0.9)
    if not np.isnan(level):
        axis.axhline(level, color=DARK, linewidth=0.5)
    if share:
        axis.set_ylim(-0.03, 1.03)


def _apart(x: np.ndarray, by: float) -> np.ndarray:
    """Places a little beside `x`, so that intervals of several models are told apart."""
    if len(x) < 2:
        return x + 0.05 * by
    if is_log(x):
        return np.exp(_apart(np.log(x), by))
    return x + 0.012 * by * (x.max() - x.min())


def _gap(x: np.ndarray) -> float:
    """Between the two places that are nearest, as a share of the axis."""
    at = np.unique(np.log(x) if is_log(x) else x)
    return float(np.diff(at).min() / np.ptp(at)) if len(at) > 1 else 1.0


def _crowded(axis: Axes, order: Sequence[str], x: np.ndarray) -> bool:
    """Whether numbers beside one another would touch."""
    size = FontProperties(size=plt.rcParams["xtick.labelsize"]).get_size_in_points() / 72
    # A digit of the font is 0.64 of its size wide; one more lies between two numbers.
    needed = 0.64 * size * (1 + max(map(len, order)))
    return needed > _gap(x) * axis.get_position().width * page_width()


def _ticks(axis: Axes, order: Sequence[str], x: np.ndarray, numeric: bool) -> None:
    if numeric and is_log(x):
        logarithmic(axis)
    if not numeric or _gap(x) > 0.12:
        axis.xaxis.set_major_locator(FixedLocator(list(x)))
        axis.xaxis.set_major_formatter(FixedFormatter(list(order)))
        axis.xaxis.set_minor_locator(NullLocator())
        if not numeric or _crowded(axis, order, x):
            turn(axis)
    if not numeric:
        axis.margins(x=0.1)
