"""The scorecard: which of the paper's claims hold in a world, which do not, and which cannot be told.

Effect is compared with control within each seed, averaged over the claim's methods; the
test is over seeds. A claim

- "holds" if the contrast has the claimed sign, its 95 % interval excludes none, and p is below
  0.05 after Holm's correction over all claims of the scorecard;
- "does not hold" if the interval excludes every contrast of the claimed sign above the margin:
  it lies on the other side, or within the margin of none;
- is "undecided" otherwise: too few seeds, too wide a spread, or rows that the table does not have.

A claim that two things are the same holds if the contrast lies within the margin (two one-sided
tests, Holm's correction likewise), and does not if its interval lies beyond. Margins belong to
the unit; no claim has its own.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from analysis.stats import Paired, equivalence_p, holm, paired_test, seeds_needed
from experiments.claims import CLAIMS, UNITS, Claim, MissingError, Results
from experiments.results import UNTOUCHED, select, unchanged
from experiments.table import swept

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
LEVEL = 0.05
ACROSS, RATE = "learning rate", "tuning.learning_rate"
"""The claim that compares cells, and the setting that it compares them by"""


@dataclass(frozen=True)
class Verdict:
    """What a table says of a claim. Numbers are nan where there are none."""

    claim: str
    source: str
    sentence: str
    verdict: str
    unit: str
    expects: str
    effect: float
    """Mean over seeds; the geometric mean where the unit is ratio"""
    control: float
    contrast: float
    """Effect - control; effect / control where the unit is ratio"""
    low: float
    """Of the contrast's 95 % interval, not corrected for the number of claims"""
    high: float
    margin: float
    """A contrast no further from none than this is as good as none"""
    n: int
    """Seeds that have both effect and control"""
    p: float
    p_holm: float
    effect_size: float
    """Cohen's d_z of effect - control, of their logarithms where the unit is ratio"""
    note: str
    """Which models it is of where some are missing; what is not in the table; why it is undecided"""


class _Compared(NamedTuple):
    pairs: pd.DataFrame
    """Columns effect and control on the unit's scale, a row a seed, the mean over methods"""
    note: str
    resolution: float
    read: np.ndarray
    """Which rows of the table they are from"""


def scorecard(table: pd.DataFrame) -> list[Verdict]:
    """A verdict on each of CLAIMS, in their order, from the results of one world and architecture."""
    return _verdicts(_compare_all(table))


def of_cells(table: pd.DataFrame) -> dict[str, list[Verdict]]:
    """The scorecard of every cell of a study, in the order of the table.

    ACROSS is judged for a cell beside those that differ from it in nothing but a lower learning
    rate; every other claim as if the cell were alone.
    """
    across, found = _across(table), {}
    for name, rows in table.groupby("cell", sort=False, observed=True):
        compared = _compare_all(rows)
        found[str(name)] = verdicts = _verdicts(compared)
        if name in across:
            beside = _verdicts({**compared, ACROSS: across[name]})
            found[str(name)] = [two if one.claim == ACROSS else one for one, two in zip(verdicts, beside, strict=True)]
    return found


def _across(table: pd.DataFrame) -> dict[object, _Compared]:
    """ACROSS in every cell that has others like it at a lower learning rate, of the models that are in both."""
    found: dict[object, _Compared] = {}
    if RATE not in table:
        return found
    rows = unchanged(select(table[table["method"] != UNTOUCHED], metric="separation"))
    settings = [rows[name].astype(object).fillna("") for name in swept(table) if name != RATE]
    for _, alike in rows.groupby(settings or np.zeros(len(rows)), sort=False):
        for name, own in alike.groupby("cell", sort=False, observed=True):
            slower = alike[(alike["learning_rate"] < own["learning_rate"].max()) & alike["method"].isin(own["method"])]
            # Of cells that are the same but for their name, one.
            slower = slower[slower["cell"].isin(slower.drop_duplicates("learning_rate")["cell"])]
            if len(slower):
                found[name] = _compare(Results(pd.concat([own, slower])), CLAIMS[ACROSS])
    return found


