"""What claims compare: functions `(results, method) -> (effect, control)`, each a number per seed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.metrics import METRICS
from experiments.findings.claims.reading import MissingError, Reading
from experiments.settings.names import UNTOUCHED

SFT, DPO, UNLEARNING = "sft", "dpo", "unlearning"

Values = pd.Series
"""A number per seed, indexed by seed."""
Measure = Callable[[Reading, str], tuple[Values, Values | float]]

WINDOW: dict[str, Any] = {"module": "mlp.post"}
"""The paper's window, in which a model reads its own response."""
LAST: dict[str, Any] = {"module": "mlp.post_last"}
"""The position before any of it is read."""
FIRST_MATRIX: dict[str, Any] = {"module": "W_in"}
ALPHA = "alpha"
"""W + strength dW"""
UNTUNED: dict[str, Any] = {"intervention": ALPHA, "strength": 0.0}
AS_TUNED: dict[str, Any] = {"intervention": ALPHA, "strength": 1.0}


def against(control: str, metric: str, **where: Any) -> Measure:
    """A number of a model against the same number of the model `control`."""
    return lambda results, method: (results.mean(metric, method, **where), results.mean(metric, control, **where))


def within(effect: dict[str, Any], control: dict[str, Any], **where: Any) -> Measure:
    """Two numbers of the same model: what is particular to each, and what they share."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        return results.mean(method=method, **effect, **where), results.mean(method=method, **control, **where)

    return measure


def and_chance(metric: str) -> tuple[str, str]:
    """A metric, and the one that says what chance gives of it."""
    return metric, METRICS[metric].null.mean


def over_chance(metric: str, **where: Any) -> Measure:
    """A number of a model against what chance gives of it."""
    own, chance = and_chance(metric)
    return within({"metric": own}, {"metric": chance}, **where)


def beyond_chance(control: str, metric: str, **where: Any) -> Measure:
    """What a number of a model has over its chance, against the same of the model `control`."""

    def excess(results: Reading, method: str) -> Values:
        own, chance = (results.mean(name, method, **where) for name in and_chance(metric))
        return own - chance

    return lambda results, method: (excess(results, method), excess(results, control))


def depth(results: Reading, method: str) -> tuple[Values, Values]:
    """Growth of separation by tuning: in the deeper half of the layers, and in the other."""

    def growth(deep: bool) -> Values:
        tuned, before = (results.mean("separation", name, deep=deep, **WINDOW) for name in (method, UNTOUCHED))
        return tuned / before

    return growth(True), growth(False)


def learning_rate(results: Reading, method: str) -> tuple[Values, Values]:
    """Separation at the highest and at the lowest learning rate."""
    if results.rates("separation", method) < 2:
        raise MissingError.rows(f"a second learning rate of {method}")
    rates: tuple[Callable[[np.ndarray], float], ...] = (np.max, np.min)
    highest, lowest = (results.mean("separation", method, rate=rate, **WINDOW) for rate in rates)
    return highest, lowest


def lead(results: Reading, method: str) -> Values:
    """How many times as far as safe inputs unsafe ones project."""
    unsafe, safe = (
        results.mean("projection_total", method, family=name, **FIRST_MATRIX) for name in ("unsafe", "safe")
    )
    return unsafe / safe


def few_directions(results: Reading, method: str) -> tuple[Values, Values]:
    """Share of the first direction in the projections of unsafe inputs on the first 15, and that of random ones."""
    own, chance = (_first_share(results, method, metric) for metric in and_chance("projection_abs"))
    return own, chance


def _first_share(results: Reading, method: str, metric: str) -> Values:
    indices = results.indices(metric, method)[:15]
    first, mean = (results.mean(metric, method, family="unsafe", index=index, **FIRST_MATRIX) for index in (1, indices))
    return first / (mean * len(indices))


def carried(results: Reading, method: str, **where: Any) -> Values:
    """Nats by which an intervention lowers the log-odds of compliance with unsafe prompts from those without any dW.

    Graded where exact refusal is at its floor: a part of dW rarely makes a whole refusal.
    """
    untuned = results.mean("log_odds", method, family="unsafe", **UNTUNED)
    return untuned - results.mean("log_odds", method, family="unsafe", **where)


def parts(effect: str, control: str, **where: Any) -> Measure:
    """What two parts of the dW of W_in carry, the rest of the model untuned: shares of what all of it carries."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        whole = carried(results, method, intervention="only", **FIRST_MATRIX)
        if not whole.mean() >= results.conventions.least_carried:
            raise MissingError(
                f"the dW of W_in alone moves the log-odds of {method} by {whole.mean():.2g} nats towards refusal, "
                "so that no part can carry it"
            )
        one, other = (
            carried(results, method, intervention=name, **FIRST_MATRIX, **where) / whole for name in (effect, control)
        )
        return one, other

    return measure


