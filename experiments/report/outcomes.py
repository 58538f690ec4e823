"""The results table as the page shows it: one row for each place and metric, with every seed and a control."""

from typing import Any

import numpy as np
import pandas as pd

from experiments.report import controls
from experiments.report.folder import Study
from experiments.settings.names import RANDOM, UNTOUCHED

LIMIT = 16_000
"""Rows on the page."""

CHANGED = ["intervention", "strength", "other", "step"]
PLACE = ["cell", "metric", "node", "family", "layer", "module", "position", *CHANGED]
FIRST_SITES = ("", "mlp.post", "mlp.post_last", "resid_post_last", "W_in")
FIRST_METRICS = (
    "complied", "refused", "neither", "log_odds", "separation", "separation_scaled", "probe_accuracy",
    "kmeans_accuracy", "tau", "sine_mean", "sine_excess", "projection_total", "lipschitz", "lipschitz_ratio",
    "adv_complied", "relative_change",
)  # fmt: skip
"""What is looked for first."""

KINDS = (
    "the main metrics at the main sites",
    "other metrics at the main sites",
    "other sites",
    "models changed before measuring (interventions and paths) and snapshots",
)


def pack(study: Study) -> dict[str, Any]:
    """Columns of codes into lists of names, values by seed to four digits, n, control and its name.

    Kinds of rows that would exceed LIMIT are left out, the less looked-for first, and named in `left_out`.
    """
    seeds = study.seeds
    wide = _by_seed(study.table, seeds)
    shown, left_out = _within_limit(wide[~controls.is_control(wide["metric"])])
    shown = _with_controls(shown, wide, seeds)
    packed: dict[str, Any] = {"seeds": seeds, "rows": len(shown), "left_out": left_out}
    for name in PLACE:
        codes, names = pd.factorize(shown[name])
        packed[name] = {"names": [str(one) for one in names], "codes": codes.tolist()}
    order = {name: i for i, name in enumerate(study.nodes)}
    packed["node"]["order"] = [order[name] for name in packed["node"]["names"]]
    codes, names = pd.factorize(shown["control_name"])
    packed["control_name"] = {"names": names.tolist(), "codes": codes.tolist()}
    packed["control"] = _digits(shown["control"])
    packed["values"] = [_digits(shown[seed]) for seed in seeds]
    packed["n"] = shown["n"].tolist()
    return packed


def _by_seed(table: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
    """One row for each place: PLACE in words, a column for each seed, and the least n of them."""
    short = table["strength"].map("{:g}".format, na_action="ignore")
    named = table[PLACE].assign(strength=short).astype(object).fillna("").astype(str).reset_index(drop=True)
    which = named.groupby(PLACE, sort=False).ngroup().to_numpy()
    places = named[~pd.Series(which).duplicated()].reset_index(drop=True)
    values = np.full((len(places), len(seeds)), np.nan)
    values[which, np.searchsorted(seeds, table["seed"].to_numpy(int))] = table["value"].to_numpy(float)
    fewest = np.full(len(places), np.iinfo(np.int64).max)
    np.minimum.at(fewest, which, table["n"].to_numpy(np.int64))
    return places.join(pd.DataFrame(values, columns=pd.Index(seeds))).assign(n=fewest)


def _with_controls(rows: pd.DataFrame, wide: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
    """Beside each of `rows` its control's mean over seeds: its own, a random counterpart, or further training's."""
    there = dict(zip(zip(*(wide[name] for name in PLACE), strict=True), wide[seeds].mean(axis=1), strict=True))
    own, counterparts = controls.beside(wide["metric"]), controls.counterparts()
    values, names = [], []
    for cell, metric, model, family, layer, module, position, changed, *how in zip(
        *(rows[name] for name in PLACE), strict=True
    ):
        candidates, place = [], (family, layer, module, position)
        if metric in own:
            candidates.append(((cell, own[metric][0], model, *place, changed, *how), own[metric][1]))
        instead = counterparts.get(changed)
        if instead:
            candidates.append(((cell, metric, model, *place, instead, *how), instead))
        if model not in ("continued", UNTOUCHED, RANDOM):
            candidates.append(((cell, metric, "continued", *place, changed, *how), controls.FURTHER))
        value, name = next(((there[key], name) for key, name in candidates if key in there), (np.nan, ""))
        values.append(value)
        names.append(name)
    return rows.assign(control=np.array(values, float), control_name=np.array(names, object))


def _within_limit(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    main = rows["module"].isin(FIRST_SITES)
    changed = (rows["intervention"] != "") | (rows["step"] != "")
    kind = np.select([changed, ~main, ~rows["metric"].isin(FIRST_METRICS)], [3, 2, 1], 0)
    total = np.cumsum(np.bincount(kind, minlength=len(KINDS)))
    fits = max(1, int(np.count_nonzero(total <= LIMIT)))
    left_out = [KINDS[i] for i in range(fits, len(KINDS)) if np.any(kind == i)]
    rows = rows[kind < fits]
    if len(rows) > LIMIT:
        left_out.insert(0, f"the last {len(rows) - LIMIT} rows of {KINDS[0]}")
    return rows.head(LIMIT), left_out


def _digits(values: "pd.Series[float]") -> list[float | None]:
    """Rounded to four digits; None where there is no number."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.to_numpy(float)]
