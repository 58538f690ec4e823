"""Harmfulness beside refusal: their directions, where jailbreaks lie, and what each makes of safe prompts (arXiv
2507.11878)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    BLUE,
    NEUTRAL,
    ORANGE,
    PINK,
    SMALL,
    Look,
    legend,
    mean_only,
    note,
    panels,
    seeds_and_mean,
    turn,
    whole_layers,
)
from experiments.findings.claims.zhao2025 import EOT, TEXT
from experiments.findings.results import changed, models, seed_note, select, unchanged
from synth.families import JAILBREAKS

ACROSS = "harm_refuse_cosine_halves"
NULL = METRICS["harm_refuse_cosine"].null
PLACES = {TEXT: (Look(PINK, "--", "s"), "harmfulness, end of text"), EOT: (Look(BLUE, "-.", "^"), "refusal, EOT")}
STEERED = {
    "nothing": ("steer", None),
    "random": ("steer random", EOT),
    "harm": ("steer harm", EOT),
    "refuse": ("steer refuse", EOT),
    "harm, own": ("steer harm own", TEXT),
    "refuse, own": ("steer refuse own", EOT),
}
"""By label, an intervention and the position up to which it is"""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Cosines, sides of jailbreaks beside safe and unsafe prompts, and what steering does, of every model."""
    asked = ["safe", "unsafe", *JAILBREAKS]
    as_they_are = unchanged(table)
    found = [
        select(as_they_are, metric=[ACROSS, "halves_cosine", NULL.mean]),
        select(as_they_are, metric=["side_score", "side_score_successful"], family=asked),
        changed(table, [name for name, _ in STEERED.values()], metric="first_refused", family="safe"),
    ]
    whole = pd.concat(found)
    return whole.dropna(subset="value") if ACROSS in set(whole["metric"]) else whole.head(0)


def draw(rows: pd.DataFrame) -> Figure:
    """A column for each model: cosines against layer, jailbreaks by family, steering by what is added."""
    names, attacks = models(rows), [name for name in JAILBREAKS if name in set(rows["family"])]
    labels = ["cosine", "from unsafe, 0,\nto safe, 1", METRICS["first_refused"].label]
    figure, axes = panels(names, labels, ["layer", "", ""], height=1.0, least=0.95)
    for (cosines, sides, steering), model in zip(axes.T, names, strict=True):
        here = select(rows, node=model)
        _cosines(cosines, here)
        _sides(sides, here, attacks)
        _steering(steering, here)
    legend(figure, axes)
    note(figure, f"{seed_note(rows)}; hollow: jailbreaks that succeed; own: of its own length, up to where it was read")
    return figure


def _cosines(axis: Axes, rows: pd.DataFrame) -> None:
    across = select(rows, metric=ACROSS)
    seeds_and_mean(axis, across, "layer", Look(ORANGE, "-", "o"), "one with the other")
    for place, (look, label) in PLACES.items():
        seeds_and_mean(axis, select(rows, metric="halves_cosine", position=place), "layer", look, label)
    mean_only(axis, select(rows, metric=NULL.mean), "layer", NULL.chance)
    whole_layers(axis, across)
    axis.set_ylim(-1.05, 1.05)


def _sides(axis: Axes, rows: pd.DataFrame, attacks: list[str]) -> None:
    for shift, (place, (look, label)) in zip((-0.15, 0.15), PLACES.items(), strict=True):
        at = select(rows, position=place)
        mean = select(at, metric="side_score").groupby("family")["value"].mean()
        unsafe, safe = mean["unsafe"], mean["safe"]
        for metric, face in (("side_score", look.color), ("side_score_successful", "none")):
            found = select(at, metric=metric).groupby("family")["value"].mean().reindex(attacks)
            x = [i + shift for i in range(len(attacks))]
            way = (unsafe - found) / (unsafe - safe)
            axis.plot(
                x,
                way,
                look.marker,
                color=look.color,
                markerfacecolor=face,
                ms=3,
                label=label if face != "none" else None,
            )
    axis.axhline(0, color=NEUTRAL, lw=0.5)
    axis.axhline(1, color=NEUTRAL, lw=0.5)
    axis.set_ylim(-0.5, 1.5)
    axis.set_xticks(range(len(attacks)), attacks, fontsize=SMALL)
    turn(axis)


def _steering(axis: Axes, rows: pd.DataFrame) -> None:
    for i, (name, place) in enumerate(STEERED.values()):
        found = select(rows, intervention=name, metric="first_refused")
        found = found if place is None else select(found, position=place)
        grey = "random" in name or place is None
        axis.plot([i] * len(found), found["value"], ".", color=NEUTRAL if grey else BLUE, ms=3)
    axis.set_xticks(range(len(STEERED)), list(STEERED), fontsize=SMALL)
    axis.set_ylim(-0.05, 1.05)
    turn(axis)
