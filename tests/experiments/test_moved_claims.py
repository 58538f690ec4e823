"""Claims of Peng et al. 2024 and of Zhou et al. 2024 on tables whose truth is known, and their measures by hand."""

import pandas as pd
import pytest

from analysis.edits.disaligned import DISALIGN, DISALIGN_RANDOM
from analysis.edits.landscape import BY_CHANGE, MOVE
from experiments.findings.claims import moved, peng2024, zhou2024
from experiments.findings.claims.begun import attacked
from experiments.findings.claims.paper import Paper
from experiments.findings.claims.reading import MissingError, Reading
from experiments.findings.results import select
from experiments.findings.scorecard import evidence, scorecard
from experiments.findings.verdicts import NO_EFFECT, OPPOSITE, SUPPORTED, UNSPECIFIC, UNTESTABLE, Verdict
from tests.experiments.made_moved import make

PAPERS = (peng2024.PAPER, zhou2024.PAPER)
OF_NODES = {"leaves", "orders", "orders, refusal", "orders, all points"}
"""Claims on models that were attacked by tuning"""
ALONG = {"tuning's direction", "tuning's direction, safe"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make(1)


@pytest.fixture(scope="module")
def reading(table: pd.DataFrame) -> Reading:
    return Reading(table, peng2024.PAPER.conventions)


def told(table: pd.DataFrame, paper: Paper) -> dict[str, Verdict]:
    return {one.claim: one for one in scorecard(table, paper)}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
@pytest.mark.parametrize(("way", "expected"), [(1, SUPPORTED), (0, NO_EFFECT), (-1, OPPOSITE)])
def test_every_claim_is_told(way: float, expected: str, paper: Paper) -> None:
    for name, one in told(make(way), paper).items():
        if name == "safe":
            # Placebos keep what they had, too.
            assert one.verdict == (UNSPECIFIC if way == 1 else OPPOSITE)
        else:
            assert (one.verdict, one.also) == (expected, ()), (name, one.note)


@pytest.mark.parametrize(
    ("rows", "absent"),
    [
        ({"metric": "basin_fall"}, {"step"}),
        ({"metric": "basin_width", "intervention": BY_CHANGE}, ALONG),
        ({"metric": "basin_width", "intervention": MOVE}, {"basin", "leaves", *ALONG}),
        ({"metric": "change_strength"}, {"leaves"}),
        ({"metric": "visage"}, {"orders", "orders, refusal"}),
        ({"metric": "visage_whole"}, {"orders, all points"}),
        ({"metric": "refused"}, {"orders, refusal", "orders, all points"}),
        ({"family": ["co_task", "misgen_task"]}, {"jailbreaks"}),
        ({"intervention": DISALIGN_RANDOM}, {"odds, random"}),
        ({"intervention": DISALIGN, "strength": 0.0}, {"base", "odds", "safe"}),
        ({"metric": "log_odds"}, {"odds", "odds, random"}),
        ({"node": attacked("dpo")}, {"orders", "orders, refusal", "orders, all points"}),
        ({"node": [attacked(one) for one in ("sft", "dpo", "unlearning")]}, OF_NODES),
    ],
)
def test_each_claim_misses_its_own_rows(rows: dict[str, object], absent: set[str], table: pd.DataFrame) -> None:
    left = table.drop(select(table, **rows).index)
    found = {name: one for paper in PAPERS for name, one in told(left, paper).items()}
    assert {name for name, one in found.items() if one.verdict == UNTESTABLE} == absent


def test_edits_are_read_over_all_strengths_but_none(table: pd.DataFrame) -> None:
    reading = Reading(table, zhou2024.PAPER.conventions)
    own = select(table, node="sft", metric="log_odds", family="unsafe")
    effect, control = moved.edited("log_odds", DISALIGN, moved.BASE, family="unsafe")(reading, "sft")
    assert isinstance(control, pd.Series)
    for values, strengths in ((effect, [0.5, 1.0]), (control, [0.0])):
        rows = select(own, intervention=DISALIGN, strength=strengths)
        pd.testing.assert_series_equal(
            values, rows.groupby("seed")["value"].mean(), check_names=False, check_dtype=False, check_index_type=False
        )


def test_of_jailbreaks_what_is_left_is_a_part_of_what_there_was(table: pd.DataFrame, reading: Reading) -> None:
    own = select(table, node="dpo", metric="complied", intervention=MOVE)
    effect, control = moved.jailbreaks_kept(reading, "dpo")
    for values, families in ((effect, ["co_task", "misgen_task"]), (control, ["safe"])):
        rows = select(own, family=families)
        means = rows.assign(still=rows["strength"] == 0).groupby("still")["value"].mean()
        assert values.mean() == pytest.approx(means[False] / means[True], rel=1e-3)
    rare = table.assign(value=table["value"].where(table["family"] != "co_task", 0.05))
    rare = rare[rare["family"] != "misgen_task"]
    with pytest.raises(MissingError, match="dpo complies with 5% of jailbreaks, too few"):
        moved.jailbreaks_kept(Reading(rare, peng2024.PAPER.conventions), "dpo")


def test_an_order_is_counted_by_pairs(table: pd.DataFrame) -> None:
    """SSFT lies lowest of three, and is overtaken by one in one of both."""
    changed = table.copy()
    scores = {"sft": 0.2, "dpo": 0.1, "unlearning": 0.9}
    for method, score in scores.items():
        changed.loc[(changed["node"] == method) & (changed["metric"] == "visage"), "value"] = score
    reading = Reading(changed, peng2024.PAPER.conventions)
    found = {name: moved.orders("visage", intervention=MOVE)(reading, name)[0].unique().tolist() for name in scores}
    assert found == {"sft": [0.0], "dpo": [0.0], "unlearning": [1.0]}
    tied = changed.assign(value=changed["value"].where(changed["metric"] != "visage", 0.5))
    effect, control = moved.orders("visage", intervention=MOVE)(Reading(tied, peng2024.PAPER.conventions), "sft")
    assert effect.tolist() == [0.0] * 6
    assert control == 0


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_what_was_read_is_enough_to_judge_by(paper: Paper, table: pd.DataFrame) -> None:
    assert repr(scorecard(evidence(table, paper), paper)) == repr(scorecard(table, paper))
