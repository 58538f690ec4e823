"""Papers: judged apart, each by conventions of its own, and shown apart."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import figures
from experiments.figures.__main__ import main
from experiments.findings.claims import PAPERS
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.jain2024 import PAPER
from experiments.findings.claims.measures import LAST, SFT, against, untouched
from experiments.findings.claims.paper import Claim, Paper
from experiments.findings.claims.reading import Reading
from experiments.findings.printed import render
from experiments.findings.scorecard import of_cells, scorecard, to_json
from experiments.findings.verdicts import UNTESTABLE, Verdict
from experiments.run import main as run
from tests.experiments.made_claims import PLACEBOS, make
from tests.experiments.made_results import swept

OTHER = Paper(
    "other",
    {
        "separation": Claim("Thm 1", "Fig. 1", "the clusters come together", untouched("separation", **LAST), (SFT,)),
        "harder": Claim("Thm 1", "", "DPO separates more than SSFT", against(SFT, "separation", **LAST), ("dpo",)),
    },
    Conventions(methods=("dpo",)),
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make(1, 0.05)


def told(table: pd.DataFrame, **conventions: Any) -> dict[str, Verdict]:
    """The verdicts on PAPER with other conventions."""
    other = replace(PAPER, conventions=replace(PAPER.conventions, **conventions))
    return {one.claim: one for one in scorecard(table, other)}


def test_a_paper_is_judged_as_if_it_were_alone(table: pd.DataFrame) -> None:
    both = of_cells(table, [OTHER, PAPER])[""]
    alone = [*scorecard(table, OTHER), *scorecard(table, PAPER)]
    assert to_json({"": both}) == to_json({"": alone})
    assert [one["paper"] for one in json.loads(to_json({"": both}))] == ["other"] * 2 + ["jain2024"] * len(PAPER.claims)
    assert of_cells(table, []) == {"": []}


@pytest.mark.parametrize(("share", "layers"), [(0.5, {3, 4}), (0.25, {4}), (0.75, {2, 3, 4}), (1.0, {1, 2, 3, 4})])
def test_numbers_by_layer_are_read_from_the_deep_share_of_layers(
    share: float, layers: set[int], table: pd.DataFrame
) -> None:
    read = Reading(table, Conventions(("sft",), deep=share)).mean("tau", "sft", family="safe", **LAST)
    rows = table.query("metric == 'tau' and node == 'sft' and family == 'safe' and module == 'mlp.post_last'")
    expected = rows[rows["layer"].isin(layers)].groupby("seed")["value"].mean()
    np.testing.assert_allclose(read, expected, rtol=1e-12)


def test_methods_are_those_of_claims_that_name_none_and_of_what_is_added(table: pd.DataFrame) -> None:
    found = told(table, methods=("sft", "dpo"))
    assert [each.method for each in found["separation"].methods] == ["sft", "dpo"]
    assert [each.method for each in found["extrapolation"].methods] == ["sft"]
    from_unlearning = (table["intervention"] == "transfer") & (table["other"] == "unlearning")
    without = told(table[~from_unlearning], methods=("sft", "dpo"))
    assert without["transfer"].methods == found["transfer"].methods
    assert told(table)["transfer"].methods[0] != told(table[~from_unlearning])["transfer"].methods[0]


def test_placebos_are_those_of_the_paper(table: pd.DataFrame) -> None:
    assert all(one.placebos == () for one in told(table, placebos=()).values())
    (one,) = (one for name, one in told(table, placebos=PLACEBOS[:1]).items() if name == "unsafe, placebos")
    of_one = table.query("metric == 'lipschitz' and family == 'unsafe' and intervention.isna()", engine="python")
    lowest = of_one[of_one["node"] == PLACEBOS[0]]["value"]
    assert one.control == pytest.approx(float(np.exp(np.log(lowest).mean())))


def test_no_claim_is_about_a_placebo() -> None:
    with pytest.raises(
        ValueError, match=r"^other, harder: dpo is a placebo of the paper; leave it out of one of both$"
    ):
        replace(OTHER, conventions=Conventions(methods=("sft",), placebos=("dpo",)))


def test_thresholds_are_those_of_the_paper(table: pd.DataFrame) -> None:
    destroyed = table.copy()
    beyond = (destroyed["intervention"] == "alpha") & (destroyed["strength"] > 1) & (destroyed["family"] == "safe")
    destroyed.loc[beyond & (destroyed["metric"] == "complied"), "value"] = 0.5
    assert "fewer than 90% of the safe" in told(destroyed)["extrapolation"].note
    assert told(destroyed, kept=0.4)["extrapolation"].verdict == "supported"
    # The dW of W_in carries 16 nats in this table.
    assert told(table, least_carried=12.0)["refusal by one"].verdict == "supported"
    assert told(table, least_carried=20.0)["refusal by one"].verdict == UNTESTABLE


def test_several_papers_are_printed_apart(table: pd.DataFrame) -> None:
    console = Console(width=100, file=io.StringIO())
    tables = render([*scorecard(table, OTHER), *scorecard(table, PAPER)])
    console.print(*tables)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert len(tables) == 2
    assert said.index("Claims of other over 6 seeds of one world: ") < said.index("Claims of jain2024 over 6 seeds")
    assert render([]) == []
    few = [one for paper in (OTHER, PAPER) for one in scorecard(make(1, 0.01, seeds=3), paper)]
    assert [str(one).partition(":")[0] for one in render(few)] == ["no scorecard"]


def test_several_papers_have_a_figure_each() -> None:
    of_one = make(1, 0.05, seeds=2)
    sweep = swept()
    for drawn, name in ((of_one, "scorecard"), (sweep, "claim_map")):
        alone = [shown.name for shown in figures.exhibits(drawn, [name], papers=[PAPER])]
        both = list(figures.exhibits(drawn, [name], papers=[PAPER, OTHER]))
        assert (alone, [shown.name for shown in both]) == ([name], [f"{name}-jain2024", f"{name}-other"])
        assert not list(figures.exhibits(drawn, [name], papers=[]))
    assert {*both[1].rows["claim"]} <= {*OTHER.claims}
    assert figures.described("claim_map-other")[0].endswith("hold where: other")


@pytest.mark.parametrize(
    ("claims", "drawn"),
    [([], False), ([{"paper": "jain2024"}], True), ([{"claim": "of before"}], True), ([{"paper": "gone"}], False)],
)
def test_the_papers_of_a_folder_are_drawn_again(claims: list[dict[str, str]], drawn: bool, tmp_path: Path) -> None:
    make(1, 0.05, seeds=2).to_parquet(tmp_path / "results.parquet")
    (tmp_path / "claims.json").write_text(json.dumps(claims))
    assert main([f"run={tmp_path}", "only=scorecard"]) == (0 if drawn else 2)
    assert (tmp_path / "figures" / "scorecard.png").exists() == drawn


@pytest.mark.parametrize(
    ("papers", "said"),
    [
        ("[none]", f"papers=none: must be among {', '.join(PAPERS)}; choose from these"),
        ("[jain2024,jain2024]", "papers=['jain2024', 'jain2024']: must not repeat a paper; name each once"),
    ],
)
def test_papers_that_there_are_not_are_one_line(papers: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([f"papers={papers}", "dry_run=true"]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
