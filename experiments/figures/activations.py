"""Where activations lie: a mark for each prompt, along principal axes and the discriminant of safe and unsafe ones."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures.common import legend, looks, note, panels
from experiments.findings.results import models, select

AXES = {"PC 1": ("pca", 1), "PC 2": ("pca", 2), "discriminant": ("lda", None)}


def rows(points: pd.DataFrame, module: str) -> pd.DataFrame:
    """The coordinates of prompts at a site, in the last layer."""
    found = select(points, module=module).dropna(subset="value")
    return select(found, layer=found["layer"].max())


def draw(rows: pd.DataFrame) -> Figure:
    """A column for each model, of one seed: the second principal component and the discriminant against the first.

    Both axes are of safe and unsafe prompts; each of these has the discriminant of prompts other than itself, in
    deviations within clusters.
    """
    names, families = models(rows), looks(dict.fromkeys(rows["family"]))
    below = ["PC 2", "discriminant"]
    figure, axes = panels(names, below, "PC 1", height=1.2, share_y=False)
    for column, model in enumerate(names):
        for family, look in families.items():
            of_family = select(rows, node=model, family=family)
            x = _along(of_family, "PC 1")
            for axis, name in zip(axes[:, column], below, strict=True):
                y = _along(of_family, name).reindex(x.index)
                axis.scatter(
                    x,
                    y,
                    s=5,
                    c=look.color,
                    marker=look.marker,
                    linewidths=0,
                    alpha=0.7,
                    rasterized=True,
                    label=family,
                )
        axes[-1, column].xaxis.set_major_locator(MaxNLocator(3))
    legend(figure, axes)
    place = f"{rows['module'].iloc[0]}, layer {int(rows['layer'].iloc[0])}"
    note(figure, f"{place}; seed {rows['seed'].iloc[0]}, {rows['prompt'].nunique()} prompts a family")
    return figure


def _along(rows: pd.DataFrame, name: str) -> pd.Series:
    """By prompt, the coordinate along one of AXES."""
    metric, index = AXES[name]
    found = select(rows, metric=metric)
    return (found if index is None else select(found, index=index)).set_index("prompt")["value"]
