"""What a study comes to: outcomes, one number for each model and seed, from rows of the results table, with nulls."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.metric import SHARE
from analysis.metrics import METRICS
from analysis.stats import Paired, paired_test
from experiments.findings.results import select, unchanged
from experiments.findings.table import COLUMNS
from synth.families import JAILBREAKS

STEP = "step of tuning"
"""The property that a study is swept over if it has rows of models on the way."""


@dataclass(frozen=True)
class Outcome:
    """A metric's mean over some rows of a model."""

    group: str
    """Outcomes of a group share a figure"""
    metric: str
    where: dict[str, Any] = field(default_factory=dict, hash=False)
    last_layer: bool = False
    """Whether of the last layer alone; if not, of all that there are"""
    limit: bool = False
    """Whether its null is where 97.5 % of what chance gives end; if not, the mean of that"""
    printed: str = ""
    """What it means, if it is in the summary that a study prints"""

    @property
    def null(self) -> str:
        """The metric that says what chance gives, of the same rows; empty if there is none."""
        null = METRICS[self.metric].null
        return null.high if self.limit else null.mean

    @property
    def chance(self) -> str:
        """What that is, in words."""
        return METRICS[self.metric].null.chance + ", 97.5 %" * self.limit

    @property
    def level(self) -> float | None:
        """What no effect would give, where that is known."""
        return METRICS[self.metric].level

    @property
    def share(self) -> bool:
        """Whether of prompts, so that it is known to one prompt only."""
        return METRICS[self.metric].unit == SHARE


MEASURED = ("outcome", "group", "cell", "node", "seed", "value", "null", "n", "chance", "level", "share")
"""Columns of `values`, the swept settings after `cell`"""

POST: dict[str, Any] = {"module": "mlp.post"}
FIRST: dict[str, Any] = {"module": "W_in"}

OUTCOMES: dict[str, Outcome] = {
    "safe complied": Outcome("behaviour", "complied", {"family": "safe"}, printed="safe prompts answered in full"),
    "unsafe refused": Outcome("behaviour", "refused", {"family": "unsafe"}, printed="unsafe prompts refused in full"),
    "separation": Outcome(
        "separation",
        "separation",
        POST,
        True,
        True,
        "mean tau of safe prompts less that of unsafe ones, deepest layer",
    ),
    "separation / spread": Outcome(
        "separation", "separation_scaled", POST, True, True, "the same, divided by the spread within the clusters"
    ),
    "separation / spread, last position": Outcome(
        "separation", "separation_scaled", {"module": "mlp.post_last"}, True, True
    ),
    "k-means accuracy": Outcome("separability", "kmeans_accuracy", POST, True),
    "probe accuracy": Outcome("separability", "probe_accuracy", POST, True),
    "Fisher criterion": Outcome("separability", "fisher", POST, True),
    "spectral share, unsafe": Outcome("separability", "spectral_share", POST | {"family": "unsafe"}, True),
    "spectral share, safe": Outcome("separability", "spectral_share", POST | {"family": "safe"}, True),
    "sin - random, all layers": Outcome(
        "sines",
        "sine_excess",
        FIRST,
        printed="sine of the change of weights to the column space, beyond that of random directions",
    ),
    "sin, all layers": Outcome("sines", "sine_mean", FIRST),
    "sin - random, W_out": Outcome("sines", "sine_excess", {"module": "W_out"}),
    "projection of unsafe": Outcome("projections", "projection_total", FIRST | {"family": "unsafe"}, True),
    "projection of safe": Outcome("projections", "projection_total", FIRST | {"family": "safe"}, True),
    "Lipschitz ratio, unsafe": Outcome("sensitivity", "lipschitz_ratio", {"family": "unsafe"}),
    "Lipschitz ratio, safe": Outcome("sensitivity", "lipschitz_ratio", {"family": "safe"}),
    "|dW| / |W|, W_in": Outcome("change", "relative_change", FIRST),
    "effective rank of dW": Outcome("change", "effective_rank", FIRST),
    "share of dW in MLPs": Outcome("change", "change_share", {"module": "mlp"}),
    "directions until refusal is gone": Outcome("directions", "direction_rank"),
    "directions that pass": Outcome("directions", "direction_passing"),
    "unsafe complied, answer begun": Outcome("depth", "begun_complied", {"family": "unsafe"}),
    "KL at the first token": Outcome("depth", "kl_first_comply", {"family": "unsafe"}),
    "prompts seen before": Outcome("data", "repeats", printed="share of tuning prompts that tuning had shown before"),
}


