"""The scorecard of every cell of a sweep: which claim holds where."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.figures.common import legend, note, page_width, turn
from experiments.findings.claims.paper import Paper
from experiments.findings.outcomes import cells, swept
from experiments.findings.scorecard import of_cells
from experiments.findings.verdicts import DIFFERS, NO_EFFECT, OPPOSITE, SUPPORTED, UNDECIDED, UNSPECIFIC, UNTESTABLE

LOOKS = {
    SUPPORTED: ("#009E73", "+", "white"),
    UNSPECIFIC: ("#9BD3C0", "*", "black"),
    OPPOSITE: ("#D55E00", "x", "white"),
    NO_EFFECT: ("#F0A060", "_", "black"),
    DIFFERS: ("#C8B4DC", "d", "black"),
    UNDECIDED: ("#E3E3E3", ".", "0.3"),
}
"""Colour, symbol and the symbol's colour: in grey, too, what is decided is darker than what is not"""


COLUMNS = (
    "claim",
    "source",
    "family",
    "verdict",
    "effect",
    "control",
    "contrast",
    "low",
    "high",
    "n",
    "worlds",
    "note",
)


def rows(table: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """The verdicts on what can be tested: a row per cell and claim, with the placebos that support it too in `also`."""
    found = [
        {"cell": cell, **{name: getattr(one, name) for name in COLUMNS}, "also": ", ".join(one.also)}
        for cell, verdicts in of_cells(table, [paper]).items()
        for one in verdicts
        if one.verdict != UNTESTABLE
    ]
    verdicts = pd.DataFrame(found)
    settings = table[["cell", *swept(table)]].drop_duplicates("cell")
    return verdicts.merge(settings, on="cell", how="left") if len(verdicts) else verdicts


def draw(verdicts: pd.DataFrame, paper: Paper, planned: Sequence[str] = ()) -> Figure:
    """One row for each claim, one column for each cell; small numbers are seeds, where they are not the same in all."""
    order = list(planned) or cells(verdicts)
    claims = [name for name in paper.claims if name in set(verdicts["claim"])]
    figure, axis = plt.subplots(figsize=(page_width(), 0.15 * len(claims) + 0.8))
    same = verdicts["n"].nunique() == 1
    columns = (verdicts[name] for name in ("cell", "claim", "verdict", "n"))
    for cell, claim, verdict, n in zip(*columns, strict=True):
        x, y = order.index(cell), claims.index(claim)
        colour, symbol, ink = LOOKS[verdict]
        axis.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, facecolor=colour, lw=0))
        axis.plot(x if same else x - 0.15, y, symbol, color=ink, markersize=4, markeredgewidth=1.1)
        if not same:
            axis.text(x + 0.15, y, str(n), color=ink, ha="center", va="center", fontsize=5.5)
    for verdict, (colour, symbol, _) in LOOKS.items():
        count = int((verdicts["verdict"] == verdict).sum())
        if not count:
            continue
        axis.plot([], [], "s", color=colour, markersize=7, label=f"{symbol} {verdict} ({count})")
    axis.set_xlim(-0.5, len(order) - 0.5)
    axis.set_ylim(len(claims) - 0.5, -0.5)
    sources = {name: "" if page_width() < 4.5 else f"  ({paper.claims[name].source})" for name in claims}
    axis.set_yticks(range(len(claims)), [name + sources[name] for name in claims], fontsize=6)
    axis.set_xticks(range(len(order)), order)
    if max(map(len, order)) > 4:
        turn(axis)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    names = [name for name in verdicts.columns if "." in name]
    axis.set_xlabel(", ".join(names) if len(names) == 1 else "cell")
    legend(figure, [axis])
    seeds = sorted(set(verdicts["n"]))
    unit = "worlds" if verdicts["worlds"].max() > 1 else "seeds"
    text = f"n = {'-'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} {unit}"
    note(figure, f"{text}; Holm's correction within a cell and family of claims; blank: untestable")
    return figure
