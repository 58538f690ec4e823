"""The claims on directions of refusal on tables whose truth is known, and their figures on made results."""

import numpy as np
import pandas as pd
import pytest

from experiments.findings.claims.arditi2024 import PAPER
from experiments.findings.scorecard import evidence, scorecard
from experiments.findings.verdicts import NO_EFFECT, OPPOSITE, SUPPORTED, UNSPECIFIC, UNTESTABLE
from tests.experiments.made_directions import make

SAME = {name for name, claim in PAPER.claims.items() if claim.expects == "same"}


@pytest.mark.parametrize(("strength", "expected"), [(1, SUPPORTED), (0, NO_EFFECT), (-1, OPPOSITE)])
def test_every_claim_is_told(strength: float, expected: str) -> None:
    table = make(strength)
    for one in scorecard(table, PAPER):
        # That nothing changed is what a placebo shows too.
        same = UNSPECIFIC if strength == 1 else OPPOSITE
        assert one.verdict == (same if one.claim in SAME else expected), (one.claim, one.note)
    # What a claim read is enough to judge it by.
    again = scorecard(evidence(table, PAPER), PAPER)
    assert [one.verdict for one in again] == [one.verdict for one in scorecard(table, PAPER)]


def test_a_contrast_by_hand() -> None:
    table = make(1)
    (one,) = (one for one in scorecard(table, PAPER) if one.claim == "suppressed")
    at_eot = table[(table["position"] == 0) & (table["layer"] >= 3)]
    of = {
        metric: at_eot[(at_eot["metric"] == metric) & (at_eot["node"] == "dpo")]["value"].mean()
        for metric in ("refusal_cosine_successful", "refusal_cosine")
    }
    (dpo,) = (each for each in one.methods if each.method == "dpo")
    assert dpo.effect == pytest.approx(of["refusal_cosine_successful"])
    assert dpo.control == pytest.approx(of["refusal_cosine"])
    assert dpo.contrast == pytest.approx(dpo.effect - dpo.control)


def test_a_model_in_which_no_direction_was_found_is_untestable() -> None:
    table = make(1)
    bare = table[~table["node"].isin(PAPER.conventions.methods)]
    nothing = table[table["metric"] == "direction_passing"].assign(value=np.nan, missing="they leave the same")
    found = scorecard(pd.concat([bare, nothing[nothing["node"].isin(PAPER.conventions.methods)]]), PAPER)
    assert {one.verdict for one in found} == {UNTESTABLE}
    (one,) = (one for one in found if one.claim == "a direction passes")
    assert "they leave the same" in one.note
