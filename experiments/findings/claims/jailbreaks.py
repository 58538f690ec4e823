"""What claims on jailbreaks compare: functions as those of `measures.py`."""

from typing import Any

import numpy as np
import pandas as pd

from experiments.findings.claims.measures import LAST, WINDOW, Measure, Values, and_chance
from experiments.findings.claims.reading import MissingError, Reading


def position(results: Reading, method: str, tau: Values, module: dict[str, Any]) -> Values:
    """Where a mean tau lies on the way from the mean of unsafe prompts, 0, to that of safe ones, 1."""
    unsafe, safe = (results.mean("tau", method, family=name, **module) for name in ("unsafe", "safe"))
    return (tau - unsafe) / (safe - unsafe).where(safe > unsafe)


def nearer_safe(metric: str, module: dict[str, Any]) -> Measure:
    """The position of jailbreak prompts, against half way."""

    def measure(results: Reading, method: str) -> tuple[Values, float]:
        tau = results.mean(metric, method, family=results.jailbreaks(method), weighted=True, **module)
        return position(results, method, tau, module), 0.5

    return measure


def nearer_safe_ones(metric: str, **where: Any) -> Measure:
    """By how many times a number of successful jailbreaks is off that of unsafe prompts, and off that of safe ones."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        families = results.jailbreaks(method)
        attacks = results.mean(f"{metric}_successful", method, family=families, weighted=True, **where)
        unsafe, safe = (results.mean(metric, method, family=name, **where) for name in ("unsafe", "safe"))
        return _times(attacks, unsafe), _times(attacks, safe)

    return measure


def _times(one: Values, other: Values) -> Values:
    """The larger over the smaller."""
    return pd.Series(np.maximum(one / other, other / one))


def follows_success(results: Reading, method: str) -> tuple[Values, float]:
    """Over jailbreak families, the correlation of mean tau with attack success, against none."""
    families = results.jailbreaks(method)
    if len(families) < 3:
        raise MissingError.rows(f"three families of jailbreaks of {method}")
    taus, shares = (
        pd.DataFrame({name: results.mean(metric, method, family=name, **where) for name in families})
        for metric, where in (("tau", WINDOW), ("complied", {}))
    )
    return taus.corrwith(shares, axis=1), 0.0


def soft_tokens(results: Reading, method: str) -> tuple[Values, Values]:
    """Success of the most soft tokens, against as many random ones."""
    most = results.indices("adv_complied", method)[-1:]
    fitted, random = (results.mean(name, method, family="unsafe", index=most) for name in and_chance("adv_complied"))
    return fitted, random


def soft_position(results: Reading, method: str) -> tuple[Values, Values]:
    """The position of unsafe prompts with the most soft tokens, against as many random ones."""
    most = results.indices("adv_tau", method)[-1:]
    fitted, random = (
        position(results, method, results.mean(name, method, family="unsafe", index=most, **LAST), LAST)
        for name in and_chance("adv_tau")
    )
    return fitted, random
