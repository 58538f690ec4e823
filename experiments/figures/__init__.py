"""Figures and tables, each a function of the results table alone, kept as files with the rows that it shows.

A figure is a row of a registry: which rows of the table it shows, and how they are drawn. One whose rows the
table does not have is not drawn. FIGURES and TABLES are of one study, or of one cell of a sweep; GROUPS of a
sweep. Figures of single prompts have `samples.coordinates` in the table's place.
"""

import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.figures import (
    ablation,
    activations,
    angles,
    attacks,
    behaviour,
    claim_map,
    distances,
    energy,
    groups,
    interventions,
    jailbreaks,
    multiples,
    neurons,
    paths,
    projections,
    sample,
    scorecard,
    sensitivity,
    separability,
    sines,
    spectra,
    tables,
    tau,
)
from experiments.findings import outcomes
from experiments.findings.claims import PAPERS
from experiments.findings.claims.paper import Paper
from experiments.findings.results import UNTOUCHED, select, tuned

STYLE = Path(__file__).with_name("paper.mplstyle")
WIDTHS = {"column": 3.25, "text": 5.5, "page": 6.75}
"""Inches, of the NeurIPS and ICML styles."""

IMAGES = ("pdf", "png")
TEXTS = {"tex": tables.latex, "md": tables.markdown}
INDEX = "index.json"
"""What was drawn: by name, what it shows and its files. Written last."""
NO_POINTS = pd.DataFrame()
"""For figures of prompts: none is drawn"""


class Drawing(NamedTuple):
    """How a figure comes from the results table."""

    shows: str
    """What is seen, and where the paper has it"""
    rows: Callable[..., pd.DataFrame]
    """What is drawn, no rows if the table does not have it"""
    draw: Callable[..., Figure]
    """From these rows"""
    each_method: bool = False
    """Whether one for each tuned model, of its rows and those of the untouched model: NAME-METHOD"""
    of_prompts: bool = False
    """Whether it shows single prompts: its table is then `samples.coordinates`"""
    each_paper: bool = False
    """Whether one for each paper, which both functions are given after the rows: NAME-PAPER where there are several"""