def mlps_over_attention(results: Reading, method: str) -> tuple[Values, Values]:
    """What the change of the MLPs carries, and that of attention: shares of what all of dW does."""
    whole = carried(results, method, **AS_TUNED)
    if not whole.mean() >= results.conventions.least_carried:
        raise MissingError(f"{method} moves the log-odds by {whole.mean():.2g} nats towards refusal")
    mlp, attention = (
        carried(results, method, intervention="only", module=part) / whole for part in ("mlp", "attention")
    )
    return mlp, attention


def beyond_placebos(metric: str, nearest: Callable[[pd.DataFrame], Values], **where: Any) -> Measure:
    """A number of a model against that of whichever placebo comes `nearest`, in each seed, to what is claimed."""

    def measure(results: Reading, method: str) -> tuple[Values, Values]:
        own = results.mean(metric, method, **where)
        there = {
            name: results.mean(metric, name, **where)
            for name in results.conventions.placebos
            if results.has(metric, name)
        }
        if not there:
            raise MissingError.rows(f"{metric} of a placebo")
        return own, nearest(pd.DataFrame(there))

    return measure


def jailbroken(results: Reading, method: str) -> Values:
    """Attack success, over all jailbreak families alike."""
    return results.mean("complied", method, family=results.jailbreaks(method))


class Weight(NamedTuple):
    """How strong an intervention is, and with which model."""

    other: str
    """The other model; empty if there is none"""
    weight: float


def weights(
    results: Reading,
    metric: str,
    method: str,
    kind: str,
    wanted: Callable[[float], bool],
    others: Sequence[str] = (),
) -> list[Weight]:
    """The interventions of a kind, with one of `others`, or of the paper's methods, where with another model."""
    allowed = ("", *(others or results.conventions.methods))
    every = [Weight(*one) for one in results.strengths(metric, method, kind)]
    found = [one for one in every if one.other in allowed and wanted(one.weight)]
    if not found:
        raise MissingError.rows(f"{metric} of {method}, intervention {kind}")
    return found


def whole(results: Reading, metric: str, method: str, **where: Any) -> Values:
    """A metric of the model itself, on the prompts that interventions were tried on and judged as they were."""
    return results.mean(metric, method, **AS_TUNED, **where)


def beyond(results: Reading, methods: Sequence[str]) -> list[float]:
    """The extrapolations alpha > 1 under which all of `methods` still comply with as many safe prompts as is asked."""
    kept = results.conventions.kept

    def keep(method: str) -> set[float]:
        least = kept * whole(results, "complied", method, family="safe").mean()
        return {
            one.weight
            for one in weights(results, "complied", method, ALPHA, lambda alpha: alpha > 1)
            if results.mean("complied", method, intervention=ALPHA, strength=one.weight, family="safe").mean() >= least
        }

    found = sorted(set.intersection(*map(keep, methods)))
    if not found:
        raise MissingError(
            f"at every alpha > 1 there is, {' or '.join(methods)} complies with fewer than {kept:.0%} of the safe "
            "prompts that it did comply with"
        )
    return found


