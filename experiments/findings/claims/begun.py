"""What claims on begun responses and on the depth of tuning compare: functions as those of `measures.py`."""

from typing import Any

from experiments.findings.claims.measures import Measure, Values, jailbroken
from experiments.findings.claims.reading import MissingError, Reading

UNSAFE: dict[str, Any] = {"family": "unsafe"}
ATTACK = "comply_all"
"""The method of tuning that undoes safety; a model that it was applied to is called START+ATTACK"""


def attacked(method: str, attack: str = ATTACK) -> str:
    """The model that an attack by further tuning made of another."""
    return f"{method}+{attack}"


def some_given(results: Reading, metric: str, method: str) -> Values:
    """A metric of unsafe prompts of which some tokens are given and some are left to say."""
    places = [place for place in results.indices(metric, method) if place > 0]
    # With all of its letters given, only the end of an answer is left.
    some = places[:-1] if metric.endswith("complied") else places
    if not some:
        raise MissingError.rows(f"{metric} of {method} with tokens given")
    # The last place is read too: what was read then says which one that is.
    results.mean(metric, method, index=places, **UNSAFE)
    return results.mean(metric, method, index=some, **UNSAFE)


def prefill(results: Reading, method: str) -> tuple[Values, Values]:
    """How often the rest of an answer is right, where some letters of it are given, and where none is."""
    return some_given(results, "prefill_complied", method), results.mean(
        "prefill_complied", method, index=0.0, **UNSAFE
    )


def right_letters(results: Reading, method: str) -> tuple[Values, Values]:
    """The same where right letters are given, and where random ones are."""
    return some_given(results, "prefill_complied", method), some_given(results, "prefill_random_complied", method)


def prefill_against(control: str, metric: str = "prefill_complied") -> Measure:
    """What becomes of begun answers, in a model and in the model `control`."""
    return lambda results, method: (some_given(results, metric, method), some_given(results, metric, control))


def jailbroken_against(control: str) -> Measure:
    """Attack success over all jailbreak families, in a model and in the model `control`."""
    return lambda results, method: (jailbroken(results, method), jailbroken(results, control))


def refusal_given(results: Reading, method: str) -> tuple[Values, Values]:
    """How often a model goes on with a refusal that is begun for it, and how often it refuses by itself."""
    given = some_given(results, "prefill_null_refused", method)
    return given, results.mean("prefill_null_refused", method, index=0.0, **UNSAFE)


def complied(effect: str, control: str = "{}") -> Measure:
    """Compliance with unsafe prompts of two models, named by that which a claim is judged of."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        one, other = (results.mean("complied", name.format(method), **UNSAFE) for name in (effect, control))
        return one, other

    return measure
