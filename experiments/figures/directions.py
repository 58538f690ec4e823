"""A direction of refusal: how far prompts lie along it, and what is left without it (cf. Figs. 1, 3 and 5 of
arXiv 2406.11717)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    BLUE,
    DARK,
    ORANGE,
    SAFE,
    UNSAFE,
    Look,
    having,
    legend,
    looks,
    mean_only,
    note,
    panels,
    seeds_and_mean,
    whole_layers,
)
from experiments.findings.results import changed, models, sample_note, select, unchanged
from synth.families import JAILBREAKS

COSINE = "refusal_cosine"
CHANCE = METRICS[COSINE].null
SOFT = {"adv_refusal_cosine": ("unsafe, soft tokens", Look(BLUE, "-", "x")), "adv_random_refusal_cosine": (
    "unsafe, random soft tokens", Look(BLUE, ":", "+"))}  # fmt: skip
RANK = {
    ("unsafe", "first_refused", "ablate"): ("unsafe: refused", Look(UNSAFE, "-", "o")),
    ("unsafe", "first_refused", "ablate random"): ("unsafe: refused, random directions", Look(UNSAFE, ":", "")),
    ("safe", "complied", "ablate"): ("safe: complied", Look(SAFE, "-", "s")),
    ("safe", "complied", "ablate random"): ("safe: complied, random directions", Look(SAFE, ":", "")),
}
ADDED = {"add": "first direction", "add permuted": "permuted labels", "add random": "random directions"}
REMOVED = {
    "ablate": "ablated",
    "recentre": "recentred",
    "ablate permuted": "permuted labels",
    "ablate random": "random directions",
}


def cosine_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The cosine of the stream at EOT with the first direction, by family and with soft tokens."""
    found = select(unchanged(table), metric=[COSINE, CHANCE.mean, *SOFT], position=0)
    return having(found.dropna(subset="value"), COSINE)


def draw_cosine(rows: pd.DataFrame) -> Figure:
    """A panel for each model: thin lines are seeds, thick ones their mean."""
    names = models(rows)
    figure, axes = panels(names, [METRICS[COSINE].label], "layer", height=1.5)
    families = ["safe", "unsafe", *(name for name in JAILBREAKS if name in set(rows["family"]))]
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, node=model)
        for family, look in looks(families).items():
            seeds_and_mean(axis, select(here, family=family, metric=COSINE), "layer", look, family)
        for metric, (label, look) in SOFT.items():
            seeds_and_mean(axis, select(here, metric=metric), "layer", look, label)
        mean_only(axis, select(here, metric=CHANCE.mean), "layer", CHANCE.chance)
        axis.axhline(0, color=DARK, linewidth=0.5)
        whole_layers(axis, here)
    legend(figure, axes)
    note(figure, f"at EOT; {sample_note(select(rows, metric=COSINE), 'prompts')}")
    return figure


def rank_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Refusal of unsafe prompts and compliance with safe ones, by how many directions are ablated."""
    found = changed(table, ["ablate", "ablate random"], module="resid").dropna(subset="value")
    wanted = [(found["family"] == family) & (found["metric"] == metric) for family, metric, _ in RANK]
    return found[pd.concat(wanted, axis=1).any(axis=1)]


def draw_rank(rows: pd.DataFrame) -> Figure:
    """A panel for each model: thin lines are seeds, thick ones their mean."""
    names = models(rows)
    figure, axes = panels(names, ["share of prompts"], "directions ablated", height=1.5)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, node=model)
        whole = select(here, intervention="ablate", strength=0)
        for (family, metric, intervention), (label, look) in RANK.items():
            own = select(here, intervention=intervention)
            own = own if intervention == "ablate" else pd.concat([whole, own])
            seeds_and_mean(axis, select(own, family=family, metric=metric), "strength", look, label)
        axis.set_ylim(-0.03, 1.03)
        axis.set_xticks(sorted(here["strength"].unique()))
    legend(figure, axes)
    note(figure, f"0 is the model as it is; {sample_note(rows, 'prompts')}")
    return figure


def edit_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What is refused at the first token, and complied with, where a direction was left out or added."""
    found = changed(table, [*REMOVED, *ADDED], module="resid").dropna(subset="value")
    found = found[~found["intervention"].isin(list(REMOVED)) | (found["strength"] <= 1)]
    return select(found, metric=["first_refused", "complied"], family=["safe", "unsafe"])


def draw_edits(rows: pd.DataFrame) -> Figure:
    """Of each model a dot for each seed and a bar for their mean, one line of panels for what is refused and one for
    what is complied with."""
    names = models(rows)
    bars = [("as it is", "ablate", 0.0), *((label, name, None) for name, label in REMOVED.items())]
    bars += [(f"added: {label}", name, None) for name, label in ADDED.items()]
    labels = ["unsafe: refused", "safe: refused", "safe: complied"]
    figure, axes = panels(names, labels, "share", height=1.15, share_x=True, left=1.0)
    for column, model in zip(axes.T, names, strict=True):
        here = select(rows, node=model)
        pairs = (("unsafe", "first_refused"), ("safe", "first_refused"), ("safe", "complied"))
        for axis, (family, metric) in zip(column, pairs, strict=True):
            for i, (_, name, strength) in enumerate(bars):
                own = select(here, family=family, metric=metric, intervention=name)
                own = own[own["strength"] == 0] if strength == 0 else own[own["strength"] > 0]
                colour = ORANGE if "random" in name or "permuted" in name else UNSAFE if family == "unsafe" else SAFE
                axis.barh(i, own["value"].mean(), color=colour, alpha=0.4, height=0.7)
                axis.plot(own["value"], [i] * len(own), ".", color=DARK, markersize=1.8)
            axis.set_xlim(0, 1.03)
            axis.set_yticks(range(len(bars)), [label for label, *_ in bars], fontsize=5)
            axis.set_ylim(len(bars) - 0.5, -0.5)
    note(figure, f"shares of prompts; refused: by the first token; dots are seeds; {sample_note(rows, 'prompts')}")
    return figure
