"""How tuning moved the residual stream at EOT: its components, the refusal direction among them and elsewhere, and what
removing either does (cf. arXiv 2502.09674)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    BLUE,
    NEUTRAL,
    ORANGE,
    PINK,
    SAFE,
    SKY,
    Look,
    having,
    legend,
    mean_only,
    note,
    panels,
    seeds_and_mean,
    turn,
    whole_layers,
)
from experiments.findings.results import changed, models, seed_note, select, unchanged

ENERGY = {
    "shift_energy": (Look(BLUE, "-", "o"), "shift"),
    "shift_energy_centred": (Look(SKY, "--", "s"), "shift less its mean"),
}
OVERLAPS: dict[str, tuple[dict[str, Any], Look, str]] = {
    "shift_overlap": ({}, *ENERGY["shift_energy"]),
    "shift_overlap_centred": ({}, *ENERGY["shift_energy_centred"]),
    "axis_overlap": ({"module": "resid_post"}, Look(SAFE, "-.", "^"), "axis between clusters"),
    "change_overlap": ({"module": "W_out", "index": 1}, Look(ORANGE, (0, (1, 1)), "D"), r"dW of W_out, first"),
}
READ = Look(PINK, (0, (5, 1, 1, 1, 1, 1)), "v")
NULLS = [METRICS[name].null.mean for name in (*ENERGY, *OVERLAPS)]
REMOVED = {
    "nothing": ("ablate shift", 0),
    "component": ("ablate shift", 1),
    "random": ("ablate shift random", 1),
    "refusal in dW": ("change without refusal", 1),
    "random in dW": ("change without random", 1),
}
"""By label, an intervention and its strength"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Energies and overlaps by layer with what chance gives, and refusals of changed models, of every tuned model."""
    as_they_are = unchanged(table)
    found = select(as_they_are, metric=[*ENERGY, *OVERLAPS, *NULLS])
    wanted = ["W_out", "W_in", "resid_post"]
    found = found[found["module"].isin(wanted) & (found["index"].isna() | (found["index"] == 1))]
    edits = [name for name, _ in REMOVED.values()]
    both = pd.concat([found, changed(table, edits, metric="refused", family="unsafe")])
    return having(both.dropna(subset="value"), "shift_energy")


def draw(rows: pd.DataFrame) -> Figure:
    """A column for each model: energies and overlaps against layer, refusals by what is removed."""
    names = models(rows)
    labels = ["share of the first\ncomponent", "cosine with the\nrefusal direction", "unsafe prompts\nrefused"]
    figure, axes = panels(names, labels, ["layer", "layer", ""], height=1.0, least=0.9)
    for (energies, overlaps, removal), model in zip(axes.T, names, strict=True):
        here = select(rows, node=model)
        for metric, (look, label) in ENERGY.items():
            seeds_and_mean(energies, select(here, metric=metric), "layer", look, label)
        mean_only(energies, select(here, metric=METRICS["shift_energy"].null.mean), "layer", "by chance")
        for metric, (where, look, label) in OVERLAPS.items():
            seeds_and_mean(overlaps, select(here, metric=metric, **where), "layer", look, label)
        reads = select(here, metric="change_overlap", module="W_in", index=1)
        seeds_and_mean(overlaps, reads, "layer", READ, "dW of W_in, first")
        mean_only(overlaps, select(here, metric=METRICS["shift_overlap"].null.mean), "layer", "by chance")
        _removal(removal, here)
        for axis in (energies, overlaps):
            whole_layers(axis, select(here, metric=[*ENERGY, *OVERLAPS]))
            axis.set_ylim(0, 1.05)
    legend(figure, axes)
    note(figure, f"{seed_note(rows)}; by chance: the share in random shifts, the cosine of random directions")
    return figure


def _removal(axis: Axes, rows: pd.DataFrame) -> None:
    for i, (name, strength) in enumerate(REMOVED.values()):
        found = select(rows, metric="refused", intervention=name, strength=strength)
        control = strength == 0 or "random" in name
        axis.plot([i] * len(found), found["value"], ".", color=NEUTRAL if control else BLUE, ms=3)
    axis.set_xticks(range(len(REMOVED)), list(REMOVED))
    axis.set_ylim(-0.05, 1.05)
    turn(axis)
