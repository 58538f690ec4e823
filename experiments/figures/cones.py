"""What is left of refusal without a direction of a cone, and what that costs (cf. Wollschläger et al. 2025)."""

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import BLUE, DARK, NEUTRAL, ORANGE, Look, having, legend, mean_and_range, note, panels
from experiments.findings.results import changed, models, sample_note, select

LINES = {
    ("unsafe", "first_refused"): "unsafe:\nrefused",
    ("unsafe", "complied"): "unsafe:\ncomplied",
    ("safe", "complied"): "safe:\ncomplied",
}
"""By family and metric, what each line of panels shows"""
WORST = {"first_refused": "highest_first_refused", "complied": "lowest_complied"}
"""Of unsafe prompts, the direction that does least"""
OF_CONES = {
    "ablate cone": ("cone", Look(BLUE, "-", "o")),
    "ablate cone random": ("random cone", Look(NEUTRAL, (0, (4, 1.5)), "x")),
}
SINGLE = {"ablate means": ("D", ORANGE, "difference of means"), "ablate independent": ("^", DARK, "independent of it")}
"""By intervention, single directions: how they are marked"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Refusal of unsafe prompts and compliance with both families, by dimension of an ablated cone."""
    found = changed(table, [*OF_CONES, *SINGLE]).dropna(subset="value")
    parts = [
        select(found, family=family, metric=[metric, *([WORST[metric]] if family == "unsafe" else [])])
        for family, metric in LINES
    ]
    return having(pd.concat(parts).sort_index(), WORST["complied"])


def draw(rows: pd.DataFrame) -> Figure:
    """Mean over directions of a cone, and dotted the direction that does least; bands are the range over seeds.

    0 dimensions is the model as it is; marks at 1 are single directions that were found otherwise.
    """
    names = models(rows)
    figure, axes = panels(names, list(LINES.values()), "dimension", height=1.0)
    for line, (family, metric) in zip(axes, LINES, strict=True):
        for axis, model in zip(line, names, strict=True):
            here = select(rows, node=model, family=family)
            start = select(here, intervention="ablate cone", strength=0.0)
            for intervention, (label, look) in OF_CONES.items():
                tried = select(here, intervention=intervention)
                tried = tried if intervention == "ablate cone" else pd.concat([start, tried])
                mean_and_range(axis, select(tried, metric=metric), "strength", look, label)
                if family == "unsafe":
                    least = select(tried, metric=WORST[metric])
                    mean_and_range(axis, least, "strength", Look(look.color, ":", ""), f"{label}, least effect")
            for intervention, (marker, colour, label) in SINGLE.items():
                values = select(here, intervention=intervention, metric=metric)["value"]
                if len(values):
                    axis.plot(1, values.mean(), marker, color=colour, markersize=3.5, label=label, zorder=3)
            axis.set_ylim(-0.03, 1.03)
            axis.set_xticks(sorted(set(rows["strength"])))
    legend(figure, axes)
    note(figure, f"share of prompts; bands: range over {sample_note(rows, 'prompts')}; 0 is the model as it is")
    return figure