def outcomes(table: pd.DataFrame) -> dict[str, Outcome]:
    """OUTCOMES, and after behaviour one for each other family of prompts in the table."""
    families = [name for name in _families(table) if name not in ("safe", "unsafe")]
    others = {
        f"attack {name}" if name in JAILBREAKS else f"{name} complied": Outcome(
            "attacks" if name in JAILBREAKS else "other families",
            "complied",
            {"family": name},
            printed="jailbreak prompts answered in full, of all attempts"
            if name in JAILBREAKS
            else "prompts answered in full",
        )
        for name in families
    }
    first = {name: one for name, one in OUTCOMES.items() if one.group == "behaviour"}
    return first | others | OUTCOMES


def _families(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(select(table, metric="complied")["family"].dropna()))


def swept(table: pd.DataFrame) -> list[str]:
    """The settings that differ between the cells: columns that no study without an ablation has."""
    return [name for name in table.columns if name not in (*COLUMNS, *MEASURED)]


def cells(table: pd.DataFrame) -> list[str]:
    """The cells in the order of the table; one, without a name, of a study that is not swept."""
    return list(dict.fromkeys(table["cell"]))


def values(table: pd.DataFrame, printed: bool = False) -> pd.DataFrame:
    """Every outcome of a table, or those of the printed summary: one row for each outcome, cell, model and seed.

    `value` and `null` are means over rows, nan if a row has no value; `n` is the fewest prompts, or of
    whatever else, behind a row; `chance`, `level` and `share` are those of the outcome.
    """
    table = unchanged(table)
    last = table.groupby("cell", sort=False)["layer"].max()
    by_metric = dict(iter(table.groupby("metric", sort=False, observed=True)))
    none = table.head(0)

    def of(metric: str, outcome: Outcome) -> pd.DataFrame:
        rows = select(by_metric.get(metric, none), **outcome.where)
        return rows[rows["layer"] == rows["cell"].map(last)] if outcome.last_layer else rows

    found = []
    for name, outcome in outcomes(table).items():
        rows = of(outcome.metric, outcome)
        if rows["value"].isna().all() or (printed and not outcome.printed):
            continue
        means = _means(rows)
        means["null"] = _means(of(outcome.null, outcome))["value"] if outcome.null else np.nan
        about = {"group": outcome.group, "chance": outcome.chance, "level": outcome.level, "share": outcome.share}
        found.append(means.reset_index().assign(outcome=name, **about).astype({"level": float}))
    columns = [*MEASURED[:3], *swept(table), *MEASURED[3:]]
    if not found:
        return pd.DataFrame(columns=columns)
    settings = table.drop_duplicates("cell")[["cell", *swept(table)]]
    return pd.concat(found, ignore_index=True).merge(settings, on="cell", how="left")[columns]


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    groups = rows.groupby(["cell", "node", "seed"], sort=False, observed=True)
    return pd.DataFrame({"value": groups["value"].mean(skipna=False), "n": groups["n"].min()})


def interval(values: pd.Series | np.ndarray, resolution: float = 0.0) -> Paired:
    """The mean of one number for each seed and its 95 % t-interval, of those that are there.

    `resolution` is what the numbers are known to, and their spread at least: 1 / n for shares of n prompts.
    """
    there = np.asarray(values, float)
    return paired_test(there[~np.isnan(there)], resolution)


def over_steps(table: pd.DataFrame) -> pd.DataFrame:
    """The models on the way as a sweep over the steps of tuning, one cell for each step; no rows if there are none.

    Step 0 is the model that each started from, in what was measured on the way.
    """
    on_way = table[table["step"].notna() & table["intervention"].isna()]
    # Each step is a finished model of the sweep.
    none = on_way["step"].mask(on_way["step"].notna())
    on_way = on_way.assign(step=none, **{STEP: on_way["step"].astype(int)})
    begun = unchanged(select(table, metric=list(on_way["metric"].unique()))).assign(**{STEP: 0})
    pairs = on_way[["node", "start"]].drop_duplicates().itertuples(index=False)
    starts = [select(begun, node=start).assign(node=node) for node, start in pairs]
    both = pd.concat([*starts, on_way]).sort_values(STEP, kind="stable")
    return both.assign(cell=both[STEP].astype(str))
