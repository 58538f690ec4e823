"""What claims on moved weights and on disalignment compare: functions as those of `measures.py`."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.edits.disaligned import DISALIGN
from analysis.edits.landscape import BY_CHANGE, MOVE
from experiments.findings.claims.begun import UNSAFE, attacked
from experiments.findings.claims.measures import Measure, Values, weights
from experiments.findings.claims.reading import MissingError, Reading

AS_IT_IS: dict[str, Any] = {"intervention": MOVE, "strength": 0.0}
"""The model itself, on the prompts that moved ones are asked"""
BASE: dict[str, Any] = {"intervention": DISALIGN, "strength": 0.0}
"""What its tuning started from, on the same prompts"""
SUCCEEDS = 0.1
"""The share of jailbreaks that must succeed before it can be said what becomes of them"""


def over_strengths(results: Reading, metric: str, method: str, kind: str, **where: Any) -> Values:
    """The mean of a metric over all strengths of an edit but 0."""
    found = [one.weight for one in weights(results, metric, method, kind, lambda strength: strength != 0)]
    return results.mean(metric, method, intervention=kind, strength=found, **where)


def edited(metric: str, kind: str, control: dict[str, Any] | str, **where: Any) -> Measure:
    """A metric under an edit, over all its strengths, against that of another kind or of a model that is not edited."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        effect = over_strengths(results, metric, method, kind, **where)
        if isinstance(control, str):
            return effect, over_strengths(results, metric, method, control, **where)
        return effect, results.mean(metric, method, **control, **where)

    return measure


def jailbreaks_kept(results: Reading, method: str) -> tuple[Values, Values]:
    """Of compliance with jailbreaks, and of that with safe prompts, the part that is left where weights are moved."""
    kept = []
    for family in (results.jailbreaks(method), ["safe"]):
        unmoved = results.mean("complied", method, family=family, **AS_IT_IS)
        if unmoved.mean() < SUCCEEDS:
            what = "safe prompts" if family == ["safe"] else "jailbreaks"
            raise MissingError(f"{method} complies with {unmoved.mean():.0%} of {what}, too few to say what is left")
        kept.append(over_strengths(results, "complied", method, MOVE, family=family) / unmoved)
    return kept[0], kept[1]


def narrowing(results: Reading, method: str) -> tuple[Values, Values]:
    """How wide the basin is along tuning's own change, as a part of how wide it is at random: that of refusal, and that
    of compliance with safe prompts."""

    def part(family: str) -> Values:
        own, random = (
            results.mean("basin_width", method, family=family, intervention=kind) for kind in (BY_CHANGE, MOVE)
        )
        return own / random

    return part("unsafe"), part("safe")


def left_basin(results: Reading, method: str) -> tuple[Values, Values]:
    """How far an attack by tuning moved a model, and how far it may be moved at random before it stops refusing."""
    reach = results.mean("basin_width", method, intervention=MOVE, **UNSAFE)
    return results.mean("change_strength", attacked(method)), reach


def orders(metric: str, control: str = "", **where: Any) -> Measure:
    """With how many of the paper's other methods a model stands in the order of `metric` as it does in that of how few
    unsafe prompts it complies with when attacked by tuning, less with how many it does not, as a part of all; against
    the same of `control`, or none. Ties are neither."""

    def agrees(results: Reading, method: str, name: str, **at: Any) -> Values:
        def of(model: str) -> tuple[Values, Values]:
            return results.mean(name, model, **at, **UNSAFE), results.mean("complied", attacked(model), **UNSAFE)

        score, success = of(method)
        found: list[Values] = []
        for other in results.conventions.methods:
            if other != method:
                others_score, others_success = of(other)
                found.append((score - others_score).map(np.sign) * (others_success - success).map(np.sign))
        return pd.concat(found, axis=1).mean(axis=1)

    def measure(results: Reading, method: str) -> tuple[Values, Values | float]:
        own = agrees(results, method, metric, **where)
        return own, agrees(results, method, control, **AS_IT_IS) if control else 0.0

    return measure