FIGURES: dict[str, Drawing] = {
    "behaviour": Drawing("What each model answers, by family of prompts", behaviour.rows, behaviour.draw),
    "tau": Drawing("Mean tau against layer (Fig. 3)", tau.rows, tau.draw),
    "sines": Drawing(
        "Angle of dW's columns to those of W, first MLP matrix (Fig. 4)", partial(sines.rows, module="W_in"), sines.draw
    ),
    "energy": Drawing("How much of dW lies outside W's columns, by energy (cf. Fig. 4)", energy.rows, energy.draw),
    "projections": Drawing(
        "Reach of safe and unsafe prompts along dW's rows (Fig. 5)",
        partial(projections.rows, module="W_in", jailbreaks=False),
        projections.draw,
    ),
    "sensitivity": Drawing("Local Lipschitzness by family (Figs 6, A.64-65)", sensitivity.rows, sensitivity.draw),
    "jailbreaks": Drawing(
        "Jailbreaks beside safe and unsafe prompts (Figs 7, A.45-49)", jailbreaks.rows, jailbreaks.draw, True
    ),
    "separability": Drawing(
        "K-means and probe accuracy, spectral share (Figs A.31-32, A.19-22)", separability.rows, separability.draw
    ),
    "activations": Drawing(
        "Where single prompts lie before the second MLP matrix",
        partial(activations.rows, module="mlp.post"),
        activations.draw,
        of_prompts=True,
    ),
    "activations_resid": Drawing(
        "Where single prompts lie in the residual stream, at the last token",
        partial(activations.rows, module="resid_post_last"),
        activations.draw,
        of_prompts=True,
    ),
    "distances": Drawing(
        "Distance of cluster means against behaviour (Fig. A.33)",
        partial(distances.rows, module="mlp.post"),
        distances.draw,
    ),
    "distances_out": Drawing(
        "The same after the second MLP matrix (Fig. A.52)", partial(distances.rows, module="mlp_out"), distances.draw
    ),
    "angles": Drawing(
        "Angles between activations before and after tuning (Fig. A.16)",
        partial(angles.rows, jailbreaks=False),
        angles.draw,
    ),
    "angles_jailbreaks": Drawing(
        "The same of jailbreaks (Figs A.43-44)", partial(angles.rows, jailbreaks=True), angles.draw
    ),
    "projections_jailbreaks": Drawing(
        "Reach of jailbreaks along dW's rows (Figs A.34-37)",
        partial(projections.rows, module="W_in", jailbreaks=True),
        projections.draw,
    ),
    "neurons": Drawing("Effect of dW by neuron (Fig. A.38)", neurons.rows, neurons.draw),
    "neurons_sample": Drawing("Effect of dW on one prompt by neuron (Figs A.39-42)", sample.rows, sample.draw),
    "tau_groups": Drawing("Mean tau by concept group (Figs A.29-30)", groups.rows, groups.draw),
    "sines_out": Drawing(
        "Angle of dW's columns to those of W, second MLP matrix (Figs A.50-63)",
        partial(sines.rows, module="W_out"),
        sines.draw,
    ),
    "projections_out": Drawing(
        "Reach of safe and unsafe prompts along dW's rows, second MLP matrix (Figs A.50-63)",
        partial(projections.rows, module="W_out", jailbreaks=False),
        projections.draw,
    ),
    "spectra": Drawing(
        "Singular values of each cluster's covariance, before and after tuning (Figs A.19-22)",
        partial(spectra.rows, spectrum=spectra.COVARIANCE, steps=False),
        partial(spectra.draw, spectrum=spectra.COVARIANCE),
    ),
    "spectra_by_step": Drawing(
        "Singular values of each cluster's covariance over tuning (Figs A.19-22)",
        partial(spectra.rows, spectrum=spectra.COVARIANCE, steps=True),
        partial(spectra.draw, spectrum=spectra.COVARIANCE),
    ),
    "sines_by_step": Drawing(
        "Angle of dW's columns to those of W over tuning (Figs A.23-25)",
        partial(spectra.rows, spectrum=spectra.SINES, steps=True),
        partial(spectra.draw, spectrum=spectra.SINES),
    ),
    "projections_by_step": Drawing(
        "Reach of prompts along dW's rows over tuning (Figs A.26-28)",
        partial(spectra.rows, spectrum=spectra.PROJECTIONS, steps=True),
        partial(spectra.draw, spectrum=spectra.PROJECTIONS),
    ),
    "attacks": Drawing("What soft tokens do, by their number (Figs A.66-71)", attacks.rows, attacks.draw),
    "interventions": Drawing(
        "Behaviour of W + alpha dW (Figs A.72, A.75)", interventions.alpha_rows, interventions.draw_alpha
    ),
    "multiples": Drawing("What W + alpha dW holds (Figs A.76-85)", multiples.rows, multiples.draw),
    "parts": Drawing("What parts of dW carry", interventions.part_rows, interventions.draw_parts),
    "patches": Drawing(
        "Activations patched along the cluster axis", interventions.patch_rows, interventions.draw_patches
    ),
    "between": Drawing(
        "Behaviour between tuned models (Fig. A.73)",
        partial(paths.rows, kind="between"),
        partial(paths.draw, kind="between"),
    ),
    "transfer": Drawing(
        "The dW of one method in the model of another (Fig. A.74)",
        partial(paths.rows, kind="transfer"),
        partial(paths.draw, kind="transfer"),
    ),
    "scorecard": Drawing("The paper's claims, each with its control", scorecard.rows, scorecard.draw, each_paper=True),
}

TABLES: dict[str, tuple[str, tables.Columns]] = {
    "table_a1": ("Behaviour by method (Table A.1)", tables.ALL),
    "table_a2": ("Mismatched generalisation by kind (Table A.2)", tables.MISGEN),
}

GROUPS = {
    "behaviour": "Behaviour",
    "attacks": "Success of jailbreaks",
    "other families": "Compliance on the other families of prompts",
    "separation": "Separation of safe and unsafe prompts",
    "separability": "How well safe and unsafe prompts are told apart, and the shape of their clusters",
    "sines": "Angle of dW's columns to those of W",
    "projections": "Reach of prompts along dW's rows",
    "sensitivity": "Local Lipschitzness, against the untouched model",
    "change": "Size and place of dW",
    "data": "What the tuning data repeats",
}
"""Groups of `experiments.findings.outcomes`, each a figure of a sweep and one over the steps of tuning."""


