"""The claims of Zhao et al. 2025, LLMs Encode Harmfulness and Refusal Separately (arXiv 2507.11878).

The last token of an instruction is the last token of a text here, and the last token after it is EOT.
"""

from typing import Any

from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING, Measure, Values, over_chance, within
from experiments.findings.claims.paper import Claim, Paper
from experiments.findings.claims.reading import MissingError, Reading
from synth.families import JAILBREAKS

TEXT, EOT = -1, 0
"""The positions that harmfulness and refusal are read at"""
GAP = 0.5
"""Standard deviations that unsafe and safe prompts must be apart before a way between them is measured"""


def apart(results: Reading, method: str) -> tuple[Values, Values]:
    """The cosine of v_harm of one half of the prompts with v_refuse of the other, and what it would be if both were one
    direction: the geometric mean of their cosines with themselves, which noise makes as much smaller."""
    across = results.mean("harm_refuse_cosine_halves", method)
    harm, refuse = (results.mean("halves_cosine", method, position=place).clip(lower=0) for place in (TEXT, EOT))
    return across, (harm * refuse) ** 0.5


def jailbreaks_move(results: Reading, method: str) -> tuple[Values, Values]:
    """How far on the way from unsafe prompts, 0, to safe ones, 1, jailbreaks lie that succeed: at EOT, and at the last
    token of the text; of seeds in which unsafe and safe prompts are GAP apart at both."""

    def way(place: int) -> Values:
        successful: dict[str, Any] = {"family": list(JAILBREAKS), "position": place, "weighted": True}
        moved = results.mean("side_score_successful", method, **successful)
        unsafe, safe = (results.mean("side_score", method, family=name, position=place) for name in ("unsafe", "safe"))
        told = results.mean("side_gap", method, position=place) >= GAP
        return ((unsafe - moved) / (unsafe - safe))[told]

    refusal, harm = way(EOT), way(TEXT)
    both = refusal.index.intersection(harm.index)
    if both.empty:
        raise MissingError(f"{method} does not tell unsafe from safe prompts at both positions")
    return refusal[both], harm[both]


def refusing(effect: str, control: str, place: int) -> Measure:
    """The share of safe prompts whose first token is one of a refusal, under two kinds of steering up to a position."""
    where: dict[str, Any] = {"family": "safe", "position": place}
    both = ({"metric": "first_refused", "intervention": f"steer {name}"} for name in (effect, control))
    return within(*both, **where)


PAPER = Paper(
    "zhao2025",
    {
        "apart": Claim(
            "two directions",
            "",
            "harmfulness and refusal are different directions, further apart than halves of the prompts make either",
            apart,
            unit="part",
            expects="below",
        ),
        "harm at the text": Claim(
            "two directions",
            "",
            "the last token of the text tells unsafe from safe prompts, by its own means and not by those of EOT",
            over_chance("side_gap", position=TEXT),
            unit="deviations",
        ),
        "refusal at EOT": Claim(
            "two directions",
            "",
            "EOT tells them, by its own means and not by those of the last token of the text",
            over_chance("side_gap", position=EOT),
            unit="deviations",
        ),
        "jailbreaks": Claim(
            "jailbreaks",
            "",
            "jailbreaks that succeed move refusal more than harmfulness towards safe prompts",
            jailbreaks_move,
            unit="part",
        ),
        "refusal steers": Claim(
            "steering",
            "",
            "adding v_refuse up to EOT makes safe prompts refused, more than a random direction does",
            refusing("refuse own", "refuse own random", EOT),
            unit="share",
        ),
        "harm steers": Claim(
            "steering",
            "",
            "adding v_harm up to the end of the text makes safe prompts refused, more than a random direction does",
            refusing("harm own", "harm own random", TEXT),
            unit="share",
        ),
        "refusal steers, matched": Claim(
            "steering",
            "",
            "of equal length, on the same tokens and at one layer, v_refuse does so more than a random direction",
            refusing("refuse", "random", EOT),
            unit="share",
            derived=True,
        ),
        "harm steers, matched": Claim(
            "steering",
            "",
            "of equal length, on the same tokens and at one layer, v_harm does so more than a random direction",
            refusing("harm", "random", EOT),
            unit="share",
            derived=True,
        ),
        "harm steers less": Claim(
            "steering",
            "",
            "of equal length, on the same tokens and at one layer, v_harm makes fewer safe prompts refused",
            refusing("harm", "refuse", EOT),
            unit="share",
            expects="below",
            derived=True,
        ),
    },
    Conventions(methods=(SFT, DPO, UNLEARNING)),
)