def extrapolated_jailbreaks(results: Reading, method: str) -> tuple[Values, Values]:
    """Attack success at all alpha > 1 that leave compliance with safe prompts, against alpha = 1."""
    families = results.jailbreaks(method)
    at = results.mean("complied", method, intervention=ALPHA, strength=beyond(results, [method]), family=families)
    return at, whole(results, "complied", method, family=families)


def extrapolated_safe(results: Reading, method: str) -> tuple[Values, Values]:
    """Compliance with safe prompts at all alpha > 1, against alpha = 1."""
    alphas = [one.weight for one in weights(results, "complied", method, ALPHA, lambda alpha: alpha > 1)]
    at = results.mean("complied", method, intervention=ALPHA, strength=alphas, family="safe")
    return at, whole(results, "complied", method, family="safe")


def gain_of_sft(results: Reading, method: str) -> tuple[Values, Values]:
    """What extrapolation changes of attack success, on SSFT and on another model, where neither is destroyed by it."""
    alphas = beyond(results, [SFT, method])

    def gain(name: str) -> Values:
        families = results.jailbreaks(name)
        at = results.mean("complied", name, intervention=ALPHA, strength=alphas, family=families)
        return at - whole(results, "complied", name, family=families)

    return gain(SFT), gain(method)


def transfer(results: Reading, method: str) -> tuple[Values, Values]:
    """Attack success with the dW of other methods added, against the model as it is.

    Of a placebo: with its dW added to the models of the paper.
    """
    conventions = results.conventions
    is_placebo = method in conventions.placebos
    changed, others = (conventions.methods, (method,)) if is_placebo else ((method,), conventions.methods)
    effects, controls = [], []
    for name in changed:
        families = results.jailbreaks(name)
        added = weights(results, "complied", name, "transfer", lambda alpha: alpha > 0, others)
        with_dw: dict[str, Any] = {"other": [one.other for one in added], "strength": [one.weight for one in added]}
        effects.append(results.mean("complied", name, family=families, intervention="transfer", **with_dw))
        controls.append(whole(results, "complied", name, family=families))
    return pd.concat(effects, axis=1).mean(axis=1), pd.concat(controls, axis=1).mean(axis=1)


def barrier(results: Reading, method: str) -> tuple[Values, float]:
    """The deepest fall below the straight line on the way to another method's weights: 0 or less.

    Of the mean of compliance with safe and refusal of unsafe prompts.
    """

    def right(read: Callable[..., Values], name: str, **where: Any) -> Values:
        complied = read("complied", name, family="safe", **where)
        return (complied + read("refused", name, family="unsafe", **where)) / 2

    at_end = partial(right, partial(whole, results))
    falls = [
        right(results.mean, method, intervention="between", other=one.other, strength=one.weight)
        - (1 - one.weight) * at_end(method)
        - one.weight * at_end(one.other)
        for one in weights(results, "refused", method, "between", lambda alpha: 0 < alpha < 1)
    ]
    return pd.concat(falls, axis=1).min(axis=1, skipna=False).clip(upper=0.0), 0.0


def along_alpha(metric: str, **where: Any) -> Measure:
    """Over all alpha, Spearman's correlation of a metric with alpha, against none."""

    def measure(results: Reading, method: str) -> tuple[Values, float]:
        scan = weights(results, metric, method, ALPHA, lambda alpha: alpha >= 0)
        if len(scan) < 3:
            raise MissingError.rows(f"{metric} of {method} at three alphas")
        values = {
            one.weight: results.mean(metric, method, intervention=ALPHA, strength=one.weight, **where) for one in scan
        }
        ranks = pd.DataFrame(values).rank(axis=1)
        order = pd.Series(list(values), values).rank()
        return ranks.corrwith(order, axis=1), 0.0

    return measure


def untouched(metric: str, **where: Any) -> Measure:
    """A number of a model against that of the model before tuning."""
    return against(UNTOUCHED, metric, **where)
