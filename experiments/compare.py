"""Two finished studies side by side: differing settings, differences of outcomes, changed verdicts.

python -m experiments.compare outputs/quick-1a2b3c4d outputs/quick-5e6f7a8b
python -m experiments.compare A B out=compared.csv
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from experiments import comparison, summary
from experiments.artifacts import write_whole
from experiments.claims import COLOURS, LEVEL
from experiments.command import command
from experiments.comparison import Changed, Finished
from experiments.config import ConfigError, flat
from experiments.progress import Reporter
from experiments.schema import CompareConfig
from experiments.study import CLAIMS, MODELS, SETTINGS

LEAST = 100
"""Columns that every table fits in."""


def read(name: str, folder: Path) -> Finished:
    """The study in an output folder. Raises ConfigError if there is none, or it is not finished."""
    if not (folder / SETTINGS).is_file():
        raise ConfigError(f"{name}={folder}: no study's output folder ({SETTINGS} is not there); name one")
    if not (folder / "DONE").exists():
        raise ConfigError(
            f"{name}={folder}: the study is not finished; python -m experiments.run resume={folder} goes on with it"
        )
    verdicts = _read(name, folder / CLAIMS, json.loads)
    cells = _read(name, folder / "cells.json", json.loads) if (folder / "cells.json").exists() else []
    models = _read(name, folder / MODELS, json.loads)
    return Finished(
        flat(_read(name, folder / SETTINGS, yaml.safe_load)),
        {cell["cell"]: flat(cell["settings"]) for cell in cells},
        outcomes(_read(name, folder / "results.parquet", lambda _: pd.read_parquet(folder / "results.parquet"))),
        {cell: {model: _names(paths) for model, paths in of.items()} for cell, of in models.items()},
        {(verdict.get("cell", ""), verdict["claim"]): verdict for verdict in verdicts},
    )


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of the summary, by cell: columns cell, method, seed, statistic, value."""
    cells = table.groupby("cell", sort=False)
    return pd.concat([summary.cells(rows).assign(cell=cell) for cell, rows in cells], ignore_index=True)


def _names(paths: dict[str, str]) -> dict[str, str]:
    """Of the artifacts: stores may lie anywhere."""
    return {part: Path(path).name for part, path in paths.items()}


def _read(name: str, file: Path, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(file.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else "is damaged"
        raise ConfigError(f"{name}={file.parent}: {file.name} {reason}; run the study again") from None


def _run(config: CompareConfig, reporter: Reporter) -> None:
    a, b = Path(config.a), Path(config.b)
    if a.resolve() == b.resolve():
        raise ConfigError(f"b={b}: is the same folder as a; name two studies")
    ours, theirs = read("a", a), read("b", b)
    table = comparison.outcomes(ours, theirs)
    changed = comparison.verdicts(ours, theirs)
    differing = comparison.settings(ours, theirs)
    if table.empty:
        raise ConfigError(_nothing_shared(config, ours, theirs))
    reporter.say(f"A  {a}\nB  {b}")
    reporter.show(_settings(differing), LEAST)
    reporter.show(_outcomes(table), LEAST)
    both = len(ours.claims.keys() & theirs.claims.keys())
    reporter.show(_claims(changed, both), LEAST)
    if config.out:
        _write(Path(config.out), config, differing, table, changed)
        reporter.say(f"numbers in {config.out}")


def _nothing_shared(config: CompareConfig, a: Finished, b: Finished) -> str:
    for column in ("cell", "method"):
        ours, theirs = (list(dict.fromkeys(study.outcomes[column])) for study in (a, b))
        if not set(ours) & set(theirs):
            has = [", ".join(name or "none" for name in names) for names in (ours, theirs)]
            return f"b={config.b}: shares no {column} with a: a has {has[0]}, b has {has[1]}; name studies that do"
    return f"b={config.b}: every model that is in both is the same one, so that there is nothing to compare"


def _settings(changed: list[Changed]) -> Table:
    table = _table("" if changed else "No setting differs", "setting", "A", "B")
    for one in changed:
        name = f"{one.name} [dim]({escape(one.cell)})[/dim]" if one.cell else one.name
        table.add_row(name, *(escape("-" if value is None else str(value)) for value in (one.a, one.b)))
    return table


def _outcomes(table: pd.DataFrame) -> Table:
    tested = int(table["p"].notna().sum())
    out = _table(
        f"B - A, means over seeds; p after Holm's correction over {tested}, below {LEVEL} in bold",
        *("outcome", "model", "cell", "A>", "B>", "difference>", "95 %>", "p>", "seeds>"),
    )
    if not table["cell"].any():
        out.columns.pop(2)
    last: tuple[str, ...] = ("", "")
    for row in table.itertuples():
        now = (str(row.statistic), str(row.method))
        if last[0] and now[0] != last[0]:
            out.add_section()
        labels = [now[0] if now[0] != last[0] else "", now[1] if now != last else ""]
        if table["cell"].any():
            labels.append(str(row.cell))
        last = now
        out.add_row(*labels, *_numbers(row))
    return out


def _numbers(row: Any) -> list[str]:
    bold = "bold" if row.p_holm < LEVEL else "none"
    interval = f"{row.low:+.2f} to {row.high:+.2f}" if row.low == row.low else "[dim]equal in every seed[/dim]"
    if min(row.n_a, row.n_b) < 2:
        interval = "[dim]one seed[/dim]"
    p = "" if row.p_holm != row.p_holm else "<0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
    seeds = f"{row.n_a} paired" if row.paired else f"{row.n_a} and {row.n_b}"
    return [
        f"{row.a:.2f}",
        f"{row.b:.2f}",
        f"[{bold}]{row.difference:+.2f}[/{bold}]",
        interval,
        f"[{bold}]{p}[/{bold}]",
        seeds,
    ]


def _claims(changed: list[Changed], both: int) -> Table:
    table = _table(f"Claims: {len(changed)} of {both} have another verdict", "claim", "cell", "A", "B")
    if not any(one.cell for one in changed):
        table.columns.pop(1)
    for one in changed:
        verdicts = [f"[{COLOURS[verdict]}]{verdict}[/{COLOURS[verdict]}]" for verdict in (one.a, one.b)]
        cell = [escape(one.cell)] if any(other.cell for other in changed) else []
        table.add_row(escape(one.about), *cell, *verdicts)
    return table


def _table(title: str, *headings: str) -> Table:
    """Columns of numbers have a heading that ends in >; text may be wrapped."""
    out = Table(title=title or None, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    for heading in headings:
        number = heading.endswith(">")
        out.add_column(heading.removesuffix(">"), justify="right" if number else "left", no_wrap=number)
    return out


def _write(
    path: Path, config: CompareConfig, differing: list[Changed], table: pd.DataFrame, changed: list[Changed]
) -> None:
    """The outcomes as CSV, or everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        write_whole(path, table.to_csv(index=False))
        return
    content = {
        "a": config.a,
        "b": config.b,
        "settings": [one._asdict() for one in differing],
        "outcomes": json.loads(table.to_json(orient="records", double_precision=15)),
        "claims": [one._asdict() for one in changed],
    }
    write_whole(path, json.dumps(content, indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return command("experiments.compare", __doc__, CompareConfig, _run, arguments, words=("a", "b"))


if __name__ == "__main__":
    sys.exit(main())
