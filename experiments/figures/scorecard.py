"""A paper's claims as a forest plot: each contrast with its control (`experiments/findings/scorecard.py`)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from experiments.figures.common import NEUTRAL, ORANGE, PINK, SAFE, SKY, UNSAFE, legend, note, page_width
from experiments.findings.claims.paper import Paper
from experiments.findings.claims.units import UNITS
from experiments.findings.printed import replicates_note
from experiments.findings.scorecard import evidence, scorecard
from experiments.findings.verdicts import (
    DIFFERS,
    NO_EFFECT,
    OPPOSITE,
    SUPPORTED,
    UNDECIDED,
    UNSPECIFIC,
    UNTESTABLE,
    Verdict,
)

COLOURS = {
    SUPPORTED: SAFE,
    UNSPECIFIC: SKY,
    OPPOSITE: UNSAFE,
    NO_EFFECT: ORANGE,
    DIFFERS: PINK,
    UNDECIDED: "0.45",
}
DASHES = {SUPPORTED: "-", UNSPECIFIC: (0, (5, 1)), OPPOSITE: (0, (3, 1)), NO_EFFECT: (0, (2, 1))}
DOTTED = (0, (1, 1))
MARKERS = {"above": ">", "below": "<", "same": "o"}
TITLES = {
    "ratio": "effect / control",
    "share": "effect - control, shares of prompts",
    "part": "effect - control, other shares",
    "deviations": "effect - control, standard deviations",
    "nats": "effect - control, nats",
    "sine": "effect - control, sines",
    "rank": "rank correlation",
}


def rows(table: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """What the verdicts rest on; none if no claim can be tested."""
    return evidence(table, paper)


def draw(rows: pd.DataFrame, paper: Paper) -> Figure:
    """A panel per unit; lines are 95 % intervals, the dotted line is the control, the band the margin about it.

    A marker points to where the claim says that the effect lies, small ones are single methods, and
    crosses are the same contrast of models tuned without safety.
    """
    verdicts = scorecard(rows, paper)
    told = [one for one in verdicts if one.verdict != UNTESTABLE and one.n]
    units = [unit for unit in UNITS if any(one.unit == unit for one in told)]
    of_unit = {unit: [one for one in told if one.unit == unit] for unit in units}
    heights = [len(of_unit[unit]) + 1.5 for unit in units]
    figure, axes = plt.subplots(
        len(units), 1, figsize=(page_width(), 0.15 * sum(heights) + 0.7), height_ratios=heights, squeeze=False
    )
    for axis, unit in zip(axes[:, 0], units, strict=True):
        _panel(axis, unit, of_unit[unit])
    first = axes[0, 0]
    for verdict, colour in COLOURS.items():
        number = sum(one.verdict == verdict for one in told)
        if number:
            inside = "none" if verdict == UNDECIDED else colour
            first.plot([], [], "s", color=colour, markersize=4, mfc=inside, label=f"{verdict} ({number})")
    first.plot([], [], "x", color="0.3", markersize=3, label="placebo")
    first.plot([], [], ":", color="0.3", label="control")
    first.fill_between([], [], color=NEUTRAL, alpha=0.3, lw=0, label="margin")
    legend(figure, axes)
    without = len(verdicts) - len(told)
    text = f"n = {replicates_note(verdicts)}; right: effect | control"
    note(figure, text + (f"; untestable claims: {without}" if without else ""))
    return figure


def _panel(axis: Axes, unit: str, rows: list[Verdict]) -> None:
    """One row per claim, from above."""
    ratio = unit == "ratio"
    none, margin = float(ratio), UNITS[unit].back(UNITS[unit].margin)
    band = (1 / margin, margin) if ratio else (-margin, margin)
    axis.axvspan(*band, color=NEUTRAL, alpha=0.3, lw=0)
    axis.axvline(none, color="0.3", linestyle=":", linewidth=0.8)
    for y, one in enumerate(rows):
        colour = COLOURS[one.verdict]
        dash = DASHES.get(one.verdict, DOTTED)
        axis.plot([one.low, one.high], [y, y], color=colour, linewidth=1.2, linestyle=dash)
        placebos = [each.contrast for each in one.placebos if each.verdict != UNTESTABLE]
        axis.plot(placebos, [y] * len(placebos), "x", color="0.3", markersize=2.5, markeredgewidth=0.6)
        if len(one.methods) > 1:
            single = [each.contrast for each in one.methods if each.verdict != UNTESTABLE]
            axis.plot(single, [y] * len(single), ".", color=colour, markersize=2.5)
        inside = "white" if one.verdict == UNDECIDED else colour
        axis.plot(one.contrast, y, MARKERS[one.expects], color=colour, mfc=inside, markersize=4)
    reach = _reach(unit, rows)
    if ratio:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if reach < 20 else (1,)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6 if page_width() > 4.5 else 3))
    axis.set_xlim(1 / reach if ratio else -reach, reach)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), [_name(one) for one in rows], fontsize=6)
    right = axis.secondary_yaxis("right")
    right.set_yticks(range(len(rows)), [f"{one.effect:.3g} | {one.control:.3g}" for one in rows], fontsize=6)
    for side in (axis, right):
        side.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)
    axis.set_title(TITLES[unit])


def _name(one: Verdict) -> str:
    """With its source where there is room."""
    return one.claim if page_width() < 4.5 else f"{one.claim}  ({one.source})"


def _reach(unit: str, rows: list[Verdict]) -> float:
    """The right end of the axis: intervals much longer than any contrast, as of two seeds, are cut."""
    scale = np.log if unit == "ratio" else np.asarray
    ends = np.abs([[float(scale(end)) for end in (one.low, one.high)] for one in rows]).max(axis=1)
    contrasts = np.abs([float(scale(one.contrast)) for one in rows])
    margin = UNITS[unit].margin
    far = np.fmin(ends, 3 * contrasts.max() + 3 * margin).max()
    return UNITS[unit].back(1.05 * max(far, 2 * margin))
