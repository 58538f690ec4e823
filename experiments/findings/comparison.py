"""Two finished studies side by side: differing settings, outcomes with intervals, changed verdicts."""

from typing import Any, NamedTuple

import pandas as pd

from analysis.stats import Paired, Unpaired, holm, paired_test, welch_test
from experiments.settings.names import UNTOUCHED
from experiments.settings.schema import SIDE_SETTINGS

KEYS = ["cell", "statistic", "node"]


class Finished(NamedTuple):
    """What is compared of a study."""

    settings: dict[str, Any]
    """Of the whole study, by full name"""
    cells: dict[str, dict[str, Any]]
    """What a sweep sets in each of its cells; a study without a sweep has one cell, named ''"""
    outcomes: pd.DataFrame
    """Columns cell, node, seed, statistic, value, and resolution: the least difference that values can have"""
    models: dict[str, dict[str, dict[str, str]]]
    """By cell and model, the names of the artifacts of its weights and of its measurements"""
    claims: dict[tuple[str, str, str], dict[str, Any]]
    """Verdicts by cell, paper and claim"""


class Changed(NamedTuple):
    """A setting, or a claim's verdict, that is not the same."""

    cell: str
    name: str
    a: Any
    b: Any
    about: str = ""
    paper: str = ""
    """Of a claim"""


def settings(a: Finished, b: Finished) -> list[Changed]:
    """The settings that differ and may change a result: of the studies, then of cells of the same name."""
    pairs = [("", a.settings, b.settings)]
    pairs += [(cell, a.cells[cell], b.cells[cell]) for cell in a.cells if cell in b.cells]
    return [
        Changed(cell, name, ours.get(name), theirs.get(name))
        for cell, ours, theirs in pairs
        for name in {**ours, **theirs}
        # An empty dictionary stands for settings that the other study has by name.
        if {} not in (ours.get(name), theirs.get(name))
        and ours.get(name) != theirs.get(name)
        and name.split(".")[0] not in SIDE_SETTINGS
    ]


def outcomes(a: Finished, b: Finished) -> pd.DataFrame:
    """B - A of every outcome of every model that both have in cells of the same name.

    Columns cell, statistic, node, a, b (means over the seeds compared), difference, low, high (of
    its 95 % interval, not corrected), p, p_holm (over all rows), paired, n_a, n_b (seeds). Where
    both descend from the same pretrained models, seeds are compared within themselves, else by
    Welch's test. Models that are the same in both are left out: no difference of theirs is one.
    """
    ours, theirs = (_by_key(study.outcomes) for study in (a, b))
    rows = []
    for key in ours:
        cell, _, node = key
        if key in theirs and not same_model(a, b, cell, node):
            paired = same_model(a, b, cell, UNTOUCHED, "weights")
            rows.append({**dict(zip(KEYS, key, strict=True)), **_compared(ours[key], theirs[key], paired)})
    columns = [*KEYS, "a", "b", "difference", "low", "high", "p", "p_holm", "paired", "n_a", "n_b"]
    table = pd.DataFrame(rows, columns=[name for name in columns if name != "p_holm"])
    table.insert(columns.index("p_holm"), "p_holm", holm(table["p"].to_numpy(float)))
    # Cells of one outcome and model below each other, all in the order of the study.
    order = {name: {value: i for i, value in enumerate(table[name].unique())} for name in KEYS}
    table = table.sort_values(
        ["statistic", "node", "cell"], key=lambda column: column.map(order[str(column.name)]), kind="stable"
    )
    return table.reset_index(drop=True)


def same_model(a: Finished, b: Finished, cell: str, model: str, *parts: str) -> bool:
    """Whether a model is one artifact in both studies, in `parts` (all of them: weights and measurements)."""
    ours, theirs = (study.models.get(cell, {}).get(model, {}) for study in (a, b))
    names = parts or ("weights", "measured")
    return all(name in ours and ours[name] == theirs.get(name) for name in names)


def verdicts(a: Finished, b: Finished) -> list[Changed]:
    """The claims on which both studies have a verdict, not the same one."""
    found = []
    for (cell, paper, claim), ours in a.claims.items():
        theirs = b.claims.get((cell, paper, claim), ours)
        if ours["verdict"] != theirs["verdict"]:
            about = f"{ours['source']}: {ours['sentence']}"
            found.append(Changed(cell, claim, ours["verdict"], theirs["verdict"], about, paper))
    return found


def _by_key(outcomes: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """Values and their resolution, by seed."""
    return {key: rows.set_index("seed") for key, rows in outcomes.dropna(subset="value").groupby(KEYS, sort=False)}


def _compared(a: pd.DataFrame, b: pd.DataFrame, paired: bool) -> dict[str, Any]:
    if paired:
        seeds = a.index.intersection(b.index)
        a, b = a.loc[seeds], b.loc[seeds]
    first, second = b["value"].to_numpy(float), a["value"].to_numpy(float)
    least = float(pd.concat([a["resolution"], b["resolution"]]).max())
    test: Paired | Unpaired = paired_test(first - second, least) if paired else welch_test(first, second, least)
    return {
        "a": a["value"].mean(),
        "b": b["value"].mean(),
        "difference": test.mean,
        "low": test.low,
        "high": test.high,
        "p": test.p,
        "paired": paired,
        "n_a": len(a),
        "n_b": len(b),
    }
