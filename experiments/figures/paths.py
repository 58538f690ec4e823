"""What lies between two tuned models, and what the dW of one does to another (cf. Figs. A.73-74 of the paper)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures.common import Look, legend, note, panels, seeds_and_mean
from experiments.findings.results import changed, sample_note, select, tuned
from synth.families import JAILBREAKS

KINDS = {
    "between": "part of the way to the other model's weights",
    "transfer": "share of the other model's ΔW that is added",
}
LINES = {"safe": ("complied", "safe\ncomplied"), "unsafe": ("refused", "unsafe\nrefused")}
ITSELF = {"intervention": "alpha", "strength": 1.0}
"""The model itself, on the prompts that paths are measured on"""


def rows(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Behaviour on the way of this kind, and at its ends."""
    found = changed(table, ["alpha", kind], metric=["complied", "refused"])
    on_way = select(found, intervention=kind)
    ends = select(found, node=list(dict.fromkeys(on_way["node"])), **ITSELF)
    both = pd.concat([on_way, ends])
    unsafe = both["family"] == "unsafe"
    return both[(unsafe & (both["metric"] == "refused")) | (~unsafe & (both["metric"] == "complied"))]


def draw(rows: pd.DataFrame, looks: Mapping[str, Look], kind: str) -> Figure:
    """A column for each model, a line for each other one; controls are models that were taught no safety."""
    on_way = select(rows, intervention=kind)
    ends = select(rows, **ITSELF)
    names = tuned(on_way)
    labels = [label for _, label in LINES.values()] + ["jailbreaks\ncomplied"]
    figure, axes = panels(names, labels, "weight", height=1.0)
    groups = [["safe"], ["unsafe"], list(JAILBREAKS)]
    for line, families in zip(axes, groups, strict=True):
        for axis, model in zip(line, names, strict=True):
            here = select(on_way, node=model, family=families)
            start = select(ends, node=model, family=families).assign(strength=0.0)
            for other in dict.fromkeys(here["other"]):
                way = [start, select(here, other=other)]
                if kind == "between":
                    way.append(select(ends, node=other, family=families).assign(strength=1.0))
                by_seed = pd.concat(way).groupby(["seed", "strength"])["value"].mean().reset_index()
                seeds_and_mean(axis, by_seed, "strength", looks[other], f"{_way(kind)} {other}")
            axis.set_ylim(-0.03, 1.03)
    legend(figure, axes)
    note(figure, f"weight: {KINDS[kind]}; thick: mean over {sample_note(rows, 'prompts')}")
    return figure


def _way(kind: str) -> str:
    return {"between": "to", "transfer": "with dW of"}[kind]
