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
from experiments.findings.results import sample_note, select, tuned
from synth.families import JAILBREAKS

BEHAVIOUR = {"safe": ("complied", "safe: complied"), "unsafe": ("refused", "unsafe: refused")}
PARTS = {
    "all": ("only W_in", None),
    "in columns": ("only columns", "random columns scaled"),
    "outside": ("without columns", "without random columns scaled"),
    "no top 1": ("without top 1", "without random 1"),
    "no top 2": ("without top 2", "without random 2"),
    "no top 4": ("without top 4", "without random 4"),
}
"""What is kept of dW of W_in, and the control of it."""
UNTUNED = "alpha 0"
PATCHES = [f"patch {kind}to {goal}" for goal in ("tuned", "untuned") for kind in ("", "random ")]


def alpha_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Compliance, of unsafe prompts refusal, of W + alpha dW."""
    found = table[table["variant"].str.startswith("alpha ", na=False)]
    unsafe = found["family"] == "unsafe"
    return found[(unsafe & (found["metric"] == "refused")) | (~unsafe & (found["metric"] == "complied"))]


def draw_alpha(rows: pd.DataFrame) -> Figure:
    """A panel a method: lines are means over seeds, bands their range."""
    rows = rows.assign(alpha=rows["variant"].str.removeprefix("alpha ").astype(float))
    names = tuned(rows)
    figure, axes = panels(names, ["share of prompts"], r"$\alpha$ of $W + \alpha \Delta W$", height=1.6)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, method=model)
        for family, look in looks([*BEHAVIOUR, *(f for f in JAILBREAKS if f in set(rows["family"]))]).items():
            _, label = BEHAVIOUR.get(family, ("", f"{family}: complied"))
            _line(axis, select(here, family=family), "alpha", look, label)
        axis.axvline(1, color=DARK, linewidth=0.6, linestyle=":")
        axis.set_ylim(-0.03, 1.03)
    legend(figure, axes)
    note(figure, f"0 is the untuned model, 1 the tuned one; bands: range over {sample_note(rows, 'prompts')}")
    return figure


def part_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Log odds of compliance with unsafe prompts, of models that have only a part of dW of W_in."""
    kept = [UNTUNED, *(name for pair in PARTS.values() for name in pair if name)]
    found = select(table, metric="log_odds", family="unsafe", variant=kept).dropna(subset="value")
    found = found[found["module"] != "W_out"] if len(found) else found
    return found if set(found["variant"]) - {UNTUNED} else found.head(0)


def draw_parts(rows: pd.DataFrame) -> Figure:
    """Against the untuned model of the same seed: marks are means over seeds, bars their range."""
    names = tuned(rows)
    label = "change of log odds\nof compliance, unsafe"
    figure, axes = panels(names, [label], "", height=1.9)
    for axis, model in zip(axes[0], names, strict=True):
        by_variant = select(rows, method=model).pivot(index="seed", columns="variant", values="value")
        change = by_variant.sub(by_variant.reindex(columns=[UNTUNED])[UNTUNED], axis=0)
        axis.axhline(0, color=DARK, linewidth=0.8, linestyle=":", label="untuned model")
        for i, (part, control) in enumerate(PARTS.values()):
            kept = (part, -0.14, UNSAFE, "o", "what is kept of ΔW of W_in")
            random = (control, 0.14, DARK, "x", "the same of random directions")
            for variant, shift, colour, marker, meaning in (kept, random):
                if variant in change:
                    values = change[variant]
                    axis.plot([i + shift] * 2, [values.min(), values.max()], color=colour, linewidth=1)
                    axis.plot(i + shift, values.mean(), marker, color=colour, markersize=3.5, label=meaning)
        axis.set_xticks(range(len(PARTS)), list(PARTS), rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
    legend(figure, axes)
    note(figure, f"bars: range over {sample_note(rows, 'prompts')}")
    return figure


def patch_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Refusal of unsafe prompts with activations patched in one layer."""
    return select(table, metric="refused", family="unsafe", variant=PATCHES).dropna(subset="value")


def draw_patches(rows: pd.DataFrame) -> Figure:
    """Along the cluster axis and along random ones: lines are means over seeds, bands their range."""
    names = tuned(rows)
    figure, axes = panels(names, ["unsafe prompts\nrefused"], "layer patched", height=1.4)
    for axis, model in zip(axes[0], names, strict=True):
        here = select(rows, method=model)
        for goal, dashes in (("tuned", "-"), ("untuned", "--")):
            for kind, colour, label, marker in (
                ("", UNSAFE, "cluster axis", "o"),
                ("random ", NEUTRAL, "random axis", "x"),
            ):
                found = select(here, variant=f"patch {kind}to {goal}")
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
