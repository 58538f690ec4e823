"""Effect of dW on the neurons most aligned with its first direction (cf. Fig. A.38 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import DARK, FAMILIES, having, legend, note, panels, seeds_and_mean
from experiments.findings.results import sample_note, select, tuned, unchanged

METRIC, NULL = "neuron_effect", "neuron_effect_mean"


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Mean |dW a| a neuron, the most aligned first, and over all neurons; last layer."""
    found = select(unchanged(table), metric=[METRIC, NULL], family=list(FAMILIES)).dropna(subset="value")
    return having(select(found, layer=found["layer"].max()), METRIC)


def draw(rows: pd.DataFrame) -> Figure:
    """Thin lines are seeds, thick ones their mean; level lines are the mean over all neurons."""
    names = tuned(rows)
    figure, axes = panels(names, [METRICS[METRIC].label], r"neuron $j$", height=1.5, share_y=False)
    for axis, model in zip(axes[0], names, strict=True):
        for family, look in FAMILIES.items():
            here = select(rows, node=model, family=family)
            seeds_and_mean(axis, select(here, metric=METRIC), "index", look, family, marks=False)
            level = select(here, metric=NULL)["value"].mean()
            width = 0.8 if look.linestyle == "-" else 1.6
            axis.axhline(level, color=DARK, linestyle=":", linewidth=width, label=f"{family}, all neurons")
        axis.set_ylim(0, None)
    legend(figure, axes)
    text = f"W_in, layer {int(rows['layer'].max())}, neurons by |cos| with the first direction"
    note(figure, f"{text}; {sample_note(rows, 'prompts')}")
    return figure
