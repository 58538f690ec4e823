"""The paper's claims as a forest plot: each contrast with its control, over seeds (`experiments/claims.py`)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from experiments.claims import FAILS, HOLDS, UNDECIDED, UNITS, Verdict, evidence, scorecard
from experiments.figures.common import NEUTRAL, SAFE, UNSAFE, note, nothing

COLOURS = {HOLDS: SAFE, FAILS: UNSAFE, UNDECIDED: NEUTRAL}
MARKERS = {"above": ">", "below": "<", "same": "o"}
TITLES = {
    "ratio": "effect / control",
    "share": "effect - control, shares of prompts",
    "part": "effect - control, other shares",
    "sine": "effect - control, sines",
}


def draw(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A panel a unit; lines are 95 % intervals, the dotted line is the control, the band the margin about it.

    A marker points to where the claim says that the effect lies.
    """
    verdicts = scorecard(table)
    told = [one for one in verdicts if one.n]
    if not told:
        return nothing("no claim has its rows in the table"), table.head(0)
    units = [unit for unit in UNITS if any(one.unit == unit for one in told)]
    rows = {unit: [one for one in told if one.unit == unit] for unit in units}
    heights = [len(rows[unit]) + 1.5 for unit in units]
    figure, axes = plt.subplots(
        len(units),
        1,
        figsize=(5.5, 0.15 * sum(heights) + 0.6),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, unit in zip(axes[:, 0], units, strict=True):
        _panel(axis, unit, rows[unit])
    for verdict, colour in COLOURS.items():
        number = sum(one.verdict == verdict for one in told)
        axes[0, 0].plot([], [], "s", color=colour, markersize=4, label=f"{verdict} ({number})")
    axes[0, 0].plot([], [], ":", color="0.3", label="control")
    figure.legend(loc="outside upper center", ncols=4)
    seeds = sorted({one.n for one in told})
    without = len(verdicts) - len(told)
    text = f"n = {'-'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds; right: effect | control"
    note(figure, text + (f"; claims without rows in the table: {without}" if without else ""))
    return figure, evidence(table)


def _panel(axis: Axes, unit: str, rows: list[Verdict]) -> None:
    """One row a claim, from above."""
    ratio = unit == "ratio"
    none, margin = (1.0, rows[0].margin) if ratio else (0.0, rows[0].margin)
    band = (1 / margin, margin) if ratio else (-margin, margin)
    axis.axvspan(*band, color=NEUTRAL, alpha=0.3, lw=0)
    axis.axvline(none, color="0.3", linestyle=":", linewidth=0.8)
    for y, one in enumerate(rows):
        colour = COLOURS[one.verdict]
        axis.plot([one.low, one.high], [y, y], color=colour, linewidth=1.2)
        axis.plot(one.contrast, y, MARKERS[one.expects], color=colour, markersize=4)
    reach = _reach(unit, rows)
    if ratio:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if reach < 20 else (1,)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.set_xlim(1 / reach if ratio else -reach, reach)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), [f"{one.claim}  ({one.source})" for one in rows], fontsize=6)
    right = axis.secondary_yaxis("right")
    right.set_yticks(range(len(rows)), [f"{one.effect:.3g} | {one.control:.3g}" for one in rows], fontsize=6)
    for side in (axis, right):
        side.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)
    axis.set_title(TITLES[unit])


def _reach(unit: str, rows: list[Verdict]) -> float:
    """The right end of the axis: intervals much longer than any contrast, as of two seeds, are cut."""
    scale = np.log if unit == "ratio" else np.asarray
    ends = np.abs([[float(scale(end)) for end in (one.low, one.high)] for one in rows]).max(axis=1)
    contrasts = np.abs([float(scale(one.contrast)) for one in rows])
    margin = UNITS[unit].margin
    far = np.fmin(ends, 3 * contrasts.max() + 3 * margin).max()
    return UNITS[unit].back(1.05 * max(far, 2 * margin))
