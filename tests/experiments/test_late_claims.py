"""Claims of Yuan et al. 2024 and of Qi et al. 2024 on tables whose truth is known, and their measures by hand."""

import pandas as pd
import pytest

from experiments.findings.claims import qi2024, yuan2024
from experiments.findings.claims.paper import Paper
from experiments.findings.scorecard import evidence, scorecard
from experiments.findings.verdicts import NO_EFFECT, OPPOSITE, SUPPORTED, UNSPECIFIC, UNTESTABLE, Verdict
from tests.experiments.made_late import make

PAPERS = (yuan2024.PAPER, qi2024.PAPER)
SAME = {name for paper in PAPERS for name, claim in paper.claims.items() if claim.expects == "same"}
BY_PLACEBOS = {"late, safe", "deep, safe", "DPO, prefill", "DPO, jailbreaks", "deep, tokens"}
"""What a model without safety shows too: that it keeps what it had, or has less than what is compared with"""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make(1)


def told(table: pd.DataFrame, paper: Paper) -> dict[str, Verdict]:
    return {one.claim: one for one in scorecard(table, paper)}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
@pytest.mark.parametrize(("way", "expected"), [(1, ""), (0, NO_EFFECT), (-1, OPPOSITE)])
def test_every_claim_is_told(way: float, expected: str, paper: Paper) -> None:
    for name, one in told(make(way), paper).items():
        held = UNSPECIFIC if name in BY_PLACEBOS else SUPPORTED
        # What is to stay the same does so at 1 alone.
        assert one.verdict == (held if way == 1 else OPPOSITE if name in SAME else expected), (name, one.note)
        assert bool(one.also) == (name in BY_PLACEBOS) or way < 1


@pytest.mark.parametrize(
    ("metric", "absent"),
    [
        ("refusal_first", {"position bias"}),
        ("begun_random_complied", {"prefill, letters"}),
        ("begun_stopped", {"late stops"}),
        ("begun_null_refused", {"refusal prefix"}),
        ("kl_first_matched_comply", {"first token, matched"}),
        ("token_kl_comply", {"moved, two draws"}),
        ("kl_first_comply_even", {"first token"}),
    ],
)
def test_each_claim_misses_its_own_rows(metric: str, absent: set[str], table: pd.DataFrame) -> None:
    found = {name: one for paper in PAPERS for name, one in told(table[table["metric"] != metric], paper).items()}
    assert {name for name, one in found.items() if one.verdict == UNTESTABLE} == absent


def test_without_attacked_models_their_claims_say_which_are_missing(table: pd.DataFrame) -> None:
    found = told(table[~table["node"].str.contains("+", regex=False)], qi2024.PAPER)
    missing = {name: one.note for name, one in found.items() if one.verdict == UNTESTABLE}
    assert set(missing) == {"attack", "attack, benign", "deep, attack", "constrained"}
    assert "sft+comply_all" in missing["attack"]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_what_was_read_is_enough_to_judge_by(paper: Paper, table: pd.DataFrame) -> None:
    assert repr(scorecard(evidence(table, paper), paper)) == repr(scorecard(table, paper))


def test_a_world_without_a_refusal_takes_itself_along_and_no_other(table: pd.DataFrame) -> None:
    """Of no response that refuses there is no first token, of 0 responses."""
    none = (table["metric"] == "refusal_first") & (table["node"] == "dpo") & (table["seed"] == 0)
    missing = table["missing"].astype(object).mask(none, "there are no such prompts")
    bare = table.assign(value=table["value"].mask(none), n=table["n"].mask(none, 0), missing=missing)
    one = told(bare, yuan2024.PAPER)["position bias"]
    assert (one.verdict, one.n) == (SUPPORTED, table["seed"].nunique() - 1)
