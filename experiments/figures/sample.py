"""dW a of one prompt by neuron, the most aligned with dW's first direction first (cf. Figs. A.39-42 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import DARK, having, legend, looks, note, panels
from experiments.findings.results import seed_note, select, tuned, unchanged

METRIC, NULL = "neuron_sample", "neuron_effect_mean"


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Signed effects on the first prompt of each family, and the mean size over all neurons and prompts; last layer."""
    found = select(unchanged(table), metric=[METRIC, NULL]).dropna(subset="value")
    found = select(found, layer=found["layer"].max())
    return having(select(found, family=sorted(set(select(found, metric=METRIC)["family"]))), METRIC)


def draw(rows: pd.DataFrame) -> Figure:
    """A line of panels for each family; marks are neurons and seeds; dotted: the mean size over all of them."""
    names, lines = tuned(rows), looks(sorted(set(rows["family"]), key=_order))
    figure, axes = panels(names, [f"{family}\n{METRICS[METRIC].label}" for family in lines], r"neuron $j$", height=0.95)
    for line, (family, look) in zip(axes, lines.items(), strict=True):
        for axis, model in zip(line, names, strict=True):
            here = select(rows, node=model, family=family)
            for i, (_, seed) in enumerate(select(here, metric=METRIC).groupby("seed")):
                of_family = family if i == 0 else None
                axis.plot(
                    seed["index"].to_numpy(float),
                    seed["value"],
                    look.marker,
                    color=look.color,
                    ms=1.6,
                    alpha=0.7,
                    label=of_family,
                )
            level = select(here, metric=NULL)["value"].mean()
            for height in (-level, level):
                axis.axhline(height, color=DARK, linestyle=":", linewidth=0.8, label="mean size, all neurons")
    legend(figure, axes)
    note(
        figure,
        f"W_in, layer {int(rows['layer'].max())}; the first prompt of each family, at unit length; {seed_note(rows)}",
    )
    return figure


def _order(family: str) -> tuple[bool, bool, str]:
    return family != "safe", family != "unsafe", family
