"""Figures and tables, each a function of the results table alone, kept as files with the rows that it shows.

A figure is a row of `registry.py`: which rows of the table it shows, and how they are drawn. One whose rows the
table does not have is not drawn. FIGURES and TABLES are of one study, or of one cell of a sweep; GROUPS of a
sweep. Figures of single prompts have `samples.coordinates` in the table's place.
"""

import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures import ablation, claim_map, tables
from experiments.figures.common import Look, model_looks
from experiments.figures.registry import FIGURES, GROUPS, TABLES
from experiments.findings import outcomes
from experiments.findings.claims import PAPERS, UNNAMED
from experiments.findings.claims.paper import Paper
from experiments.findings.results import models, select, tuned
from experiments.settings.names import UNTOUCHED

STYLE = Path(__file__).with_name("paper.mplstyle")
WIDTHS = {"column": 3.25, "text": 5.5, "page": 6.75}
"""Inches, of the NeurIPS and ICML styles."""

IMAGES = ("pdf", "png")
TEXTS = {"tex": tables.latex, "md": tables.markdown}
INDEX = "index.json"
"""What was drawn: by name, what it shows and its files. Written last."""
NO_POINTS = pd.DataFrame()
"""For figures of prompts: none is drawn"""

STEPS, CLAIM_MAP = "steps", "claim_map"
OVER_STEPS, CLAIMS_WHERE = " over tuning", "Which of the paper's claims hold where"


class Exhibit(NamedTuple):
    """One thing to draw or to write."""

    name: str
    shows: str
    rows: pd.DataFrame
    draw: Callable[[], Figure] | None
    texts: dict[str, str]
    """By suffix, of a table"""


def names(sweep: bool) -> list[str]:
    """All there is, of a sweep or of one study, whether or not a table has the rows."""
    groups = [group.replace(" ", "_") for group in GROUPS]
    return [*groups, CLAIM_MAP] if sweep else [*FIGURES, *TABLES, *(f"{group}_{STEPS}" for group in groups)]


def is_sweep(table: pd.DataFrame) -> bool:
    """Whether the table is of several cells."""
    return bool(outcomes.swept(table)) and table["cell"].nunique() > 1


def exhibits(
    table: pd.DataFrame,
    only: Sequence[str] = (),
    planned: Sequence[str] = (),
    points: pd.DataFrame = NO_POINTS,
    papers: Sequence[Paper] | None = None,
) -> Iterator[Exhibit]:
    """What there are rows for in the table, or in `points` for figures of prompts; of the names in `only` if any.

    Claims are those of `papers`, if None of the one that tables which name none are of.
    """
    papers = [PAPERS[UNNAMED]] if papers is None else papers
    looks = model_looks(models(table))
    if is_sweep(table):
        yield from _of_sweep(table, looks, only, planned, papers)
        return
    for name, drawing in FIGURES.items():
        if (only and name not in only) or (drawing.of_prompts and points.empty):
            continue
        given = points if drawing.of_prompts else table
        # Which models each is of, all of them if none is named, and what else its functions are given.
        parts: dict[str, tuple[list[str], tuple[Paper, ...]]] = {name: ([], ())}
        if drawing.each_model:
            parts = {f"{name}-{model}": ([UNTOUCHED, model], ()) for model in tuned(table)}
        elif drawing.each_paper:
            parts = {_named(name, paper, papers): ([], (paper,)) for paper in papers}
        for part, (of, told) in parts.items():
            rows = drawing.rows(select(given, node=of) if of else given, *told)
            if len(rows):
                also = (looks,) if drawing.of_models else told
                yield Exhibit(part, drawing.shows, rows, partial(drawing.draw, rows, *also), {})
    for name, (shows, columns) in TABLES.items():
        rows = tables.rows(table, columns) if not only or name in only else table.head(0)
        if len(rows):
            yield Exhibit(name, shows, rows, None, {kind: write(rows, columns) for kind, write in TEXTS.items()})
    yield from _of_groups(outcomes.over_steps(table), looks, f"_{STEPS}", OVER_STEPS, only, ())


def _named(name: str, paper: Paper, papers: Sequence[Paper]) -> str:
    """The name of a figure of one of `papers`."""
    return f"{name}-{paper.name}" if len(papers) > 1 else name


def _of_sweep(
    table: pd.DataFrame,
    looks: Mapping[str, Look],
    only: Sequence[str],
    planned: Sequence[str],
    papers: Sequence[Paper],
) -> Iterator[Exhibit]:
    yield from _of_groups(table, looks, "", "", only, planned)
    for paper in papers if not only or CLAIM_MAP in only else ():
        verdicts = claim_map.rows(table, paper)
        if len(verdicts):
            draw = partial(claim_map.draw, verdicts, paper, planned)
            yield Exhibit(_named(CLAIM_MAP, paper, papers), CLAIMS_WHERE, verdicts, draw, {})


