"""The verdicts on papers' claims, as the page shows them."""

import math
from typing import Any, NamedTuple

from experiments.findings.claims.units import UNITS
from experiments.findings.verdicts import UNTESTABLE, VERDICTS
from experiments.report.folder import Study

MARKS = dict(zip(VERDICTS, "✓~✗0≠?·", strict=True))
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
CLASSES = {verdict: verdict.replace(" ", "-") for verdict in VERDICTS}


class Numbers(NamedTuple):
    """The verdict on a claim of one model, or of all of them, written."""

    of: str
    """The model; empty for all"""
    verdict: str
    css: str
    mark: str
    effect: str
    control: str
    contrast: str
    interval: str
    p: str
    note: str


class Line(NamedTuple):
    """One claim in one cell; numbers beside the text are what to sort by."""

    cell: str
    claim: str
    source: str
    sentence: str
    whole: Numbers
    methods: list[Numbers]
    """By method, where there are several"""
    also: str
    """The placebos that it holds for too"""
    strength: float | None
    """How far the contrast lies from none in widths of half its interval"""
    n: int
    between: str
    """The share of the variance that lies between worlds, if known"""
    sort: dict[str, float | None]


class Scorecard(NamedTuple):
    """Of one paper: lines with numbers, lines without, and where each claim stands in each cell."""

    paper: str
    told: list[Line]
    untold: list[Line]
    counts: list[tuple[str, str, str, int]]
    """Verdict, class, mark, how many of `told`; those that there are"""
    cells: list[str]
    claims: list[tuple[str, str, str, list[Line | None]]]
    """Claim, source, sentence, a line per cell"""


def describe(study: Study) -> list[Scorecard]:
    """One for each paper, of all cells that were judged."""
    papers = dict.fromkeys(verdict["paper"] for verdict in study.verdicts)
    return [_of_paper(paper, [one for one in study.verdicts if one["paper"] == paper]) for paper in papers]


def _of_paper(paper: str, verdicts: list[dict[str, Any]]) -> Scorecard:
    lines = [_line(verdict) for verdict in verdicts]
    told = [line for line in lines if line.whole.verdict != UNTESTABLE]
    cells = list(dict.fromkeys(line.cell for line in lines))
    placed = {(line.claim, line.cell): line for line in lines}
    claims = {line.claim: line for line in lines if any(other.claim == line.claim for other in told)}
    counted = [(verdict, sum(line.whole.verdict == verdict for line in told)) for verdict in VERDICTS]
    return Scorecard(
        paper=paper,
        told=told,
        untold=[line for line in lines if line.whole.verdict == UNTESTABLE],
        counts=[(verdict, CLASSES[verdict], MARKS[verdict], count) for verdict, count in counted if count],
        cells=cells,
        claims=[
            (line.claim, line.source, line.sentence, [placed.get((line.claim, cell)) for cell in cells])
            for line in claims.values()
        ],
    )


def _line(one: dict[str, Any]) -> Line:
    single = one["methods"][0]
    p = single if len(one["methods"]) == 1 else {"p_holm": None}
    return Line(
        cell=one["cell"],
        claim=one["claim"],
        source=one["source"],
        sentence=one["sentence"],
        whole=_numbers({**p, **one}, one["unit"]),
        methods=[_numbers(each, one["unit"]) for each in one["methods"]] if len(one["methods"]) > 1 else [],
        also=", ".join(one["also"]),
        strength=_strength(one),
        n=one["n"],
        between="" if one["world_share"] is None else f"{one['world_share']:.0%}",
        sort={name: one[name] for name in ("effect", "control")},
    )


def _numbers(one: dict[str, Any], unit: str) -> Numbers:
    times, form = f"{TIMES} " if unit == "ratio" else "", UNITS[unit].form
    low, high = one["low"], one["high"]
    return Numbers(
        of=one.get("method", ""),
        verdict=one["verdict"],
        css=CLASSES[one["verdict"]],
        mark=MARKS[one["verdict"]],
        effect=number(one["effect"]),
        control=number(one["control"]),
        contrast="" if one["contrast"] is None else times + _signed(one["contrast"], form),
        interval="" if low is None or high is None else f"{_signed(low, form)} to {_signed(high, form)}",
        p="" if one["p_holm"] is None else f"{one['p_holm']:.2g}",
        note=one["note"],
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
