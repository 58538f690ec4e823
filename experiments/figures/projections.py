"""How far prompts reach along dW's right singular vectors (cf. Figs. 5 and A.34-37 of the paper)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.metrics import METRICS
from experiments.figures.common import FAMILIES, having, legend, looks, mean_only, note, panels, seeds_and_mean
from experiments.findings.results import sample_note, select, tuned, unchanged
from synth.families import JAILBREAKS

METRIC = "projection_abs"
NULL = METRICS[METRIC].null


def rows(table: pd.DataFrame, module: str, jailbreaks: bool) -> pd.DataFrame:
    """|sigma_i v_i . a| of the last layer and its control, of safe and unsafe prompts, and of jailbreaks or not."""
    of = [*FAMILIES, *(JAILBREAKS if jailbreaks else ())]
    found = select(unchanged(table), metric=[METRIC, NULL.mean], module=module, family=of).dropna(subset="value")
    found = having(select(found, layer=found["layer"].max()), METRIC)
    return found.head(0) if jailbreaks and set(found["family"]) <= set(FAMILIES) else found


def draw(rows: pd.DataFrame) -> Figure:
    """A line for each family: the mean over seeds, and of safe and unsafe alone each seed, thin."""
    measured, null = (select(rows, metric=metric) for metric in (METRIC, NULL.mean))
    names, lines = tuned(rows), looks(dict.fromkeys(measured["family"]))
    figure, axes = panels(names, [f"mean {METRICS[METRIC].label}"], r"singular vector $i$", height=1.5, share_y=False)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(measured, node=model)
        for family, look in lines.items():
            one = select(here, family=family)
            if len(lines) > len(FAMILIES):
                mean = one.groupby("index")["value"].mean()
                axis.plot(mean.index.astype(int), mean, linestyle=look.linestyle, color=look.color, label=family)
            else:
                seeds_and_mean(axis, one, "index", look, family, marks=False)
        mean_only(axis, select(null, node=model, family=list(FAMILIES)), "index", NULL.chance)
        axis.set_xticks([1, 5, 10, 15] if here["index"].max() >= 15 else sorted(here["index"].unique()))
        axis.set_ylim(0, None)
    legend(figure, axes)
    note(figure, f"{rows['module'].iloc[0]}, layer {int(rows['layer'].max())}; {sample_note(measured, 'prompts')}")
    return figure
