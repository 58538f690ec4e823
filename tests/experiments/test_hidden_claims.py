"""Claims of Zhao et al. 2025 and of Pan et al. 2025 on tables whose truth is known, and their measures by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.findings.claims import pan2025, zhao2025
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.paper import Paper
from experiments.findings.claims.reading import MissingError, Reading
from experiments.findings.scorecard import scorecard
from experiments.findings.verdicts import NO_EFFECT, OPPOSITE, SUPPORTED, UNTESTABLE, Verdict
from tests.experiments.made_hidden import SAFETY, make

PAPERS = (zhao2025.PAPER, pan2025.PAPER)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make(1)


def told(table: pd.DataFrame, paper: Paper) -> dict[str, Verdict]:
    return {one.claim: one for one in scorecard(table, paper)}


def reading(table: pd.DataFrame) -> Reading:
    return Reading(table, Conventions(SAFETY))


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_where_all_holds_all_is_supported_and_by_no_placebo(paper: Paper, table: pd.DataFrame) -> None:
    found = told(table, paper)
    assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(paper.claims, SUPPORTED)
    assert not any(one.also for one in found.values())


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
@pytest.mark.parametrize(("strength", "expected"), [(0, NO_EFFECT), (-1, OPPOSITE)])
def test_no_effect_and_the_reverse_are_told_apart(strength: float, expected: str, paper: Paper) -> None:
    found = told(make(strength), paper)
    assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(paper.claims, expected)


@pytest.mark.parametrize(
    ("metric", "absent"),
    [
        ("halves_cosine", {"apart"}),
        ("side_score_successful", {"jailbreaks"}),
        ("side_gap", {"harm at the text", "refusal at EOT", "jailbreaks"}),
        ("shift_energy", {"one direction", "one direction, by safety"}),
        ("shift_accuracy_permuted", {"detector"}),
        ("axis_overlap", {"refusal between clusters", "refusal between clusters, MLP"}),
        ("refused", {"removal", "refusal off dW", "shift off dW"}),
        ("found_again", {"shift goes with refusal", "axis goes with refusal"}),
    ],
)
def test_each_claim_misses_its_own_rows(metric: str, absent: set[str], table: pd.DataFrame) -> None:
    found = {name: one for paper in PAPERS for name, one in told(table[table["metric"] != metric], paper).items()}
    assert {name for name, one in found.items() if one.verdict == UNTESTABLE} == absent
    assert all(found[name].note.startswith(f"not in the table: {metric}") for name in absent)


def test_directions_are_apart_by_more_than_noise_puts_them(table: pd.DataFrame) -> None:
    across, ceiling = zhao2025.apart(reading(table), "sft")
    deep = table[(table["node"] == "sft") & (table["layer"] > 2)]
    by_place = deep[deep["metric"] == "halves_cosine"].groupby(["seed", "position"])["value"].mean().unstack()
    np.testing.assert_allclose(ceiling, np.sqrt(by_place[-1] * by_place[0]))
    whole = deep[deep["metric"] == "harm_refuse_cosine_halves"].groupby("seed")["value"].mean()
    np.testing.assert_allclose(across, whole)
    # A direction that is not even like itself can be no other one.
    nothing = table.assign(value=table["value"].where(table["metric"] != "halves_cosine", -0.2))
    assert (zhao2025.apart(reading(nothing), "sft")[1] == 0).all()


def test_jailbreaks_count_by_how_many_succeed(table: pd.DataFrame) -> None:
    at_eot = (table["metric"] == "side_score_successful") & (table["position"] == 0)
    few = table.copy()
    few.loc[at_eot & (few["family"] == "co_task"), ["value", "n"]] = [-1.0, 120]
    few.loc[at_eot & (few["family"] == "misgen_both"), ["value", "n"]] = [1.0, 40]
    refusal, _ = zhao2025.jailbreaks_move(reading(few), "sft")
    # (120 * 1 + 40 * 0) / 160 of the way.
    np.testing.assert_allclose(refusal, 0.75, atol=0.01)
    few.loc[at_eot & (few["family"] == "co_task"), ["value", "n"]] = [np.nan, 0]
    np.testing.assert_allclose(zhao2025.jailbreaks_move(reading(few), "sft")[0], 0, atol=0.01)


def test_there_is_no_way_between_what_is_not_apart(table: pd.DataFrame) -> None:
    at_text = (table["metric"] == "side_gap") & (table["position"] == -1)
    some = table.assign(value=table["value"].where(~(at_text & (table["seed"] < 2)), 0.4))
    for effect in zhao2025.jailbreaks_move(reading(some), "sft"):
        assert list(effect.index) == [2, 3, 4, 5]
    none = table.assign(value=table["value"].where(~at_text, 0.4))
    with pytest.raises(MissingError, match=r"^sft does not tell unsafe from safe prompts at both positions$"):
        zhao2025.jailbreaks_move(reading(none), "sft")


def test_the_share_of_the_first_component_is_compared_with_the_nearest_placebo(table: pd.DataFrame) -> None:
    higher = table.assign(
        value=table["value"].where((table["metric"] != "shift_energy") | (table["node"] != "shuffled"), 0.7)
    )
    one = told(higher, pan2025.PAPER)["one direction, by safety"]
    assert (one.verdict, one.control) == (OPPOSITE, pytest.approx(0.7))
    without = replace(pan2025.PAPER, conventions=replace(pan2025.PAPER.conventions, placebos=("continued",)))
    assert told(higher, without)["one direction, by safety"].verdict == SUPPORTED
