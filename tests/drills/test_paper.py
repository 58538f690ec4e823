"""A paper is one file: here with a claim that holds and one that fails by construction, and conventions of its own."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from experiments import figures
from experiments.findings import printed
from experiments.findings.claims import PAPERS
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.paper import Claim, Paper
from experiments.findings.claims.reading import Reading
from experiments.findings.scorecard import of_cells, to_json
from experiments.settings.config import load
from tests.experiments.made_results import results


def answered(results: Reading, method: str) -> tuple[pd.Series, float]:
    """The shares of all that a response can be, which are 1 together, against half."""
    shares = [results.mean(metric, method, family="safe") for metric in ("complied", "refused", "neither")]
    return sum(shares[1:], shares[0]), 0.5


PAPER = Paper(
    "made",
    {
        "holds": Claim("Thm 1", "Fig. 1", "more than half of responses are some response", answered, unit="share"),
        "fails": Claim("Thm 2", "", "fewer than half of responses are any", answered, unit="share", expects="below"),
    },
    Conventions(methods=("dpo",), placebos=("continued",)),
)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAPERS, "made", PAPER)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return results(seeds=5)


def test_it_is_judged_as_any_row_is(table: pd.DataFrame) -> None:
    papers = [PAPERS[name] for name in load(["papers=[jain2024,made]"]).papers]
    verdicts = [one for one in json.loads(to_json(of_cells(table, papers))) if one["paper"] == "made"]
    said = {one["claim"]: (one["source"], one["family"], one["verdict"]) for one in verdicts}
    # What was trained without what the paper is about has responses, too.
    assert said == {"holds": ("Thm 1, Fig. 1", "Thm 1", "unspecific"), "fails": ("Thm 2", "Thm 2", "opposite")}
    assert [(each["method"], each["verdict"]) for each in verdicts[0]["methods"]] == [("dpo", "supported")]
    assert verdicts[0]["also"] == ["continued"]


def test_it_is_shown_as_any_row_is(table: pd.DataFrame, tmp_path: Path) -> None:
    papers = [PAPERS["jain2024"], PAPER]
    assert figures.draw_all(table, tmp_path, only=["scorecard"], papers=papers) == [
        "scorecard-jain2024",
        "scorecard-made",
    ]
    assert set(pd.read_csv(tmp_path / "scorecard-made.csv")["metric"]) == {"complied", "refused", "neither"}
    console = Console(width=100, file=io.StringIO())
    console.print(*printed.render(of_cells(table, papers)[""]))
    assert isinstance(console.file, io.StringIO)
    assert "Claims of made over 5 seeds of one world: 0 supported, 1 unspecific, 1 opposite" in console.file.getvalue()
