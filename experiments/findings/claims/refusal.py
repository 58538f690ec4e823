"""What claims on directions of refusal compare: functions as those of `measures.py`."""

from typing import Any

from experiments.findings.claims.measures import Measure, Values, within
from experiments.findings.claims.reading import MissingError, Reading

STREAM: dict[str, Any] = {"module": "resid"}
"""Edited by taps in the residual stream"""
WEIGHTS: dict[str, Any] = {"module": "weights"}
"""By the weights that write to it"""
INTACT: dict[str, Any] = {"intervention": "ablate", "strength": 0.0, **STREAM}
ABLATED: dict[str, Any] = {"intervention": "ablate", "strength": 1.0}
AT_EOT: dict[str, Any] = {"position": 0, "module": "resid_pre"}
KL = 0.1
"""Nats by which the paper lets ablation change the prediction for safe prompts"""


def edited(metric: str, effect: dict[str, Any], control: dict[str, Any], family: str) -> Measure:
    """A metric of a family under two edits of the same model, in the residual stream if they say no other place."""
    return within({**STREAM, **effect}, {**STREAM, **control}, metric=metric, family=family)


def by_chance(name: str, metric: str, family: str, chance: str = "random") -> Measure:
    """A metric of a family under an edit of the first direction, and under that of random or of permuted ones."""

    def measure(results: Reading, method: str) -> tuple[Values, Values | float]:
        # The strength of an addition is a setting.
        of = [one for one in results.strengths(metric, method, name) if one[1] > 0]
        if not of:
            raise MissingError.rows(f"{metric} of {method}, intervention {name}")
        strength = {"strength": min(weight for _, weight in of)}
        return edited(
            metric, {"intervention": name, **strength}, {"intervention": f"{name} {chance}", **strength}, family
        )(results, method)

    return measure


def all_together(results: Reading, method: str) -> tuple[Values, Values | float]:
    """Refusal of unsafe prompts without one direction, and without as many as were tried."""
    most = max((weight for _, weight in results.strengths("first_refused", method, "ablate")), default=0.0)
    if most < 2:
        raise MissingError.rows(f"a second direction of {method}")
    more = {"intervention": "ablate", "strength": most}
    return edited("first_refused", ABLATED, more, "unsafe")(results, method)


def some_pass(results: Reading, method: str) -> tuple[Values, float]:
    """Whether a direction keeps to the thresholds, against a coin."""
    return results.mean("direction_passing", method, module="resid_pre").clip(upper=1.0), 0.5


def small_divergence(results: Reading, method: str) -> tuple[Values, float]:
    """By how much ablation changes the first token of safe prompts, against what the paper allows."""
    return results.mean("first_token_kl", method, family="safe", **ABLATED, **STREAM), KL


def jailbreaks_against_unsafe(metric: str) -> Measure:
    """A cosine over the jailbreaks, each prompt alike, against that of plain unsafe prompts."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        unsafe = results.mean("refusal_cosine", method, family="unsafe", **AT_EOT)
        families = results.jailbreaks(method, metric)
        return results.mean(metric, method, family=families, weighted=True, **AT_EOT), unsafe

    return measure


def soft_tokens(effect: str, control: str, **where: Any) -> Measure:
    """A cosine with soft tokens against another one of unsafe prompts."""
    return within({"metric": effect}, {"metric": control}, family="unsafe", **AT_EOT, **where)


def heads_of_jailbreaks(results: Reading, method: str) -> tuple[Values, Values]:
    """What the attention heads of deep layers write along the direction: on competing objectives, and on unsafe
    prompts."""
    metric, where = "component_effect", dict[str, Any](module="attn_out")
    competing = [name for name in results.jailbreaks(method, metric) if name.startswith("co_")]
    if not competing:
        raise MissingError.rows(f"competing objectives of {method}")
    effect, control = (results.mean(metric, method, family=name, **where) for name in (competing, "unsafe"))
    return effect, control
