"""Two finished studies side by side: differing settings, differences of outcomes, changed verdicts.

python -m experiments.compare outputs/quick-1a2b3c4d outputs/quick-5e6f7a8b
python -m experiments.compare A B out=compared.csv
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from experiments.command import command
from experiments.findings import comparison, seal
from experiments.findings.claims import UNNAMED
from experiments.findings.comparison import Changed, Finished
from experiments.findings.judging import LEVEL
from experiments.findings.outcomes import values
from experiments.findings.printed import COLOURS
from experiments.findings.seal import CELLS, CLAIMS, SETTINGS, Places
from experiments.progress import Reporter
from experiments.report.folder import NEEDED
from experiments.settings.commands import CompareConfig
from experiments.settings.plain import flat
from experiments.store.files import read_file, write_whole
from synth.settings import UserError

LEAST = 100
"""Columns that every table fits in."""


def read(name: str, folder: Path) -> Finished:
    """The study in an output folder. Raises UserError if there is none, or it is not finished."""
    if not (folder / SETTINGS).is_file():
        raise UserError(f"{name}={folder}: no study's output folder ({SETTINGS} is not there); name one")
    if not (folder / seal.DONE_FILE).is_file():
        raise UserError(
            f"{name}={folder}: the study is not finished; python -m experiments.run resume={folder} goes on with it"
        )

    seal.intact(name, folder, (SETTINGS, CELLS, CLAIMS))
    results, models = seal.results(name, folder, NEEDED), seal.models(name, folder)

    def parsed(file: str, understand: Callable[[Any], Any], parse: Callable[[str], Any] = json.loads) -> Any:
        try:
            return understand(parse(read_file(folder / file)))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged"
            raise UserError(f"{name}={folder}: {file}: {reason}; run the study again") from None

    return Finished(
        parsed(SETTINGS, flat, yaml.safe_load),
        parsed(CELLS, lambda cells: {cell["cell"]: flat(cell["settings"]) for cell in cells}),
        outcomes(results),
        {cell: {model: _names(paths) for model, paths in of.items()} for cell, of in models.items()},
        parsed(CLAIMS, lambda verdicts: {_claim(verdict): verdict for verdict in verdicts}),
    )


def outcomes(results: pd.DataFrame) -> pd.DataFrame:
    """The numbers of the summary, by cell: columns cell, node, seed, statistic, value, resolution."""
    found = values(results, printed=True).rename(columns={"outcome": "statistic"})
    return found.assign(resolution=found["share"] / found["n"])


def _claim(verdict: dict[str, Any]) -> tuple[str, str, str]:
    return verdict["cell"], verdict.get("paper", UNNAMED), verdict["claim"]


def _names(places: Places) -> dict[str, str]:
    """Of the artifacts, of all worlds together: stores may lie anywhere."""
    worlds = [places, *places.get("other_worlds", [])]
    parts = [part for part in ("weights", "measured") if part in places]
    return {part: " ".join(name for one in worlds for name in _folders(one[part])) for part in parts}


def _folders(places: Any) -> list[str]:
    """The names of one folder, or of those of several measurements."""
    return [Path(place).name for place in ([places] if isinstance(places, str) else places.values())]


def _run(config: CompareConfig, reporter: Reporter) -> None:
    a, b = Path(config.a), Path(config.b)
    if os.path.realpath(a) == os.path.realpath(b):
        raise UserError(f"b={b}: is the same folder as a; name two studies")
    ours, theirs = read("a", a), read("b", b)
    compared = comparison.outcomes(ours, theirs)
    changed = comparison.verdicts(ours, theirs)
    differing = comparison.settings(ours, theirs)
    if compared.empty:
        raise UserError(_nothing_shared(config, ours, theirs))
    reporter.say(f"A  {a}\nB  {b}")
    reporter.show(_settings(differing), LEAST) if differing else reporter.say("no setting differs\n")
    reporter.show(_outcomes(compared), LEAST)
    both = ours.claims.keys() & theirs.claims.keys()
    title = f"Claims: {len(changed)} of {len(both)} have another verdict"
    several = len({paper for _, paper, _ in both}) > 1
    reporter.show(_claims(title, changed, several), LEAST) if changed else reporter.say(title)
    if config.out:
        _write(Path(config.out), config, differing, compared, changed)
        reporter.say(f"numbers in {config.out}")


def _nothing_shared(config: CompareConfig, a: Finished, b: Finished) -> str:
    for column, what in (("cell", "cell"), ("node", "model")):
        ours, theirs = (list(dict.fromkeys(study.outcomes[column])) for study in (a, b))
        if not set(ours) & set(theirs):
            has = [", ".join(name or "none" for name in names) for names in (ours, theirs)]
            return f"b={config.b}: shares no {what} with a: a has {has[0]}, b has {has[1]}; name studies that do"
    return f"b={config.b}: every model that is in both is the same one, so that there is nothing to compare"


def _settings(changed: list[Changed]) -> Table:
    out = _table("Settings that differ", "setting", "A", "B")
    for one in changed:
        name = Text.assemble(one.name, (f" ({one.cell})" if one.cell else "", "dim"))
        out.add_row(name, *("-" if value is None else str(value) for value in (one.a, one.b)))
    return out


def _outcomes(compared: pd.DataFrame) -> Table:
    cells = bool(compared["cell"].any())
    out = _table(
        f"B - A, means over seeds; p after Holm's correction over {compared['p'].notna().sum()}",
        *("outcome", "model", *["cell"] * cells, "A>", "B>", "difference>", "95 %>", "p>", "seeds>"),
    )
    last = ("", "")
    for row in compared.itertuples():
        now = (str(row.statistic), str(row.node))
        if last[0] and now[0] != last[0]:
            out.add_section()
        labels = [now[0] if now[0] != last[0] else "", now[1] if now != last else "", *[str(row.cell)] * cells]
        out.add_row(*labels, *_numbers(row))
        last = now
    return out


def _numbers(row: Any) -> list[Text | str]:
    """What can be told from chance is bold."""
    style = "bold" if row.p_holm < LEVEL else "none"
    interval = Text(f"{row.low:+.2f} to {row.high:+.2f}")
    if np.isnan(row.low):
        interval = Text("one seed" if min(row.n_a, row.n_b) < 2 else "no spread", "dim")
    p = "" if np.isnan(row.p_holm) else "< 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
    seeds = f"{row.n_a} paired" if row.paired else f"{row.n_a} and {row.n_b}"
    means: list[Text | str] = [f"{row.a:.2f}", f"{row.b:.2f}", Text(f"{row.difference:+.2f}", style)]
    return [*means, interval, Text(p, style), seeds]


def _claims(title: str, changed: list[Changed], papers: bool) -> Table:
    cells = any(one.cell for one in changed)
    out = _table(title, *["paper"] * papers, "claim", *["cell"] * cells, "A>", "B>")
    for one in changed:
        verdicts = [Text(verdict, COLOURS[verdict]) for verdict in (one.a, one.b)]
        out.add_row(*[one.paper] * papers, one.about, *[one.cell] * cells, *verdicts)
    return out


def _table(title: str, *headings: str) -> Table:
    """Columns whose heading ends in > stand right and are never wrapped."""
    out = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    for heading in headings:
        right = heading.endswith(">")
        out.add_column(heading.removesuffix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return out


def _write(
    path: Path, config: CompareConfig, differing: list[Changed], compared: pd.DataFrame, changed: list[Changed]
) -> None:
    """The outcomes as CSV, or everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        write_whole(path, compared.to_csv(index=False))
        return
    content = {
        "a": config.a,
        "b": config.b,
        "settings": [one._asdict() for one in differing],
        "outcomes": json.loads(compared.to_json(orient="records", double_precision=15)),
        "claims": [one._asdict() for one in changed],
    }
    write_whole(path, json.dumps(content, indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return command("experiments.compare", __doc__, CompareConfig, _run, arguments, words=("a", "b"))


if __name__ == "__main__":
    sys.exit(main())
