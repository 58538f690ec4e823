"""Distance between the cluster means against behaviour (cf. Figs. A.33 and A.52 of the paper)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import NEUTRAL, Look, having, legend, logarithmic, note, panels
from experiments.findings.results import models, sample_note, select, unchanged
from synth.families import JAILBREAKS

METRIC = "mean_distance"
NULL = METRICS[METRIC].null
LAYERS = 3
"""The last ones are drawn, as in the paper"""


def rows(table: pd.DataFrame, module: str) -> pd.DataFrame:
    """Distances in the last layers at a site, of permuted labels too, and compliance."""
    table = unchanged(table)
    distances = select(table, metric=[METRIC, NULL.high], module=module).dropna(subset="value")
    last = sorted(distances["layer"].unique())[-LAYERS:]
    complied = select(table, metric="complied", family=["safe", *JAILBREAKS])
    found = pd.concat([select(distances, layer=last), complied])
    return having(found, METRIC) if len(complied) else found.head(0)


def draw(rows: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Marks are models and seeds: compliance with safe prompts, and below with jailbreaks, the mean of the families."""
    distances = select(rows, metric=METRIC)
    layers = sorted(distances["layer"].unique())
    kinds = {"safe prompts\ncomplied": ["safe"], "jailbreaks\ncomplied": list(JAILBREAKS)}
    titles = [f"layer {layer}" for layer in layers]
    figure, axes = panels(titles, list(kinds), METRICS[METRIC].label, height=1.25, least=1.2)
    for line, families in zip(axes, kinds.values(), strict=True):
        of_families = select(rows, metric="complied", family=families)
        complied = of_families.groupby(["node", "seed"], sort=False)["value"].mean()
        for axis, layer in zip(line, layers, strict=True):
            null = select(rows, metric=NULL.high, layer=layer)["value"]
            axis.axvspan(null.min(), null.max(), color=NEUTRAL, alpha=0.4, lw=0, label=NULL.chance)
            at_layer = select(distances, layer=layer)
            for model in models(distances):
                x = select(at_layer, node=model).set_index("seed")["value"]
                look = looks[model]
                y = complied.get(model)
                if y is not None:
                    marker = look.marker or "o"
                    axis.plot(x, y.reindex(x.index), marker, color=look.color, mfc="none", markersize=4, label=model)
            logarithmic(axis)
            axis.set_ylim(-0.05, 1.05)
    legend(figure, axes)
    text = f"{distances['module'].iloc[0]}; band: where 97.5 % of {NULL.chance} end"
    note(figure, f"{text}, by model; {sample_note(select(rows, metric='complied'), 'prompts')}")
    return figure
