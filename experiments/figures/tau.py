"""Mean tau against layer, safe against unsafe prompts, for every model (cf. Fig. 3 of the paper)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import (
    DARK,
    FAMILIES,
    NEUTRAL,
    Look,
    legend,
    note,
    panels,
    seeds_and_mean,
    whole_layers,
)
from experiments.findings.results import models, sample_note, select, unchanged
from experiments.settings.names import UNTOUCHED

NULL = METRICS["separation"].null

WORLD = "paper"
LAYERS = (4, 5, 6)
PUBLISHED = {
    (UNTOUCHED, None): {"safe": (1.37, 1.10, 0.55), "unsafe": (-0.75, -0.40, -0.09)},
    ("unlearning", 1e-4): {"safe": (2.5, 18.6, 52.9), "unsafe": (-1.8, -14.0, -43.0)},
    ("dpo", 1e-4): {"safe": (2.6, 16.3, 38.1), "unsafe": (-1.4, -10.5, -25.2)},
    ("sft", 1e-4): {"safe": (1.6, 2.5, 1.9), "unsafe": (-0.8, -2.9, -0.9)},
    ("dpo", 1e-5): {"safe": (2.3, 7.0, 10.5), "unsafe": (-1.2, -2.2, -1.9)},
    ("sft", 1e-5): {"safe": (1.5, 1.6, 1.3), "unsafe": (-0.8, -0.7, -0.3)},
}
"""The paper's Fig. 3, read off its image, at LAYERS; by method and learning rate (of the untouched model, any)."""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Tau of both families in the paper's window, and what permuted labels give."""
    table = unchanged(table)
    tau = select(table, metric="tau", family=list(FAMILIES), module="mlp.post")
    null = select(table, metric=NULL.high, module="mlp.post")
    return pd.concat([tau, null]) if len(tau) else tau


def draw(rows: pd.DataFrame) -> Figure:
    """Thin lines are seeds, thick ones their mean; the band is where permuted labels end up."""
    tau, null = select(rows, metric="tau"), select(rows, metric=NULL.high)
    names = models(tau)
    figure, axes = panels(names, [METRICS["tau"].label], "layer", height=1.5, share_y=False)
    marked = False
    for axis, model in zip(axes[0], names, strict=True):
        here = select(tau, node=model)
        for family, look in FAMILIES.items():
            seeds_and_mean(axis, select(here, family=family), "layer", look, family)
        high = select(null, node=model).groupby("layer")["value"].mean() / 2
        axis.fill_between(high.index.astype(int), -high, high, color=NEUTRAL, alpha=0.5, lw=0, label=NULL.chance)
        marked |= _published(axis, here)
        whole_layers(axis, here)
    legend(figure, axes)
    text = f"{sample_note(tau, 'prompts')}; the scale differs between panels"
    note(figure, text + ("; published values are read off an image" if marked else ""))
    return figure


def _published(axis: Axes, tau: pd.DataFrame) -> bool:
    """Marks the paper's values if this is a model that it shows, in its world."""
    if set(tau["world"]) != {WORLD}:
        return False
    method, rate, there = tau["node"].iloc[0], tau["learning_rate"].iloc[0], set(tau["layer"])
    for (known, at), values in PUBLISHED.items():
        if known == method and (at is None or np.isclose(at, rate, rtol=1e-6)):
            for family, look in FAMILIES.items():
                at_layers = [(layer, v) for layer, v in zip(LAYERS, values[family], strict=True) if layer in there]
                if at_layers:
                    _crosses(axis, at_layers, look)
            return bool(there & set(LAYERS))
    return False


def _crosses(axis: Axes, at: list[tuple[int, float]], look: Look) -> None:
    x, y = zip(*at, strict=True)
    axis.plot(x, y, look.marker, color="none", markeredgecolor=DARK, markersize=5, markeredgewidth=0.8, zorder=3)
    axis.plot(x, y, "x", color=DARK, markersize=5, markeredgewidth=0.8, zorder=3, label="published")
