"""What the figures share: colours and lines, panels that fit the page's width, legends and notes."""

import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from experiments.settings.names import RANDOM, UNTOUCHED
from models.training.methods import SAFETY

# Okabe and Ito's colours, told apart by colour-blind readers; lines differ in dashes too, for print in grey.
SAFE, UNSAFE, NEUTRAL = "#009E73", "#D55E00", "#999999"
BLUE, PINK, ORANGE, SKY, DARK = "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "0.3"

LINE_HEIGHT = 0.14
"""Inches that a line of text takes"""
TALLEST = 8.0
"""Inches that panels may take of a page"""
LOWEST, LOW = 0.4, 0.6
"""Inches of the lowest panels, and of those below which two or three ticks have room"""
SMALL = 6.0
"""Points of labels that stand beside their panel"""


class Look(NamedTuple):
    """How a line is drawn."""

    color: str
    linestyle: Any
    marker: str


FAMILIES = {"safe": Look(SAFE, "-", "o"), "unsafe": Look(UNSAFE, "--", "s")}

_LOOKS = (
    Look(BLUE, "-", "o"),
    Look(UNSAFE, "--", "s"),
    Look(SAFE, "-.", "^"),
    Look(PINK, (0, (5, 1, 1, 1, 1, 1)), "D"),
    Look(ORANGE, (0, (1, 1)), "v"),
    Look(SKY, (0, (6, 2)), "P"),
    Look("#000000", (0, (3, 1, 1, 1)), "X"),
)
# Of the methods behind the first ones: paler, with the markers of controls, which are grey.
_PALER = (
    Look("#7B68EE", (0, (8, 1, 2, 1)), "H"),
    Look("#8FBC5A", (0, (2, 2)), "3"),
    Look("#C71585", (0, (9, 3)), "d"),
    Look("#20B2AA", (0, (4, 1, 1, 1)), "<"),
    Look("#BDB76B", (0, (1, 1, 5, 1)), ">"),
)
# Controls are muted: greys, told apart by dashes and markers.
_OF_METHODS = dict(zip(SAFETY, (*_LOOKS, *_PALER), strict=False)) | {
    UNTOUCHED: Look("#000000", "-", ""),
    RANDOM: Look("0.7", (0, (1, 3)), "."),
    "continued": Look(NEUTRAL, (0, (4, 1.5)), "d"),
    "shuffled": Look("0.45", (0, (1, 1.5)), "*"),
    "irrelevant": Look("0.55", (0, (6, 1, 1, 1)), "<"),
    "refuse_all": Look("0.35", (0, (2, 1)), ">"),
    "pretraining_more": Look("0.7", (0, (8, 2)), "p"),
    "sham": Look("0.25", (0, (1, 1, 1, 3)), "H"),
    "comply_all": Look("#8B0000", (0, (12, 2)), "X"),
    "comply_constrained": Look("#E9967A", (0, (12, 2, 2, 2)), "P"),
}


# Of other models: darker, with markers that no method has.
_COLOURS = ("#5B2A86", "#7A5200", "#004C3A", "#8E1B4B", "#00456B", "#6B6B00", "#A0522D")
_MARKERS = ("h", "1", "x", "8", "2", "+", "4")
_DASHES = ("-", (0, (3, 1)), (0, (5, 1, 1, 1)), (0, (1, 0.8)), (0, (7, 1, 1, 1, 1, 1)))


def model_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each of the models `names` of a table.

    A model of a method's name looks the same in every figure and study. Any other looks as its place among the
    others says, so that all figures of one table agree; of the first 49 of them no two look the same.
    """
    others = itertools.count()
    return {name: _OF_METHODS.get(name) or _other(next(others)) for name in names}


def _other(place: int) -> Look:
    turn, colour = divmod(place, len(_COLOURS))
    return Look(_COLOURS[colour], _DASHES[place % len(_DASHES)], _MARKERS[(colour + turn) % len(_MARKERS)])


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each of some other things: prompt families say; safe and unsafe have their own."""
    others = (look for look in _LOOKS[1:] if look.color not in (SAFE, UNSAFE))
    spare = iter(
        [Look(BLUE, "-.", "^"), *others, Look(NEUTRAL, (0, (2, 1)), "d"), Look("#F0E442", (0, (8, 1)), "*")] * 9
    )
    return {name: FAMILIES.get(name) or next(spare) for name in names}


