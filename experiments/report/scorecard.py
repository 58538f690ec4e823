"""The verdicts on the paper's claims, as the page shows them."""

import math
from typing import Any, NamedTuple

from experiments.claims import UNITS
from experiments.report.folder import Study
from experiments.scorecard import FAILS, HOLDS, UNDECIDED

MARKS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
CLASSES = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided"}


class Line(NamedTuple):
    """One verdict, written; numbers beside the text are what to sort by."""

    cell: str
    claim: str
    source: str
    sentence: str
    verdict: str
    css: str
    mark: str
    effect: str
    control: str
    contrast: str
    interval: str
    strength: float | None
    """How far the contrast lies from none in widths of half its interval"""
    n: int
    p: str
    note: str
    sort: dict[str, float | None]


class Scorecard(NamedTuple):
    """Lines with numbers, lines without, and where each claim stands in each cell."""

    told: list[Line]
    untold: list[Line]
    counts: list[tuple[str, str, str, int]]
    """Verdict, class, mark, how many of `told`"""
    cells: list[str]
    claims: list[tuple[str, str, str, list[Line | None]]]
    """Claim, source, sentence, a line a cell"""


def describe(study: Study) -> Scorecard:
    """Of all cells that were judged."""
    lines = [_line(verdict) for verdict in study.verdicts]
    told = [line for line in lines if line.n]
    cells = list(dict.fromkeys(line.cell for line in lines))
    placed = {(line.claim, line.cell): line for line in lines}
    claims = {line.claim: line for line in lines if any(other.claim == line.claim for other in told)}
    return Scorecard(
        told=told,
        untold=[line for line in lines if not line.n],
        counts=[
            (verdict, CLASSES[verdict], MARKS[verdict], sum(line.verdict == verdict for line in told))
            for verdict in MARKS
        ],
        cells=cells,
        claims=[
            (line.claim, line.source, line.sentence, [placed.get((line.claim, cell)) for cell in cells])
            for line in claims.values()
        ],
    )


def _line(one: dict[str, Any]) -> Line:
    unit = UNITS[one["unit"]]
    times = f"{TIMES} " if one["unit"] == "ratio" else ""
    low, high = one["low"], one["high"]
    return Line(
        cell=one["cell"],
        claim=one["claim"],
        source=one["source"],
        sentence=one["sentence"],
        verdict=one["verdict"],
        css=CLASSES[one["verdict"]],
        mark=MARKS[one["verdict"]],
        effect=number(one["effect"]),
        control=number(one["control"]),
        contrast="" if one["contrast"] is None else times + _signed(one["contrast"], unit.form),
        interval="" if low is None or high is None else f"{_signed(low, unit.form)} to {_signed(high, unit.form)}",
        strength=_strength(one),
        n=one["n"],
        p="" if one["p_holm"] is None else f"{one['p_holm']:.2g}",
        note=one["note"],
        sort={name: one[name] for name in ("effect", "control", "p_holm")},
    )


def number(value: float | None) -> str:
    """To three digits."""
    return "" if value is None else f"{value:.3g}".replace("-", MINUS)


def _signed(value: float, form: str) -> str:
    return format(value, form).replace("-", MINUS)


def _strength(one: dict[str, Any]) -> float | None:
    """Comparable over units, so that contrasts can be sorted; as the sign of what is claimed."""
    low, high, middle = one["low"], one["high"], one["contrast"]
    if low is None or high is None or middle is None:
        return None
    if one["unit"] == "ratio":
        if min(low, middle) <= 0:
            return None
        low, high, middle = math.log(low), math.log(high), math.log(middle)
    half = (high - low) / 2
    return middle / half if half > 0 else None
