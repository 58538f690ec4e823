"""The command that draws figures again: into which folder, of which cell, and one line for what it cannot do."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from experiments.figures.__main__ import main
from tests.experiments.made_results import results, swept


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    results().to_parquet(folder / "results.parquet")
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    swept().to_parquet(folder / "results.parquet")
    cells = [{"cell": name, "status": "done"} for name in ("0.0", "0.25", "0.5", "1.0")]
    (folder / "cells.json").write_text(json.dumps(cells))
    return folder


def test_it_draws_what_is_asked_in_the_width_asked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"run={run}", "only=[tau,table_a1]", "width=column", f"out={tmp_path}"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.json", "tau.pdf", "tau.png", "tau.csv", "table_a1.tex", "table_a1.md", "table_a1.csv",
    }  # fmt: skip
    with Image.open(tmp_path / "tau.png") as image:
        assert image.width == 650
    assert "tau, table_a1 in" in capsys.readouterr().out.replace("\n", " ")
    assert main([f"run={run}", "only=tau", "width=4"]) == 0
    with Image.open(run / "figures" / "tau.png") as image:
        assert image.width == 800


@pytest.mark.parametrize("cell", ["0.5", "0.50", "5e-1"])
def test_a_cell_of_a_sweep_has_the_figures_of_a_study(cell: str, sweep: Path) -> None:
    assert main([f"run={sweep}", "only=tau", f"cell={cell}"]) == 0
    rows = pd.read_csv(sweep / "figures" / "cell-0.5" / "tau.csv")
    assert set(rows["cell"]) == {0.5}


def test_a_sweep_is_drawn_with_its_planned_cells(sweep: Path, tmp_path: Path) -> None:
    assert main([f"run={sweep}", "only=behaviour", f"out={tmp_path}"]) == 0
    with_gap = (tmp_path / "behaviour.png").read_bytes()
    (sweep / "cells.json").rename(sweep / "hidden.json")
    assert main([f"run={sweep}", "only=behaviour", f"out={tmp_path}"]) == 0
    (sweep / "hidden.json").rename(sweep / "cells.json")
    assert (tmp_path / "behaviour.png").read_bytes() != with_gap


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "error: run='': must name a study's output folder; for example run=outputs/quick-1a2b3c4d"),
        (["run=nowhere"], "error: run=nowhere: there is no results.parquet that can be read; name a study's output"),
        (["run={run}", "only=tauu"], "error: only=tauu: there is no such figure here; choose from behaviour, tau, "),
        (["run={run}", "only=[tau,claim_map]"], "error: only=claim_map: there is no such figure here; choose from "),
        (["run={run}", "only=tau_steps"], "error: only=tau_steps: there is no such figure here; choose from "),
        (
            ["run={run}", "only=spectra_by_step"],
            "error: only=spectra_by_step: this study has no rows for it, in table or store; ",
        ),
        (["run={sweep}", "only=tau"], "error: only=tau: there is no such figure here; choose from behaviour, attacks"),
        (["run={sweep}", "cell=0.3"], "error: cell=0.3: there is no such cell; choose from 0.0, 0.5, 1.0"),
        (["run={run}", "width=wide"], "error: width=wide: must be column, text, page or from 2 to 20 inches; set "),
        (["run={run}", "width=0.5"], "error: width=0.5: must be column, text, page or from 2 to 20 inches; set "),
        (["run={run}", "width=true"], "error: width=True: must be column, text, page or from 2 to 20 inches; set "),
        (["run={run}", "widht=3"], "error: widht: there is no such setting; did you mean width?"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    settings: list[str], said: str, run: Path, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one.format(run=run, sweep=sweep) for one in settings]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(said)
    assert printed.count("\n") == 1


def test_a_damaged_table_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.parquet").write_bytes(b"PAR1 no")
    assert main([f"run={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: run={tmp_path}: there is no results.parquet that can be read")
