"""The scorecard on the terminal."""

from collections.abc import Iterable, Sequence

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from experiments.findings.claims.units import UNITS
from experiments.findings.verdicts import UNTESTABLE, VERDICTS, Judged, Verdict

LEAST = 5
"""Replicates below which no scorecard is printed."""
COLOURS = dict(zip(VERDICTS, ("green", "cyan", "red", "magenta", "blue", "yellow", "bright_black"), strict=True))


def replicates_note(verdicts: Sequence[Verdict]) -> str:
    """What the verdicts are about: how many worlds, or seeds of one."""
    told = [one for one in verdicts if one.n]
    n, worlds = (max((getattr(one, name) for one in told), default=0) for name in ("n", "worlds"))
    return f"{n} worlds" if worlds > 1 else f"{n} seed{'s' * (n != 1)} of one world"


def render(verdicts: Iterable[Verdict]) -> list[Table | str]:
    """A table for each paper that there are verdicts on.

    Under LEAST replicates, and where nothing can be tested, a line in their place that says why there are none.
    """
    verdicts = list(verdicts)
    if verdicts and not any(one.n for one in verdicts):
        first = verdicts[0]
        return [f"no scorecard: none of {len(verdicts)} claims can be tested; {first.claim}: {first.note}"]
    if verdicts and max(one.n for one in verdicts) < LEAST:
        over = replicates_note(verdicts)
        return [
            f"no scorecard: {over}; below {LEAST} replicates tests decide next to nothing, set worlds={LEAST} or more"
        ]
    papers = list(dict.fromkeys(one.paper for one in verdicts))
    return [
        _of_paper([one for one in verdicts if one.paper == paper], f"Claims of {paper}" if papers[1:] else "Claims")
        for paper in papers
    ]


def _of_paper(verdicts: list[Verdict], claims: str) -> Table:
    """A row for each verdict, in 100 columns, and below it one for each method where they are not of one mind."""
    counts = ", ".join(f"{sum(one.verdict == verdict for one in verdicts)} {verdict}" for verdict in VERDICTS)
    out = Table(
        title=f"{claims} over {replicates_note(verdicts)}: {counts}",
        caption=_without_numbers(verdicts),
        box=SIMPLE,
        width=100,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    out.add_column("", min_width=10, no_wrap=True)
    out.add_column("claim")
    for heading in ("effect", "control", "contrast, 95 %"):
        out.add_column(heading, justify="right", no_wrap=True)
    family = ""
    for one in verdicts:
        if not one.n or one.verdict == UNTESTABLE:
            continue
        if one.family != family:
            out.add_section()
            family = one.family
        also = f" (also holds for: {', '.join(one.also)})" if one.also else ""
        said = Text.assemble((f"{one.source}:", "dim"), f" {one.sentence}", (also, "cyan"))
        alike = len({each.verdict for each in one.methods}) == 1
        numbers = _numbers(one, one.unit) if alike else ()
        out.add_row(Text(one.verdict, COLOURS[one.verdict]), said, *numbers)
        for each in one.methods if not alike else ():
            numbers = _numbers(each, one.unit) if each.n else ()
            out.add_row("", Text.assemble(f"  {each.method}: ", (each.verdict, COLOURS[each.verdict])), *numbers)
    return out


def _without_numbers(verdicts: list[Verdict]) -> str:
    """Why, and in brackets the claims."""
    claims: dict[str, list[str]] = {}
    for one in verdicts:
        if one.verdict == UNTESTABLE:
            claims.setdefault(one.note, []).append(one.claim)
    return "\n".join(f"untestable, {note} ({'; '.join(names)})" for note, names in claims.items())


def _numbers(one: Verdict | Judged, unit: str) -> tuple[Text | str, ...]:
    contrast, low, high = (format(value, UNITS[unit].form) for value in (one.contrast, one.low, one.high))
    times = "x " if unit == "ratio" else ""
    interval = "" if np.isnan(one.low) else f"\n{low} to {high}"
    return f"{one.effect:.3g}", f"{one.control:.3g}", Text.assemble(f"{times}{contrast}", (interval, "dim"))