STEPS, CLAIM_MAP = "steps", "claim_map"
OVER_STEPS, CLAIMS_WHERE = " over tuning", "Which of the paper's claims hold where"


class Job(NamedTuple):
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


def jobs(
    table: pd.DataFrame,
    only: Sequence[str] = (),
    planned: Sequence[str] = (),
    points: pd.DataFrame = NO_POINTS,
    papers: Sequence[Paper] | None = None,
) -> Iterator[Job]:
    """What there are rows for in the table, or in `points` for figures of prompts; of the names in `only` if any.

    Claims are those of `papers`, of all that there are if None.
    """
    papers = list(PAPERS.values()) if papers is None else papers
    if is_sweep(table):
        yield from _of_sweep(table, only, planned, papers)
        return
    for name, drawing in FIGURES.items():
        if (only and name not in only) or (drawing.of_prompts and points.empty):
            continue
        given = points if drawing.of_prompts else table
        # For each part of its name a table, and what else its functions are given.
        parts: dict[str, tuple[pd.DataFrame, tuple[Paper, ...]]] = {name: (given, ())}
        if drawing.each_method:
            parts = {f"{name}-{method}": (select(given, node=[UNTOUCHED, method]), ()) for method in tuned(table)}
        elif drawing.each_paper:
            parts = {_named(name, paper, papers): (given, (paper,)) for paper in papers}
        for part, (of_part, told) in parts.items():
            rows = drawing.rows(of_part, *told)
            if len(rows):
                yield Job(part, drawing.shows, rows, partial(drawing.draw, rows, *told), {})
    for name, (shows, columns) in TABLES.items():
        rows = tables.rows(table, columns) if not only or name in only else table.head(0)
        if len(rows):
            yield Job(name, shows, rows, None, {kind: write(rows, columns) for kind, write in TEXTS.items()})
    yield from _of_groups(outcomes.over_steps(table), f"_{STEPS}", OVER_STEPS, only, ())


def _named(name: str, paper: Paper, papers: Sequence[Paper]) -> str:
    """The name of a figure of one of `papers`."""
    return f"{name}-{paper.name}" if len(papers) > 1 else name


def _of_sweep(
    table: pd.DataFrame, only: Sequence[str], planned: Sequence[str], papers: Sequence[Paper]
) -> Iterator[Job]:
    yield from _of_groups(table, "", "", only, planned)
    for paper in papers if not only or CLAIM_MAP in only else ():
        verdicts = claim_map.rows(table, paper)
        if len(verdicts):
            draw = partial(claim_map.draw, verdicts, paper, planned)
            yield Job(_named(CLAIM_MAP, paper, papers), CLAIMS_WHERE, verdicts, draw, {})


def _of_groups(
    table: pd.DataFrame, suffix: str, said: str, only: Sequence[str], planned: Sequence[str]
) -> Iterator[Job]:
    names = {group.replace(" ", "_") + suffix: group for group in GROUPS}
    wanted = {name: group for name, group in names.items() if not only or name in only}
    values = outcomes.values(table) if wanted and len(table) else pd.DataFrame({"group": []})
    for name, group in wanted.items():
        rows = select(values, group=group)
        if len(rows):
            yield Job(name, GROUPS[group] + said, rows, partial(ablation.draw, rows, planned), {})


def described(name: str) -> tuple[str, str]:
    """What a figure shows, and how it is to be read; of one that is not ours, its name."""
    base, _, method = name.partition("-")
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
    return f"{shows}: {method}" if method else shows, read


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
            figure.set_layout_engine("none")
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
    `samples.coordinates`; claims are those of `papers`, of all that there are if None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = read_json(folder / INDEX, {}) if only else {}
    done = []
    for job in jobs(table, only, planned, points, papers):
        path = folder / job.name
        job.rows.to_csv(path.with_name(f"{job.name}.csv"), index=False, encoding="utf-8")
        for kind, text in job.texts.items():
            path.with_name(f"{job.name}.{kind}").write_text(text, encoding="utf-8")
        if job.draw:
            save(job.draw, path, width)
        kinds = [*(IMAGES if job.draw else ()), *job.texts, "csv"]
        index[job.name] = {"shows": job.shows, "files": [f"{job.name}.{kind}" for kind in kinds]}
        done.append(job.name)
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
