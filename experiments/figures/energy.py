"""How much of dW lies outside W's column space, by energy, against chance and a control (cf. Fig. 4 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    BLUE,
    NEUTRAL,
    UNSAFE,
    Look,
    having,
    legend,
    mean_only,
    note,
    panels,
    seeds_and_mean,
    whole_layers,
)
from experiments.findings.results import seed_note, select, tuned, unchanged
from models.training.methods import MATCHED

LINES = {
    "outside_energy": (Look(UNSAFE, "-", "o"), "all of dW"),
    "outside_top": (Look(BLUE, "--", "s"), "leading vectors, half of the energy"),
}
NULL = METRICS["outside_energy"].null
DRAWN = (MATCHED, "continued")
"""The control that is drawn in every panel: the first of these that the table has"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Shares outside of both MLP matrices, per layer, and that of a random dW."""
    found = select(unchanged(table), metric=[*LINES, NULL.mean], module=["W_in", "W_out"]).dropna(subset="value")
    return having(found, "outside_energy")


def draw(rows: pd.DataFrame) -> Figure:
    """Thin lines are seeds, thick ones their mean; grey is the control's dW, dotted a random one, in closed form."""
    names, modules = tuned(rows), list(dict.fromkeys(rows["module"]))
    control = next((name for name in DRAWN if name in names), None)
    labels = [f"{module}\n{METRICS['outside_energy'].label}" for module in modules]
    figure, axes = panels(names, labels, "layer", height=1.3)
    for line, module in zip(axes, modules, strict=True):
        of_matrix = select(rows, module=module)
        for axis, model in zip(line, names, strict=True):
            here = select(of_matrix, node=model)
            if control and model != control:
                level = select(of_matrix, node=control, metric="outside_energy").groupby("layer")["value"].mean()
                look = {"color": NEUTRAL, "marker": "d", "markersize": 2.5}
                axis.plot(level.index.to_numpy(float), level, **look, label=f"all of it, {control}")
            for metric, (look_of, label) in LINES.items():
                seeds_and_mean(axis, select(here, metric=metric), "layer", look_of, label)
            mean_only(axis, select(here, metric=NULL.mean), "layer", NULL.chance)
            whole_layers(axis, here)
    legend(figure, axes)
    note(figure, f"P projects on W's column space up to its empirical rank; {seed_note(rows)}")
    return figure