def group_colours(groups: int) -> list[str]:
    """A colour for each concept group, from safe-dominant to unsafe-dominant."""
    between = [BLUE, PINK, ORANGE, SKY]
    return [SAFE, *(between[i % len(between)] for i in range(groups - 2)), UNSAFE]


def having(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows, or none of them without the metric that the figure is about: a control alone is no figure."""
    return rows if metric in set(rows["metric"]) else rows.head(0)


LETTER = 0.7
"""How wide a letter is, in sizes of its font, with the space that panels are apart"""


def page_width() -> float:
    """Inches the figure may be wide: `save` puts them into the style."""
    return float(plt.rcParams["figure.figsize"][0])


def panels(
    titles: Sequence[str],
    labels: Sequence[str],
    xlabels: str | Sequence[str],
    *,
    height: float = 1.15,
    least: float = 0.92,
    share_y: bool = True,
    share_x: bool = False,
    left: float = 0.0,
) -> tuple[Figure, np.ndarray]:
    """Axes [label, title], one column for each title and one line for each label, as wide as the page.

    Columns that find no place of `least` inches go below, as a second band. `xlabels` is one for all
    lines, which then have the same x, or one for each. These and `labels` may have formulas between
    dollars; all other text is drawn as it is, for it may have names in it. `share_y` and `share_x`
    say whether the panels of a line have the same scale; names of ticks take `left` inches beside the first column.
    """
    width, lines = page_width(), len(labels)
    room = max(1, int((width - 0.5) / least))
    bands = -(-len(titles) // room)
    columns = -(-len(titles) // bands)
    one_x = isinstance(xlabels, str)
    below = [""] * (lines - 1) + [str(xlabels)] if one_x else list(xlabels)
    texts = 1.5 * (1 if one_x else lines) + 1
    height = max(LOWEST, min(height, (TALLEST - bands * texts * LINE_HEIGHT - 0.35) / (bands * lines)))
    # Labels that are longer than their panel is high stand beside it.
    level = _inches(labels, float(plt.rcParams["axes.labelsize"])) > height
    beside = left + (_inches(labels, SMALL) if level else 0.0)
    wrapped = [_wrapped(title, max(12, int(17 * (width - 0.5 - beside) / columns))) for title in titles]
    around = bands * (texts + max(title.count("\n") for title in wrapped)) * LINE_HEIGHT + 0.35
    figure = plt.figure(figsize=(width, bands * lines * height + around))
    grid = figure.subplots(bands * lines, columns, squeeze=False)
    for axis in grid.flat[:]:
        axis.set_visible(False)
    axes = np.empty((lines, len(titles)), object)
    for i, title in enumerate(wrapped):
        band, column = divmod(i, columns)
        for line in range(lines):
            axis = axes[line, i] = grid[band * lines + line, column]
            axis.set_visible(True)
            axis.set_xlabel(below[line], parse_math=True)
            if i and share_y:
                axis.sharey(axes[line, 0])
            if height < LOW:
                axis.yaxis.set_major_locator(MaxNLocator(2))
            if column == 0:
                axis.set_ylabel(labels[line], parse_math=True)
                if level:
                    axis.yaxis.label.set(rotation=0, ha="right", va="center", ma="right", fontsize=SMALL)
            elif share_y:
                axis.tick_params(labelleft=False)
            if share_x and i:
                axis.sharex(axes[line, 0])
            elif one_x and line:
                axis.sharex(axes[0, i])
            if one_x and line < lines - 1:
                axis.tick_params(labelbottom=False)
        axes[0, i].set_title(title)
    return figure, axes


def _inches(labels: Sequence[str], size: float) -> float:
    """About how long the longest line of `labels` is in letters of `size` points."""
    # A command of a formula is a letter, and what tells its parts apart is none.
    drawn = [re.sub(r"[${}_^](?=.*\$)|\$", "", re.sub(r"\\[A-Za-z]+", "x", label)) for label in labels]
    return LETTER * size / 72 * max(len(line) for label in drawn for line in label.split("\n"))


def _wrapped(title: str, letters: int) -> str:
    """`title` in lines of so many letters; names are parted after a _ or a +."""
    return re.sub("([_+]) ", r"\1", textwrap.fill(re.sub("([_+])", r"\1 ", title), letters))


def seeds_and_mean(axis: Axes, rows: pd.DataFrame, by: str, look: Look, label: str, marks: bool = True) -> None:
    """A thin line for each seed against the column `by`, a thick one for their mean; nothing without rows."""
    if rows.empty:
        return
    wide = rows.pivot(index=by, columns="seed", values="value")
    x = wide.index.to_numpy(float)
    axis.plot(x, wide.to_numpy(), linestyle=look.linestyle, color=look.color, linewidth=0.5, alpha=0.55)
    marker = look.marker if marks else ""
    axis.plot(x, wide.mean(axis=1), linestyle=look.linestyle, color=look.color, marker=marker, ms=2.5, label=label)


def mean_and_range(axis: Axes, rows: pd.DataFrame, by: str, look: Look, label: str) -> None:
    """The mean over seeds against the column `by`, and their range as a band where the look has markers."""
    if rows.empty:
        return
    seeds = rows.groupby(by)["value"]
    mean = seeds.mean()
    x = mean.index.to_numpy(float)
    if look.marker:
        axis.fill_between(x, seeds.min(), seeds.max(), color=look.color, alpha=0.12, lw=0)
    axis.plot(
        x,
        mean,
        linestyle=look.linestyle,
        color=look.color,
        marker=look.marker,
        markersize=2.5,
        markevery=-(-len(x) // 12),
        label=label,
    )


def mean_only(axis: Axes, rows: pd.DataFrame, by: str, label: str) -> None:
    """The mean over seeds of a control, dotted."""
    mean = rows.groupby(by)["value"].mean()
    if len(mean):
        axis.plot(mean.index.to_numpy(float), mean, ":", color=DARK, linewidth=0.9, label=label)


def legend(figure: Figure, axes: np.ndarray | Sequence[Axes]) -> None:
    """One legend over the figure of what the axes name, in as many columns as there is room for."""
    named: dict[str, Any] = {}
    for axis in np.ravel(np.asarray(axes, object)):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    for columns in range(len(named), 0, -1):
        made = figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=columns)
        if columns == 1 or made.get_window_extent().width <= 0.98 * figure.bbox.width:
            break
        made.remove()
    _grow(figure, -(-len(named) // columns) * 0.13 if named else 0)


def note(figure: Figure, text: str) -> None:
    """Small lines under the figure, at its right."""
    lines = textwrap.wrap(text, int(20 * figure.get_figwidth()))
    figure.supxlabel("\n".join(lines), x=0.995, ha="right", fontsize=6.5)
    _grow(figure, 0.1 * (len(lines) - 1))


def _grow(figure: Figure, inches: float) -> None:
    figure.set_figheight(figure.get_figheight() + inches)


def turn(axis: Axes) -> None:
    """Long names under the axis, aslant."""
    plt.setp(axis.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")


class _Few(LogLocator):
    """Decades, and where there are few of them some of what lies between; a few even steps where there is none."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        reach = vmax / vmin
        if reach < 4:
            return [value for value in MaxNLocator(3).tick_values(vmin, vmax) if value > 0]
        self.set_params(subs=(1.0, 2.0, 5.0) if reach < 10 else (1.0, 3.0) if reach < 100 else (1.0,))
        found: Sequence[float] = super().tick_values(vmin, vmax)
        return found


def logarithmic(axes: Axes, vertical: bool = False) -> None:
    """The horizontal axis, or the vertical one, with ticks that a small panel has room for, their numbers in plain."""
    (axes.set_yscale if vertical else axes.set_xscale)("log")
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_locator(_Few(numticks=5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def whole_layers(axis: Axes, rows: pd.DataFrame, by: str = "layer") -> None:
    """A tick at each layer, or whatever the column `by` counts, or at every second of many."""
    found = sorted(rows[by].dropna().unique().astype(int))
    axis.set_xticks(found[:: -(-len(found) // 8)])
