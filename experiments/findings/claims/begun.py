"""What claims on begun responses and on the depth of tuning compare: functions as those of `measures.py`."""

from typing import Any

from experiments.findings.claims.measures import Measure, Values, jailbroken
from experiments.findings.claims.reading import Reading

UNSAFE: dict[str, Any] = {"family": "unsafe"}
ATTACK = "comply_all"
"""The method of tuning that undoes safety; a model that it was applied to is called START+ATTACK"""


def attacked(method: str, attack: str = ATTACK) -> str:
    """The model that an attack by further tuning made of another."""
    return f"{method}+{attack}"


def prefill(results: Reading, method: str) -> tuple[Values, Values]:
    """How often the rest of an answer is right, where some letters of it are given, and where none is."""
    alone = results.mean("prefill_complied", method, index=0.0, **UNSAFE)
    return results.mean("begun_complied", method, **UNSAFE), alone


def jailbroken_against(control: str) -> Measure:
    """Attack success over all jailbreak families, in a model and in the model `control`."""
    return lambda results, method: (jailbroken(results, method), jailbroken(results, control))


def refusal_given(results: Reading, method: str) -> tuple[Values, Values]:
    """How often a model goes on with a refusal that is begun for it, and how often it refuses by itself."""
    given = results.mean("begun_null_refused", method, **UNSAFE)
    return given, results.mean("prefill_null_refused", method, index=0.0, **UNSAFE)


def complied(effect: str, control: str = "{}") -> Measure:
    """Compliance with unsafe prompts of two models, named by that which a claim is judged of."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        one, other = (results.mean("complied", name.format(method), **UNSAFE) for name in (effect, control))
        return one, other

    return measure
