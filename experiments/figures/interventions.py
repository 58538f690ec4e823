"""What multiples and parts of dW do, and patches along the cluster axis (cf. Figs. A.72 and A.75 of the paper)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.common import (
    DARK,
    NEUTRAL,
    UNSAFE,
    Look,
    legend,
    looks,
    note,
    panels,
    whole_layers,
)
from experiments.findings.results import changed, sample_note, select, tuned
from synth.families import JAILBREAKS

BEHAVIOUR = {"safe": ("complied", "safe: complied"), "unsafe": ("refused", "unsafe: refused")}
PARTS = {
    "all": ("only", None, None),
    "in columns": ("only columns", "random columns scaled", None),
    "outside": ("without columns", "without random columns scaled", None),
    "no top 1": ("without top", "without random", 1.0),
    "no top 2": ("without top", "without random", 2.0),
    "no top 4": ("without top", "without random", 4.0),
}
"""What is kept of dW of W_in, the control of it, and the strength of both."""
UNTUNED = {"intervention": "alpha", "strength": 0.0}
PATCHES = [f"patch {kind}to {goal}" for goal in ("tuned", "untuned") for kind in ("", "random ")]


def alpha_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Compliance, of unsafe prompts refusal, of W + alpha dW."""
    found = changed(table, "alpha")
    unsafe = found["family"] == "unsafe"
    return found[(unsafe & (found["metric"] == "refused")) | (~unsafe & (found["metric"] == "complied"))]


def draw_alpha(rows: pd.DataFrame) -> Figure:
    """A panel for each model: lines are means over seeds, bands their range."""
    names = tuned(rows)
    figure, axes = panels(names, ["share of prompts"], r"$\alpha$ of $W + \alpha \Delta W$", height=1.6)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, node=model)
        for family, look in looks([*BEHAVIOUR, *(f for f in JAILBREAKS if f in set(rows["family"]))]).items():
            _, label = BEHAVIOUR.get(family, ("", f"{family}: complied"))
            _line(axis, select(here, family=family), "strength", look, label)
        axis.axvline(1, color=DARK, linewidth=0.6, linestyle=":")
        axis.set_ylim(-0.03, 1.03)
    legend(figure, axes)
    note(figure, f"0 is the untuned model, 1 the tuned one; bands: range over {sample_note(rows, 'prompts')}")
    return figure


def part_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Log odds of compliance with unsafe prompts, of models that have only a part of dW of W_in."""
    names = [name for *pair, _ in PARTS.values() for name in pair if name]
    found = changed(table, ["alpha", *names], metric="log_odds", family="unsafe").dropna(subset="value")
    parts = pd.concat(_part(found, name, strength) for *pair, strength in PARTS.values() for name in pair if name)
    return pd.concat([select(found, **UNTUNED), parts]).sort_index() if len(parts) else parts


def _part(rows: pd.DataFrame, intervention: str | None, strength: float | None) -> pd.DataFrame:
    found = select(rows, intervention=intervention, module="W_in")
    return found if strength is None else select(found, strength=strength)


def draw_parts(rows: pd.DataFrame) -> Figure:
    """Against the untuned model of the same seed: marks are means over seeds, bars their range."""
    names = tuned(rows)
    label = "change of log odds\nof compliance, unsafe"
    figure, axes = panels(names, [label], "", height=1.9)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, node=model)
        start = select(here, **UNTUNED).set_index("seed")["value"]
        axis.axhline(0, color=DARK, linewidth=0.8, linestyle=":", label="untuned model")
        for i, (part, control, strength) in enumerate(PARTS.values()):
            kept = (part, -0.14, UNSAFE, "o", "what is kept of ΔW of W_in")
            random = (control, 0.14, DARK, "x", "the same of random directions")
            for name, shift, colour, marker, meaning in (kept, random):
                values = _part(here, name, strength).set_index("seed")["value"] - start
                if len(values):
                    axis.plot([i + shift] * 2, [values.min(), values.max()], color=colour, linewidth=1)
                    axis.plot(i + shift, values.mean(), marker, color=colour, markersize=3.5, label=meaning)
        axis.set_xticks(range(len(PARTS)), list(PARTS), rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
    legend(figure, axes)
    note(figure, f"bars: range over {sample_note(rows, 'prompts')}")
    return figure


def patch_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Refusal of unsafe prompts with activations patched in one layer."""
    return changed(table, PATCHES, metric="refused", family="unsafe").dropna(subset="value")


def draw_patches(rows: pd.DataFrame) -> Figure:
    """Along the cluster axis and along random ones: lines are means over seeds, bands their range."""
    names = tuned(rows)
    figure, axes = panels(names, ["unsafe prompts\nrefused"], "layer patched", height=1.4)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, node=model)
        for goal, dashes in (("tuned", "-"), ("untuned", "--")):
            for kind, colour, label, marker in (
                ("", UNSAFE, "cluster axis", "o"),
                ("random ", NEUTRAL, "random axis", "x"),
            ):
                found = select(here, intervention=f"patch {kind}to {goal}")
                _line(axis, found, "layer", Look(colour, dashes, marker), f"{label} to {goal}")
        axis.set_ylim(-0.03, 1.03)
        whole_layers(axis, rows)
    legend(figure, axes)
    note(figure, f"bands: range over {sample_note(rows, 'prompts')}")
    return figure


def _line(axis: Axes, rows: pd.DataFrame, by: str, look: Look, label: str) -> None:
    if rows.empty:
        return
    seeds = rows.groupby(by)["value"]
    mean = seeds.mean()
    x = mean.index.to_numpy(float)
    axis.fill_between(x, seeds.min(), seeds.max(), color=look.color, alpha=0.15, lw=0)
    axis.plot(x, mean, linestyle=look.linestyle, color=look.color, marker=look.marker, markersize=2.2, label=label)
