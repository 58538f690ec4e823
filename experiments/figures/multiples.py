"""What a model holds under W + alpha dW (cf. Figs. A.76-85 of the paper)."""

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import BLUE, DARK, FAMILIES, Look, having, legend, note, panels, seeds_and_mean
from experiments.findings.results import changed, sample_note, select, tuned

SHOWN = ("separation_scaled", "fisher", "spectral_share", "activation_angle", "lipschitz")
LETTERS = 11
"""In a line of a label"""
BOTH = Look(BLUE, "-", "D")


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Statistics of the last layer, and Lipschitzness, of multiples of dW; of safe and unsafe prompts."""
    found = changed(table, "alpha", metric=list(SHOWN)).dropna(subset="value")
    found = found[found["family"].isna() | found["family"].isin(list(FAMILIES))]
    return having(found[found["layer"].isna() | (found["layer"] == found["layer"].max())], "separation_scaled")


def draw(rows: pd.DataFrame) -> Figure:
    """A panel for each statistic and model: thin lines are seeds, thick ones their mean; 0 is the untuned model."""
    names, metrics = tuned(rows), [metric for metric in SHOWN if metric in set(rows["metric"])]
    xlabel = r"$\alpha$ of $W + \alpha \Delta W$"
    labels = [textwrap.fill(METRICS[metric].label, LETTERS, break_long_words=False) for metric in metrics]
    figure, axes = panels(names, labels, xlabel, height=0.95, share_y=False)
    for line, metric in zip(axes, metrics, strict=True):
        for axis, model in zip(line, names, strict=True):
            here = select(rows, node=model, metric=metric)
            if metric in ("separation_scaled", "fisher"):
                seeds_and_mean(axis, here, "strength", BOTH, "safe against unsafe")
            else:
                for family, look in FAMILIES.items():
                    seeds_and_mean(axis, select(here, family=family), "strength", look, family)
            axis.axvline(1, color=DARK, linewidth=0.6, linestyle=":")
    legend(figure, axes)
    at = (
        f"{rows['module'].dropna().iloc[0]}, layer {int(rows['layer'].max())}; {sample_note(rows, 'prompts or angles')}"
    )
    note(figure, f"{at}; 0 is the untuned model, 1 the tuned one; the scale differs between panels")
    return figure
