"""Jailbreak prompts beside safe and unsafe ones, for one model (cf. Figs. 7 and A.45-49 of the paper)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    BLUE,
    DARK,
    FAMILIES,
    NEUTRAL,
    ORANGE,
    Look,
    legend,
    logarithmic,
    note,
    panels,
    seeds_and_mean,
    whole_layers,
)
from experiments.findings.results import sample_note, select, tuned, unchanged
from experiments.settings.names import UNTOUCHED
from synth.families import JAILBREAKS

TAU = ("tau", "tau_successful")
NULL = METRICS["separation"].null
QUANTILES = "lipschitz_quantile"
PROJECTION = "projection_abs"
CHANCE = METRICS[PROJECTION].null

ATTEMPTS = Look(BLUE, "-.", "^")
SUCCESSFUL = Look(ORANGE, (0, (1, 1)), "D")


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Tau, Lipschitzness and projections of every family, of one tuned model and the untouched one."""
    table = select(unchanged(table), family=[*FAMILIES, *JAILBREAKS, float("nan")])
    deepest = table["layer"].max()
    ours = table["node"] != UNTOUCHED
    parts = [
        select(table[ours], metric=[*TAU, NULL.high], module="mlp.post"),
        select(table, metric=QUANTILES),
        select(table[ours], metric=[PROJECTION, CHANCE.mean], module="W_in", layer=deepest),
    ]
    found = pd.concat([part.dropna(subset="value") for part in parts])
    return found if set(found["family"]) & set(JAILBREAKS) and TAU[0] in set(found["metric"]) else found.head(0)


def draw(rows: pd.DataFrame) -> Figure:
    """A column for each family: tau against layer, the share of prompts below a Lipschitzness, projections on dW."""
    attacks = [name for name in JAILBREAKS if name in set(rows["family"])]
    kinds = {
        METRICS["tau"].label: ("layer", _tau, TAU),
        "share of prompts\nbelow": ("Lipschitzness", _lipschitz, (QUANTILES,)),
        METRICS[PROJECTION].label: (r"vector $i$", _projections, (PROJECTION, CHANCE.mean)),
    }
    kinds = {label: kind for label, kind in kinds.items() if set(kind[2]) & set(rows["metric"])}
    titles = ["safe, unsafe", *attacks]
    figure, axes = panels(titles, list(kinds), [x for x, _, _ in kinds.values()], height=1.15)
    for line, (_, one, _) in zip(axes, kinds.values(), strict=True):
        for axis, attack in zip(line, [None, *attacks], strict=True):
            one(axis, rows, attack)
    legend(figure, axes)
    (model,) = tuned(rows)
    text = f"{model}; {sample_note(select(rows, metric=TAU[0]), 'prompts')}, of successful attacks as many as there are"
    note(figure, text)
    return figure


def _families(attack: str | None) -> dict[str, Look]:
    return {**FAMILIES, attack: ATTEMPTS} if attack else FAMILIES


def _label(family: str) -> str:
    return family if family in FAMILIES else "jailbreak, all attempts"


def _tau(axis: Axes, rows: pd.DataFrame, attack: str | None) -> None:
    for family, look in _families(attack).items():
        seeds_and_mean(axis, select(rows, metric=TAU[0], family=family), "layer", look, _label(family))
    successful = select(rows, metric=TAU[1], family=attack) if attack else rows.head(0)
    seeds_and_mean(axis, successful, "layer", SUCCESSFUL, "jailbreak, successful")
    high = select(rows, metric=NULL.high).groupby("layer")["value"].mean() / 2
    axis.fill_between(high.index.astype(int), -high, high, color=NEUTRAL, alpha=0.5, lw=0, label=NULL.chance)
    whole_layers(axis, select(rows, metric=TAU[0]))


def _lipschitz(axis: Axes, rows: pd.DataFrame, attack: str | None) -> None:
    (model,) = tuned(rows)
    found = select(rows, metric=QUANTILES)
    for family, look in _families(attack).items():
        at = select(found, family=family, node=model).groupby("index")["value"].mean()
        axis.plot(at, at.index.astype(float) / 100, **look._asdict(), markersize=2.5, label=_label(family))
    if attack:
        at = select(found, family=attack, node=UNTOUCHED).groupby("index")["value"].mean()
        axis.plot(at, at.index.astype(float) / 100, ":", color=DARK, linewidth=0.9, label="jailbreak, untouched model")
    logarithmic(axis)
    axis.set_ylim(0, 1)


def _projections(axis: Axes, rows: pd.DataFrame, attack: str | None) -> None:
    for family, look in _families(attack).items():
        here = select(rows, metric=PROJECTION, family=family)
        seeds_and_mean(axis, here, "index", look, _label(family), marks=False)
    chance = select(rows, metric=CHANCE.mean, family=attack or list(FAMILIES)).groupby("index")["value"].mean()
    axis.plot(chance.index.astype(int), chance, linestyle=(0, (1, 2)), color=DARK, linewidth=0.9, label=CHANCE.chance)
    axis.set_xticks([1, 5, 10, 15] if chance.index.max() >= 15 else chance.index)
    axis.set_ylim(0, None)
