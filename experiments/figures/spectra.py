"""Singular values, sines and projections by their index, before, during and after tuning (cf. Figs. A.19-28)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import FAMILIES, having, legend, logarithmic, mean_only, note, panels
from experiments.findings.results import sample_note, seed_note, select, tuned, unchanged
from experiments.settings.names import UNTOUCHED


class Spectrum(NamedTuple):
    """A metric that has one value for each index."""

    metric: str
    xlabel: str
    module: str
    families: tuple[str | None, ...] = (None,)
    log: bool = False
    start: bool = False
    """Whether the untouched model has it"""
    most: int = 15


COVARIANCE = Spectrum("covariance_sigma", r"index $i$", "mlp.post", tuple(FAMILIES), True, True)
SINES = Spectrum("sine_sorted", "index, sorted", "W_in", most=10**6)
PROJECTIONS = Spectrum("projection_abs", r"vector $i$", "W_in", tuple(FAMILIES))


def rows(table: pd.DataFrame, spectrum: Spectrum, steps: bool) -> pd.DataFrame:
    """The spectrum in the last layer, of finished models, and of those on the way too if `steps`."""
    metrics = [spectrum.metric, METRICS[spectrum.metric].null.mean]
    found = select(table, metric=metrics, module=spectrum.module).dropna(subset="value")
    if spectrum.families != (None,):
        found = select(found, family=list(spectrum.families))
    found = found[found["intervention"].isna() & (found["index"] <= spectrum.most)]
    on_way = found["step"].notna()
    found = found if steps else found[~on_way]
    found = having(select(found, layer=found["layer"].max()), spectrum.metric)
    return found.head(0) if steps and not on_way.any() else found


def draw(rows: pd.DataFrame, spectrum: Spectrum) -> Figure:
    """Means over seeds, one line for each step: the later the darker, the finished model in colour."""
    names = tuned(rows)
    measured = select(rows, metric=spectrum.metric)
    metric = METRICS[spectrum.metric]
    labels = [f"{metric.label}\n{family}" if family else metric.label for family in spectrum.families]
    figure, axes = panels(names, labels, spectrum.xlabel, height=1.25)
    for line, family in zip(axes, spectrum.families, strict=True):
        of_family = measured if family is None else select(measured, family=family)
        for axis, model in zip(line, names, strict=True):
            here = select(of_family, node=model)
            steps = sorted(set(here["step"].dropna()))
            stages = [(f"step {step}", select(here, step=step)) for step in steps]
            before = select(of_family, node=UNTOUCHED)
            stages = [("untouched", unchanged(before))] * spectrum.start + stages
            greys = plt.get_cmap("Greys")(np.linspace(0.4, 0.9, max(1, len(stages))))
            for (label, stage), grey in zip(stages, greys, strict=True):
                mean = stage.groupby("index")["value"].mean()
                axis.plot(mean.index.to_numpy(float), mean, color=grey, linewidth=1, label=label)
            look = FAMILIES[family or "unsafe"]
            last = unchanged(here)
            for _, of_seed in last.groupby("seed"):
                axis.plot(
                    of_seed["index"].to_numpy(float), of_seed["value"], color=look.color, linewidth=0.5, alpha=0.6
                )
            mean = last.groupby("index")["value"].mean()
            name = f"{family or 'tuned'}, tuned" if family else "tuned"
            axis.plot(mean.index.to_numpy(float), mean, linestyle=look.linestyle, color=look.color, label=name)
            null = select(unchanged(rows), metric=metric.null.mean, node=model)
            mean_only(axis, null if family is None else select(null, family=family), "index", metric.null.chance)
            if spectrum.log:
                logarithmic(axis, vertical=True)
    legend(figure, axes)
    where = f"{spectrum.module}, layer {int(rows['layer'].max())}"
    count = sample_note(measured, "prompts") if spectrum.families != (None,) else seed_note(measured)
    note(figure, f"{where}; thick: means over {count}; thin: the tuned model's seeds; dotted: {metric.null.chance}")
    return figure