def _of_groups(
    table: pd.DataFrame,
    looks: Mapping[str, Look],
    suffix: str,
    said: str,
    only: Sequence[str],
    planned: Sequence[str],
) -> Iterator[Exhibit]:
    names = {group.replace(" ", "_") + suffix: group for group in GROUPS}
    wanted = {name: group for name, group in names.items() if not only or name in only}
    values = outcomes.values(table) if wanted and len(table) else pd.DataFrame({"group": []})
    for name, group in wanted.items():
        rows = select(values, group=group)
        if len(rows):
            yield Exhibit(name, GROUPS[group] + said, rows, partial(ablation.draw, rows, looks, planned), {})


def described(name: str) -> tuple[str, str]:
    """What a figure shows, and how it is to be read; of one that is not ours, its name."""
    base, _, part = name.partition("-")
    group = base.removesuffix(f"_{STEPS}").replace("_", " ")
    if base in FIGURES:
        shows, draw = FIGURES[base].shows, FIGURES[base].draw
    elif group in GROUPS:
        shows, draw = GROUPS[group] + OVER_STEPS * base.endswith(f"_{STEPS}"), ablation.draw
    elif base == CLAIM_MAP:
        shows, draw = CLAIMS_WHERE, claim_map.draw
    else:
        return name.replace("_", " ").capitalize(), ""
    if isinstance(draw, partial):
        draw = draw.func
    read = " ".join(inspect.cleandoc(draw.__doc__ or "").split("\n\n")[0].split())
    return f"{shows}: {part}" if part else shows, read


def style_version() -> str:
    """What the look of the figures depends on beside their code."""
    return f"{hashlib.sha256(STYLE.read_bytes()).hexdigest()[:8]} {matplotlib.__version__}"


def inches(width: str | float) -> float:
    """Of one of WIDTHS, or as it is."""
    return WIDTHS[width] if isinstance(width, str) else width


def save(draw: Callable[[], Figure], path: Path, width: str | float = "text") -> None:
    """The figure that `draw` gives in the project's style, as a file of each of IMAGES: `path` with the suffix."""
    with plt.style.context([STYLE, {"figure.figsize": (inches(width), 3.0)}]), warnings.catch_warnings():
        # A name in letters that the font does not have is drawn as boxes; the table has it as it is.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = draw()
        # Placed once: it is most of the work, and the files are then alike.
        layout = figure.get_layout_engine()
        if layout:
            layout.execute(figure)
        # With a layout, were it "none", each file would be drawn twice.
        plt.rcParams["figure.constrained_layout.use"] = False
        figure.set_layout_engine(None)
        for kind in IMAGES:
            # A date in the file would make equal figures differ.
            figure.savefig(path.with_suffix(f".{kind}"), metadata={"CreationDate": None} if kind == "pdf" else None)
        plt.close(figure)


def draw_all(
    table: pd.DataFrame,
    folder: Path,
    width: str | float = "text",
    only: Sequence[str] = (),
    planned: Sequence[str] = (),
    points: pd.DataFrame = NO_POINTS,
    papers: Sequence[Paper] | None = None,
) -> list[str]:
    """Every figure and table that `table` has the rows for into `folder`, with these rows; returns their names.

    `planned` are all cells of a sweep, also those that are not in the table; `points`, of one cell, is
    `samples.coordinates`; claims are those of `papers`, if None of the one that tables which name none are of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = read_json(folder / INDEX, {}) if only else {}
    done = []
    for one in exhibits(table, only, planned, points, papers):
        path = folder / one.name
        one.rows.to_csv(path.with_name(f"{one.name}.csv"), index=False, encoding="utf-8")
        for kind, text in one.texts.items():
            path.with_name(f"{one.name}.{kind}").write_text(text, encoding="utf-8")
        if one.draw:
            save(one.draw, path, width)
        kinds = [*(IMAGES if one.draw else ()), *one.texts, "csv"]
        index[one.name] = {"shows": one.shows, "files": [f"{one.name}.{kind}" for kind in kinds]}
        done.append(one.name)
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return done


def files(folder: Path) -> list[str]:
    """The names of the files in `folder` that `draw_all` made."""
    return [INDEX, *(file for one in read_json(folder / INDEX, {}).values() for file in one["files"])]


def read_json(path: Path, otherwise: Any) -> Any:
    """What the file holds; `otherwise` if there is none that can be read, or it holds something of another type."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise
