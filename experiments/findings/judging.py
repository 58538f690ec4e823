"""The tests behind verdicts: evidence of single claims, weighed one by one and judged family by family.

Tests are Student's t over replicates. Errors are controlled on both sides: over the claims of a family and
their methods, the chance of any false "supported" is at most 5 %, and so is that of any false "opposite" or
"no effect" (Holm's correction each).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.stats import Paired, equivalence_p, holm, one_sided_p, paired_test
from experiments.findings.claims.paper import Claim
from experiments.findings.claims.units import UNITS
from experiments.findings.verdicts import NO_EFFECT, OPPOSITE, SUPPORTED, UNDECIDED, UNTESTABLE, Pairs

LEVEL = 0.05
FLOOR = 0.02
"""A share no further from 0 or 1 is at the end of what can be measured."""


class Compared(NamedTuple):
    """Effect and control of one claim and model, or why there are none."""

    pairs: Pairs
    """One per seed"""
    missing: str = ""
    resolution: float = 0.0


class Evidence(NamedTuple):
    """The test of one claim and model."""

    test: Paired
    means: tuple[float, float]
    """Of effect and control, on the unit's scale"""
    margin: float
    untestable: str
    """Why, if so"""
    claimed: float
    """p that it is not as claimed"""
    contrary: float
    """p that it has not the other sign; where a claim is that two are the same, that they do not differ"""
    equal: float
    """p that it is not within the margin; nan where that is claimed"""

    @property
    def against(self) -> float:
        """p of whichever speaks against the claim."""
        return float(np.fmin(self.contrary, self.equal))


def weigh(claim: Claim, compared: Compared) -> Evidence:
    """The tests of one claim and model, not yet corrected."""
    pairs, unit = compared.pairs.by_world(), UNITS[claim.unit]
    effect, control = pairs.means
    test = paired_test(pairs.contrast, compared.resolution)
    margin, why = unit.margin, compared.missing
    if claim.unit == "share" and not why:
        margin, why = attainable(claim.expects, effect, control, margin)
    equal = equivalence_p(test, margin)
    above, below = (one_sided_p(test, above=up) for up in (True, False))
    if claim.expects == "same":
        beyond = np.fmin(one_sided_p(test, margin), one_sided_p(test, -margin, above=False))
        tests = equal, float(beyond), np.nan
    else:
        tests = (above, below, equal) if claim.expects == "above" else (below, above, equal)
    if why:
        tests = np.nan, np.nan, np.nan
    return Evidence(test, (effect, control), margin, why, *tests)


def attainable(expects: str, effect: float, control: float, margin: float) -> tuple[float, str]:
    """The margin of shares of prompts, and why they cannot be compared, if so.

    Near 0 or 1 there is less to attain than the margin asks for: then half of it is the margin.
    """
    for end, name in ((0.0, "floor"), (1.0, "ceiling")):
        near = [abs(value - end) <= FLOOR for value in (effect, control)]
        if expects != "same" and all(near):
            return margin, f"{name}: effect and control are both at {end:.0%}"
        if near[1] and expects == ("below" if end == 0 else "above"):
            return margin, f"{name}: the control is at {control:.0%} already"
    if expects == "same":
        return margin, ""
    return min(margin, (1 - control if expects == "above" else control) / 2), ""


def judge(of_family: Sequence[tuple[str, Evidence]]) -> list[tuple[str, float, float]]:
    """Verdict, p and p against the claim after Holm's correction, for what is corrected together.

    Each comes with what its claim expects. Within the margin is "no effect" even where the sign is
    told: in that order no truth has two false verdicts that could both be given.
    """
    claimed = holm(np.array([one.claimed for _, one in of_family]))
    against = holm(np.array([one.against for _, one in of_family]))
    return [
        (_of_p(expects, one, float(for_it), float(against_it)), float(for_it), float(against_it))
        for (expects, one), for_it, against_it in zip(of_family, claimed, against, strict=True)
    ]


def _of_p(expects: str, one: Evidence, claimed: float, against: float) -> str:
    if one.untestable:
        return UNTESTABLE
    if against < LEVEL:
        # Corrected as the smaller of the two was.
        factor = against / one.against if one.against > 0 else 1.0
        return NO_EFFECT if expects != "same" and one.equal * factor < LEVEL else OPPOSITE
    return SUPPORTED if claimed < LEVEL else UNDECIDED