def evidence(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table that the verdicts rest on."""
    return table[np.any([one.read for one in _compare_all(table).values()], axis=0)]


def _compare_all(table: pd.DataFrame) -> dict[str, _Compared]:
    _require_one_run(table)
    results = Results(table)
    return {name: _compare(results, claim) for name, claim in CLAIMS.items()}


def _require_one_run(table: pd.DataFrame) -> None:
    """Raises ValueError where a method was tuned twice at one learning rate: results of two are no seeds of one."""
    runs = table[["study", "cell", "world", "model", "method", "learning_rate"]].drop_duplicates()
    again = runs[runs.duplicated(["method", "learning_rate"]) & (runs["method"] != UNTOUCHED)]
    if len(again):
        raise ValueError(
            f"{again.iloc[0]['method']} is in the table from several cells, worlds or architectures: "
            "pass the rows of one at a time"
        )


def _compare(results: Results, claim: Claim) -> _Compared:
    results.read = np.zeros_like(results.read)
    found, missing = {}, []
    for method in claim.methods:
        try:
            effect, control = claim.measure(results, method)
        except MissingError as error:
            missing.append(str(error))
        else:
            found[method] = UNITS[claim.unit].scale(pd.DataFrame({"effect": effect, "control": control}, dtype=float))
    if not found:
        nothing = pd.DataFrame({"effect": [], "control": []}, dtype=float)
        return _Compared(nothing, missing[0], 0.0, results.read)
    # Infinite is what was divided by nothing.
    pairs = (reduce(pd.DataFrame.add, found.values()) / len(found)).replace([np.inf, -np.inf], np.nan).dropna()
    note = f"of {', '.join(found)}" if missing else ""
    if pairs.empty:
        note = "no seed has both effect and control"
    return _Compared(pairs, note, 1 / results.fewest() if claim.unit == "share" else 0.0, results.read)


def _verdicts(compared: Mapping[str, _Compared]) -> list[Verdict]:
    """Judged together: p is corrected for all of them."""
    tests = [_test(CLAIMS[name], one) for name, one in compared.items()]
    corrected = holm(np.array([test.p for test in tests]))
    level = LEVEL / max(1, int(np.count_nonzero(~np.isnan(corrected))))
    return [
        _verdict(name, one, test, float(p), level)
        for (name, one), test, p in zip(compared.items(), tests, corrected, strict=True)
    ]


def _test(claim: Claim, compared: _Compared) -> Paired:
    """The test of effect - control; its p is that of the claim."""
    pairs = compared.pairs
    test = paired_test((pairs["effect"] - pairs["control"]).to_numpy(), compared.resolution)
    return test._replace(p=equivalence_p(test, UNITS[claim.unit].margin)) if claim.expects == "same" else test


def _verdict(name: str, compared: _Compared, test: Paired, p_holm: float, level: float) -> Verdict:
    """`level` is what p must be below if no other claim's is smaller."""
    claim = CLAIMS[name]
    unit = UNITS[claim.unit]
    verdict = judge(claim.expects, test, p_holm, unit.margin)
    note, means = compared.note, compared.pairs.mean()
    if verdict == UNDECIDED and test.n:
        note = "; ".join(part for part in (note, _why(claim, test, p_holm, level)) if part)
    return Verdict(
        claim=name,
        source=claim.source,
        sentence=claim.sentence,
        verdict=verdict,
        unit=claim.unit,
        expects=claim.expects,
        effect=unit.back(means["effect"]),
        control=unit.back(means["control"]),
        contrast=unit.back(test.mean),
        low=unit.back(test.low),
        high=unit.back(test.high),
        margin=unit.back(unit.margin),
        n=test.n,
        p=test.p,
        p_holm=p_holm,
        effect_size=test.effect_size,
        note=note,
    )


def judge(expects: str, test: Paired, p_holm: float, margin: float) -> str:
    """Holds, does not hold or undecided, on the unit's scale, as this file's text says."""
    if expects == "same":
        beyond = test.low > margin or test.high < -margin
        return FAILS if beyond else HOLDS if p_holm < LEVEL else UNDECIDED
    low, high = (test.low, test.high) if expects == "above" else (-test.high, -test.low)
    return FAILS if high <= margin else HOLDS if low > 0 and p_holm < LEVEL else UNDECIDED


def _why(claim: Claim, test: Paired, p_holm: float, level: float) -> str:
    """Why seeds that have effect and control do not decide."""
    if test.n == 1:
        return "one seed has no spread"
    if np.isnan(test.p):
        return "equal in every seed, so that their spread is not known"
    said = f"p = {test.p:.2g}, {p_holm:.2g} after Holm's correction"
    towards = {"above": test.mean, "below": -test.mean, "same": 0.0}[claim.expects]
    claimed = test.p < LEVEL and towards > UNITS[claim.unit].margin
    needed = seeds_needed(test, level) if claimed else None
    return f"{said}; {needed} seeds of this spread would tell" if needed else said


def to_json(scorecards: Mapping[str, Iterable[Verdict]]) -> str:
    """A list of objects, one a verdict of a cell; null where there is no number. `scorecards` are by cell."""
    plain = [
        {"cell": cell} | {key: None if isinstance(item, float) and np.isnan(item) else item for key, item in fields}
        for cell, verdicts in scorecards.items()
        for fields in (dataclasses.asdict(one).items() for one in verdicts)
    ]
    return json.dumps(plain, indent=1, allow_nan=False)


COLOURS = {HOLDS: "green", FAILS: "red", UNDECIDED: "yellow"}


def render(verdicts: Iterable[Verdict]) -> Table:
    """A row for each verdict, in 100 columns; below, the claims for which the table has no numbers."""
    verdicts = list(verdicts)
    counts = ", ".join(f"{sum(one.verdict == verdict for one in verdicts)} {verdict}" for verdict in COLOURS)
    out = Table(
        title=f"Claims: {counts}",
        caption=_without_numbers(verdicts),
        box=SIMPLE,
        width=100,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    out.add_column("", min_width=13, no_wrap=True)
    out.add_column("claim")
    for heading in ("effect", "control", "contrast, 95 %", "n"):
        out.add_column(heading, justify="right", no_wrap=True)
    for one in verdicts:
        if one.n:
            out.add_row(*_cells(one))
    return out


def _without_numbers(verdicts: list[Verdict]) -> str:
    """Why, and in brackets the claims."""
    claims: dict[str, list[str]] = {}
    for one in verdicts:
        if not one.n:
            claims.setdefault(one.note, []).append(one.claim)
    return "\n".join(f"undecided, {note} ({'; '.join(names)})" for note, names in claims.items())


def _cells(one: Verdict) -> tuple[Text | str, ...]:
    colour = COLOURS[one.verdict]
    contrast, low, high = (format(value, UNITS[one.unit].form) for value in (one.contrast, one.low, one.high))
    times = "x " if one.unit == "ratio" else ""
    return (
        Text(one.verdict, colour),
        Text.assemble((f"{one.source}:", "dim"), f" {one.sentence}", (f" ({one.note})" if one.note else "", "dim")),
        f"{one.effect:.3g}",
        f"{one.control:.3g}",
        Text.assemble(f"{times}{contrast}", ("" if np.isnan(one.low) else f"\n{low} to {high}", "dim")),
        str(one.n),
    )
