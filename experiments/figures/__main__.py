"""Figures of a finished study, drawn again from its table; nothing is computed anew.

`python -m experiments.figures run=outputs/quick-1a2b3c4d only=[tau,sines] width=column out=paper`
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments import figures
from experiments.command import command
from experiments.findings import outcomes, samples, seal
from experiments.findings.claims import PAPERS, UNNAMED
from experiments.findings.claims.paper import Paper
from experiments.findings.results import named_cell, select
from experiments.findings.seal import CELLS, CLAIMS, FIGURES
from experiments.progress import Reporter
from experiments.settings.commands import FiguresConfig
from synth.settings import UserError


def redraw(config: FiguresConfig) -> tuple[list[str], Path]:
    """What was drawn, and into which folder.

    Raises UserError for a folder without results, for a cell or a figure that it does not have.
    """
    run = Path(config.run)
    table = seal.results("run", run)
    seal.intact("run", run, [CELLS])
    folder = Path(config.out) if config.out else run / FIGURES
    cell = ""
    if config.cell is not None:
        cell = named_cell(outcomes.cells(table), config.cell)
        table = select(table, cell=cell)
        folder = folder if config.out else folder / f"cell-{cell}".replace("/", "_")
    known = figures.names(figures.is_sweep(table))
    for name in config.only:
        if name not in known:
            raise UserError(f"only={name}: there is no such figure here; choose from {', '.join(known)}")
    planned = _planned(run, table) if figures.is_sweep(table) else []
    there = (run / seal.MODELS).exists() and not figures.is_sweep(table)
    points = samples.coordinates(seal.models("run", run).get(cell, {})) if there else figures.NO_POINTS
    drawn = figures.draw_all(table, folder, config.width, config.only, planned, points, _papers(run))
    if os.path.realpath(folder) == os.path.realpath(run / FIGURES):
        seal.renew(run, [f"{FIGURES}/{name}" for name in figures.files(folder)])
    missing = [name for name in config.only if name not in {one.partition("-")[0] for one in drawn}]
    if missing:
        raise UserError(
            f"only={missing[0]}: this study has no rows for it, in table or store; measure them, or leave it out"
        )
    return drawn, folder


def _planned(run: Path, table: pd.DataFrame) -> list[str]:
    """The cells of the sweep, with those that failed if the study's folder tells of them."""
    planned = [
        str(one["cell"]) for one in figures.read_json(run / CELLS, []) if isinstance(one, dict) and "cell" in one
    ]
    return planned if set(outcomes.cells(table)) <= set(planned) else []


def _papers(run: Path) -> list[Paper] | None:
    """The papers whose claims the study's folder has verdicts on; None where it does not say."""
    if not (run / CLAIMS).exists():
        return None
    judged = {one.get("paper", UNNAMED) for one in figures.read_json(run / CLAIMS, []) if isinstance(one, dict)}
    return [paper for name, paper in PAPERS.items() if name in judged]


def _run(config: FiguresConfig, reporter: Reporter) -> None:
    drawn, folder = redraw(config)
    reporter.say(f"{', '.join(drawn)} in {folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return command("experiments.figures", __doc__, FiguresConfig, _run, arguments)


if __name__ == "__main__":
    sys.exit(main())
