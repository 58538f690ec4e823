"""A paper is one file: here with a claim that holds and one that fails by construction, and conventions of its own."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import figures
from experiments.findings.claims import PAPERS
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.paper import Claim, Paper
from experiments.findings.claims.reading import Results
from experiments.findings.verdicts import OPPOSITE, SUPPORTED
from experiments.run import main
from experiments.settings.config import load, output_folder
from tests.experiments.test_study import TINY

pytestmark = pytest.mark.usefixtures("with_optax")


def answered(results: Results, method: str) -> tuple[pd.Series, float]:
    """The shares of what a response can be, which are 1 together, against half."""
    shares = [results.mean(metric, method, family="safe") for metric in ("complied", "refused", "neither")]
    return sum(shares[1:], shares[0]), 0.5


PAPER = Paper(
    "made",
    {
        "holds": Claim("Thm 1", "Fig. 1", "more than half of responses are some response", answered, unit="share"),
        "fails": Claim("Thm 2", "", "fewer than half of responses are any", answered, unit="share", expects="below"),
    },
    Conventions(methods=("sft",), placebos=()),
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's row, and no more figures than show it."""
    monkeypatch.setitem(PAPERS, "made", PAPER)
    monkeypatch.setattr(figures, "FIGURES", {"scorecard": figures.FIGURES["scorecard"]})


@pytest.mark.usefixtures("drawn")
def test_it_is_judged_and_shown_as_any_row_is(tmp_path: Path) -> None:
    small = ["methods=[sft]", "model.layers=1", "random_model=false"]
    settings = [*TINY, *small, f"output_dir={tmp_path}/outputs", f"store_dir={tmp_path}/store"]
    both = [*settings, "papers=[jain2024,made]"]
    assert main(both) == 0
    folder = output_folder(load(both))
    verdicts = {one["claim"]: one for one in json.loads((folder / "claims.json").read_text()) if one["paper"] == "made"}
    assert {name: one["verdict"] for name, one in verdicts.items()} == {"holds": SUPPORTED, "fails": OPPOSITE}
    assert {one["family"] for one in verdicts.values()} == {"Thm 1", "Thm 2"}
    assert (folder / "figures" / "scorecard-made.png").stat().st_size > 100
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store" / "artifacts").iterdir()}
    # Alone it is shown without its name, and nothing is trained or measured for it.
    assert main([*settings, "papers=[made]"]) == 0
    assert (output_folder(load([*settings, "papers=[made]"])) / "figures" / "scorecard.png").exists()
    assert made == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store" / "artifacts").iterdir()}
