"""The paper's claims: what each compares with what, by seed, in the results of a study.

A claim is a function `(results, method) -> (effect, control)`, each a number a seed, and a row of
CLAIMS. `experiments/scorecard.py` says what becomes of them.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from experiments.results import UNTOUCHED
from synth.families import JAILBREAKS

SFT, DPO, UNLEARNING, CONTINUED = "sft", "dpo", "unlearning", "continued"
SAFETY = (SFT, DPO, UNLEARNING)
"""The paper's methods"""


class MissingError(Exception):
    """A claim has no effect or no control; says why."""

    @classmethod
    def rows(cls, which: str) -> "MissingError":
        return cls(f"not in the table: {which}")


class Results:
    """The results table of one world and architecture, read as means by seed."""

    def __init__(self, table: pd.DataFrame) -> None:
        names = {name: table[name].astype(object).fillna("") for name in ("family", "module", "variant", "missing")}
        numbers = {
            name: table[name].astype(float) for name in ("layer", "index", "learning_rate", "seed", "value", "n")
        }
        self._columns = {name: column.to_numpy() for name, column in {**names, **numbers}.items()}
        groups = table.groupby(["metric", "method"], sort=False, observed=True).indices
        self._places = {key: np.asarray(places) for key, places in groups.items()}
        layers = numbers["layer"].max()
        self._half = layers // 2 if layers > 0 else 0
        self.read = np.zeros(len(table), bool)
        """Which rows of the table a mean was taken over"""

    def mean(
        self,
        metric: str,
        method: str,
        *,
        deep: bool = True,
        rate: Callable[[np.ndarray], float] = np.max,
        weighted: bool = False,
        **where: Any,
    ) -> pd.Series:
        """By seed, the mean of a metric of a model; nan where one of the rows has no value.

        `where` picks rows by family, module, index or variant, each a value or a list. Rows of an
        intervention count only where `variant` names it; those by layer only in the deeper half
        (`deep`), where the paper sees its effects, or only in the other; of several learning rates
        the highest (the paper's main results), or `rate` of them. `weighted` is by the number of
        prompts behind each row.
        """
        places = self._places_of(metric, method)
        layer = self._columns["layer"][places]
        keep = ~(layer <= self._half) if deep else ~(layer > self._half)
        for name, allowed in {"variant": "", **where}.items():
            column = self._columns[name]
            keep &= np.isin(column[places], np.atleast_1d(np.array(allowed, column.dtype)))
        places = places[keep]
        wanted = _wanted(metric, method, where)
        if len(places) == 0:
            raise MissingError.rows(wanted)
        rates = self._columns["learning_rate"][places]
        places = places[rates == rate(rates)]
        if np.isnan(self._columns["value"][places]).all():
            raise MissingError(f"no value: {wanted} ({self._columns['missing'][places[0]]})")
        if weighted:
            places = places[self._columns["n"][places] > 0]
        self.read[places] = True
        seeds, values, counts = (self._columns[name][places] for name in ("seed", "value", "n"))
        weights = counts if weighted else np.ones(len(places))
        which, group = np.unique(seeds.astype(int), return_inverse=True)
        return pd.Series(np.bincount(group, values * weights) / np.bincount(group, weights), which)

    def rates(self, metric: str, method: str) -> int:
        """How many learning rates there are."""
        return len(self._distinct(metric, method, "learning_rate"))

    def indices(self, metric: str, method: str) -> list[float]:
        """The indices that have a value, ascending."""
        places = self._places_of(metric, method)
        found = self._columns["index"][places[~np.isnan(self._columns["value"][places])]]
        return sorted(set(found[~np.isnan(found)].tolist()))

    def fewest(self) -> float:
        """The least number of prompts, or of whatever else, behind a row that was read."""
        return float(self._columns["n"][self.read].min())

    def jailbreaks(self, method: str) -> list[str]:
        """The jailbreak families there are."""
        found = self._distinct("complied", method, "family")
        return [name for name in JAILBREAKS if name in found]

    def variants(self, metric: str, method: str) -> list[str]:
        """The interventions there are, in the order of the table."""
        return [name for name in self._distinct(metric, method, "variant") if name]

    def _distinct(self, metric: str, method: str, column: str) -> list[Any]:
        return list(dict.fromkeys(self._columns[column][self._places_of(metric, method)].tolist()))

    def _places_of(self, metric: str, method: str) -> np.ndarray:
        return self._places.get((metric, method), np.array([], int))


def _wanted(metric: str, method: str, where: dict[str, Any]) -> str:
    said = [f"{name} {value}" for name, value in where.items() if not isinstance(value, list)]
    return ", ".join([f"{metric} of {method}", *said])


Values = pd.Series
"""A number a seed, indexed by seed"""
Measure = Callable[[Results, str], tuple[Values, Values | float]]


class Unit(NamedTuple):
    """How an effect is compared with its control: on a scale on which the contrast is a difference."""

    scale: Callable[[pd.DataFrame], Any]
    back: Callable[[float], float]
    """From a difference on that scale to the contrast shown"""
    margin: float
    """On that scale: contrasts no larger are as good as none"""
    form: str
    """How a contrast is written"""


UNITS = {
    # Sizes of activations and of gradients differ between seeds by factors.
    "ratio": Unit(
        lambda values: np.log(values.where(values > 0)), lambda value: float(np.exp(value)), float(np.log(1.1)), ".3g"
    ),
    # Of prompts, so that it is known to one prompt only; a part is of anything else.
    "share": Unit(lambda values: values, float, 0.05, "+.2f"),
    "part": Unit(lambda values: values, float, 0.05, "+.2f"),
    "sine": Unit(lambda values: values, float, 0.01, "+.3f"),
}


class Claim(NamedTuple):
    """A statement of the paper, and how to measure it."""

    source: str
    """Where the paper says it; "cf." where it observes what is tested here in another way"""
    sentence: str
    measure: Measure
    methods: tuple[str, ...] = SAFETY
    """The models it is about: those of them in the table, averaged"""
    unit: str = "ratio"
    expects: Literal["above", "below", "same"] = "above"
    """Where the effect lies from its control"""


WINDOW: dict[str, Any] = {"module": "mlp.post"}
"""The paper's window, in which a model reads its own response"""
LAST: dict[str, Any] = {"module": "mlp.post_last"}
"""The position before any of it is read"""
FIRST_MATRIX: dict[str, Any] = {"module": "W_in"}
ADVERSARIAL = ("adv", "adv_random")
"""Soft tokens fitted to a model, and random ones as long"""


def against(control: str, metric: str, **where: Any) -> Measure:
    """A number of a model against the same number of the model `control`."""
    return lambda results, method: (results.mean(metric, method, **where), results.mean(metric, control, **where))


def within(effect: dict[str, Any], control: dict[str, Any], **where: Any) -> Measure:
    """Two numbers of the same model: what is particular to each, and what they share."""

    def measure(results: Results, method: str) -> tuple[Values, Values]:
        return results.mean(method=method, **effect, **where), results.mean(method=method, **control, **where)

    return measure


def depth(results: Results, method: str) -> tuple[Values, Values]:
    """Growth of separation beyond `continued`: in the deeper half of the layers, and in the other."""

    def growth(deep: bool) -> Values:
        tuned, further = (results.mean("separation", name, deep=deep, **WINDOW) for name in (method, CONTINUED))
        return tuned / further

    return growth(True), growth(False)


def learning_rate(results: Results, method: str) -> tuple[Values, Values]:
    """Separation at the highest and at the lowest learning rate."""
    if results.rates("separation", method) < 2:
        raise MissingError.rows(f"a second learning rate of {method}")
    rates: tuple[Callable[[np.ndarray], float], ...] = (np.max, np.min)
    highest, lowest = (results.mean("separation", method, rate=rate, **WINDOW) for rate in rates)
    return highest, lowest


def lead(results: Results, method: str) -> Values:
    """How many times as far as safe inputs unsafe ones project."""
    unsafe, safe = (
        results.mean("projection_total", method, family=name, **FIRST_MATRIX) for name in ("unsafe", "safe")
    )
    return unsafe / safe


def parts(effect: str, control: str) -> Measure:
    """Refusal of unsafe prompts with one part and with another of the dW of W_in, the rest of the model untuned.

    Where all of it makes no refusal, none being carried by a part says nothing.
    """

    def measure(results: Results, method: str) -> tuple[Values, Values]:
        refused = partial(results.mean, "refused", method, family="unsafe")
        if refused(variant="only W_in").mean() < UNITS["share"].margin:
            raise MissingError(f"the dW of W_in alone makes no refusal in {method}, so that no part can carry it")
        return refused(variant=effect, **FIRST_MATRIX), refused(variant=control, **FIRST_MATRIX)

    return measure


def first_share(results: Results, method: str, metric: str) -> Values:
    """Share of the first direction in the projections of unsafe inputs on the first 15."""
    indices = results.indices(metric, method)[:15]
    first, mean = (results.mean(metric, method, family="unsafe", index=index, **FIRST_MATRIX) for index in (1, indices))
    return first / (mean * len(indices))


def position(results: Results, method: str, tau: Values, module: dict[str, Any]) -> Values:
    """Where a mean tau lies on the way from the mean of unsafe prompts, 0, to that of safe ones, 1."""
    safe, unsafe = (results.mean("tau", method, family=name, **module) for name in ("safe", "unsafe"))
    return (tau - unsafe) / (safe - unsafe).where(safe > unsafe)


def nearer_safe(metric: str, module: dict[str, Any]) -> Measure:
    """The position of jailbreak prompts, against half way."""

    def measure(results: Results, method: str) -> tuple[Values, float]:
        tau = results.mean(metric, method, family=results.jailbreaks(method), weighted=True, **module)
        return position(results, method, tau, module), 0.5

    return measure


def soft_tokens(results: Results, method: str) -> tuple[Values, Values]:
    """Success of the most soft tokens, against as many random ones."""
    most = results.indices("adv_complied", method)[-1:]
    fitted, random = (results.mean(f"{name}_complied", method, family="unsafe", index=most) for name in ADVERSARIAL)
    return fitted, random


def soft_position(results: Results, method: str) -> tuple[Values, Values]:
    """The position of unsafe prompts with the most soft tokens, against as many random ones."""
    most = results.indices("adv_tau", method)[-1:]
    fitted, random = (
        position(results, method, results.mean(f"{name}_tau", method, family="unsafe", index=most, **LAST), LAST)
        for name in ADVERSARIAL
    )
    return fitted, random


def jailbroken(results: Results, method: str) -> Values:
    """Attack success, over all jailbreak families alike."""
    return results.mean("complied", method, family=results.jailbreaks(method))


class Weight(NamedTuple):
    """An intervention written `KIND WEIGHT` or `KIND OTHER WEIGHT`."""

    variant: str
    other: str
    """The other model; empty if there is none"""
    weight: float


def weights(results: Results, metric: str, method: str, kind: str, wanted: Callable[[float], bool]) -> list[Weight]:
    """The interventions of a kind, with one of the paper's methods where with another model."""
    matches = [re.fullmatch(rf"{kind} (?:(\w+) )?(-?[\d.]+)", name) for name in results.variants(metric, method)]
    found = [Weight(match[0], match[1] or "", float(match[2])) for match in matches if match]
    found = [one for one in found if one.other in ("", *SAFETY) and wanted(one.weight)]
    if not found:
        raise MissingError.rows(f'{metric} of {method}, variants "{kind} ..."')
    return found


def alphas(results: Results, metric: str, method: str, wanted: Callable[[float], bool], **where: Any) -> Values:
    """A metric of W + alpha dW, the mean over all alpha wanted."""
    variants = [one.variant for one in weights(results, metric, method, "alpha", wanted)]
    return results.mean(metric, method, variant=variants, **where)


def whole(results: Results, metric: str, method: str, **where: Any) -> Values:
    """A metric of the model itself, on the prompts that interventions were tried on and judged as they were."""
    return alphas(results, metric, method, lambda alpha: alpha == 1, **where)


def extrapolated(results: Results, method: str, families: list[str]) -> tuple[Values, Values]:
    """Compliance at all alpha > 1 that were measured, against alpha = 1."""
    beyond = alphas(results, "complied", method, lambda alpha: alpha > 1, family=families)
    return beyond, whole(results, "complied", method, family=families)


def extrapolated_jailbreaks(results: Results, method: str) -> tuple[Values, Values]:
    """Attack success at all alpha > 1, against alpha = 1."""
    return extrapolated(results, method, results.jailbreaks(method))


def gain_of_sft(results: Results, method: str) -> tuple[Values, Values]:
    """What extrapolation changes of attack success: on SSFT, against another model."""
    pairs = [extrapolated_jailbreaks(results, name) for name in (SFT, method)]
    on_sft, on_other = (beyond - at_one for beyond, at_one in pairs)
    return on_sft, on_other


def transfer(results: Results, method: str) -> tuple[Values, Values]:
    """Refusal of jailbreaks with the dW of other methods added, against the model as it is."""
    families = results.jailbreaks(method)
    added = [one.variant for one in weights(results, "refused", method, "transfer", lambda alpha: alpha > 0)]
    refused = results.mean("refused", method, family=families, variant=added)
    return refused, whole(results, "refused", method, family=families)


def barrier(results: Results, method: str) -> tuple[Values, float]:
    """The deepest fall below the straight line on the way to another method's weights: 0 or less.

    Of the mean of compliance with safe and refusal of unsafe prompts.
    """

    def right(read: Callable[..., Values], name: str, **where: Any) -> Values:
        complied = read("complied", name, family="safe", **where)
        return (complied + read("refused", name, family="unsafe", **where)) / 2

    at_end = partial(right, partial(whole, results))
    falls = [
        right(results.mean, method, variant=one.variant)
        - (1 - one.weight) * at_end(method)
        - one.weight * at_end(one.other)
        for one in weights(results, "refused", method, "between", lambda alpha: 0 < alpha < 1)
    ]
    return pd.concat(falls, axis=1).min(axis=1, skipna=False).clip(upper=0.0), 0.0


CLAIMS: dict[str, Claim] = {
    "separation": Claim(
        "Obs. 1, Fig. 3",
        "deep layers hold safe and unsafe prompts further apart than after mere further training",
        against(CONTINUED, "separation", **WINDOW),
    ),
    "separation, scaled": Claim(
        "Obs. 1, Fig. 3",
        "relative to their spread, too, the clusters are further apart than after further training",
        against(CONTINUED, "separation_scaled", **WINDOW),
    ),
    "separation, last": Claim(
        "Obs. 1, cf. Fig. 3",
        "relative to their spread they are so even before a token of the response is read",
        against(CONTINUED, "separation_scaled", **LAST),
    ),
    "deep layers": Claim("Obs. 1, Fig. 3", "separation grows more in deep layers than in the others", depth),
    "DPO over SSFT": Claim(
        "Obs. 1, Fig. 3", "DPO separates more than SSFT", against(SFT, "separation", **WINDOW), (DPO,)
    ),
    "unlearning over SSFT": Claim(
        "Obs. 1, Fig. 3", "unlearning separates more than SSFT", against(SFT, "separation", **WINDOW), (UNLEARNING,)
    ),
    "learning rate": Claim("Obs. 1, Fig. 3", "a higher learning rate separates more than a lower one", learning_rate),
    "unsafe collapses": Claim(
        "Figs A.19-22",
        "after DPO one direction holds more of the unsafe cluster's covariance than before",
        against(UNTOUCHED, "spectral_share", family="unsafe", **WINDOW),
        (DPO,),
        "part",
    ),
    "safe does not": Claim(
        "Figs A.19-22",
        "after DPO one direction holds as much of the safe cluster's covariance as before",
        against(UNTOUCHED, "spectral_share", family="safe", **WINDOW),
        (DPO,),
        "part",
        "same",
    ),
    "off the columns": Claim(
        "Obs. 2, Fig. 4",
        "dW's left singular vectors lie further off the column space of W than random ones",
        within({"metric": "sine_mean"}, {"metric": "sine_random_mean"}, **FIRST_MATRIX),
        unit="sine",
    ),
    "off, by safety": Claim(
        "Obs. 2, Fig. 4",
        "beyond random ones they lie further off it than those of further training",
        against(CONTINUED, "sine_excess", **FIRST_MATRIX),
        unit="sine",
    ),
    "refusal off columns": Claim(
        "cf. Obs. 2",
        "the part of dW outside W's column space carries more of refusal than the part inside",
        parts("without columns", "only columns"),
        unit="share",
    ),
    "little in columns": Claim(
        "cf. Obs. 2",
        "the part of dW inside W's column space carries less of refusal than a random part of its size",
        parts("only columns", "random columns scaled"),
        unit="share",
        expects="below",
    ),
    "refusal in MLPs": Claim(
        "cf. sec. 1",
        "the change of the MLPs carries more of refusal than that of attention",
        within({"variant": "only mlp"}, {"variant": "only attention"}, metric="refused", family="unsafe"),
        unit="share",
    ),
    "unsafe on dW": Claim(
        "Obs. 3, Fig. 5",
        "unsafe inputs project further on the rows of dW than safe ones",
        within({"family": "unsafe"}, {"family": "safe"}, metric="projection_total", **FIRST_MATRIX),
    ),
    "unsafe, by safety": Claim(
        "Obs. 3, Fig. 5",
        "unsafe inputs lead safe ones by more than on the dW of further training",
        lambda results, method: (lead(results, method), lead(results, CONTINUED)),
    ),
    "unsafe, by direction": Claim(
        "Obs. 3, Fig. 5",
        "unsafe inputs project further on dW than on random directions of the same size",
        within({"metric": "projection_total"}, {"metric": "projection_total_random"}, family="unsafe", **FIRST_MATRIX),
    ),
    "safe off dW": Claim(
        "Obs. 3, Fig. 5",
        "safe inputs project less on dW than on random directions of the same size",
        within({"metric": "projection_total"}, {"metric": "projection_total_random"}, family="safe", **FIRST_MATRIX),
        expects="below",
    ),
    "few directions": Claim(
        "Obs. 3, Fig. 5",
        "the first of 15 directions has more of the effect on unsafe inputs than its size explains",
        lambda results, method: (
            first_share(results, method, "projection_abs"),
            first_share(results, method, "projection_abs_random"),
        ),
        unit="part",
    ),
    "refusal by one": Claim(
        "cf. Obs. 3",
        "without its first direction dW makes refuse less than without a random one",
        parts("without top 1", "without random 1"),
        unit="share",
        expects="below",
    ),
    "unsafe Lipschitz": Claim(
        "Obs. 4, Fig. 6",
        "local Lipschitzness falls for unsafe prompts",
        against(UNTOUCHED, "lipschitz", family="unsafe"),
        expects="below",
    ),
    "safe Lipschitz": Claim(
        "Obs. 4, Fig. 6", "local Lipschitzness rises for safe prompts", against(UNTOUCHED, "lipschitz", family="safe")
    ),
    "unsafe, further": Claim(
        "Obs. 4, Fig. 6",
        "local Lipschitzness of unsafe prompts is lower than after further training",
        against(CONTINUED, "lipschitz", family="unsafe"),
        expects="below",
    ),
    "safe, further": Claim(
        "Obs. 4, Fig. 6",
        "local Lipschitzness of safe prompts is higher than after further training",
        against(CONTINUED, "lipschitz", family="safe"),
    ),
    "successful attacks": Claim(
        "Obs. 5, Fig. 7",
        "successful jailbreaks lie nearer the safe cluster than the unsafe one",
        nearer_safe("tau_successful", WINDOW),
        unit="part",
    ),
    "successful, last": Claim(
        "Obs. 5, cf. Fig. 7",
        "successful jailbreaks lie nearer the safe cluster even before a token of the response is read",
        nearer_safe("tau_successful", LAST),
        unit="part",
    ),
    "all attacks": Claim(
        "Obs. 5, cf. Fig. 7",
        "jailbreak prompts, successful or not, lie nearer the safe cluster than the unsafe one",
        nearer_safe("tau", WINDOW),
        unit="part",
    ),
    "soft tokens": Claim(
        "Figs A.66-71",
        "soft tokens fitted to the model make it comply more than random ones",
        soft_tokens,
        unit="share",
    ),
    "soft tokens, tau": Claim(
        "Obs. 5, Figs A.66-71",
        "soft tokens fitted to the model move unsafe prompts nearer the safe cluster than random ones",
        soft_position,
        unit="part",
    ),
    "SSFT easiest": Claim(
        "sec. 5, Table A.1",
        "jailbreaks succeed less on DPO and unlearning than on SSFT",
        lambda results, method: (jailbroken(results, method), jailbroken(results, SFT)),
        (DPO, UNLEARNING),
        "share",
        "below",
    ),
    "text over misgen": Claim(
        "sec. 5, Table A.1",
        "on DPO competing text succeeds more than mismatched generalisation",
        within({"family": "co_text"}, {"family": "misgen_task"}, metric="complied"),
        (DPO,),
        "share",
    ),
    "misgen over task": Claim(
        "sec. 5, Table A.1",
        "on DPO mismatched generalisation succeeds more than competing tasks",
        within({"family": "misgen_task"}, {"family": "co_task"}, metric="complied"),
        (DPO,),
        "share",
    ),
    "misgen by task": Claim(
        "Table A.2",
        "mismatched generalisation succeeds more by tasks than by text",
        within({"family": "misgen_task"}, {"family": "misgen_text"}, metric="complied"),
        unit="share",
    ),
    "misgen by both": Claim(
        "Table A.2",
        "mismatched generalisation succeeds more by tasks and text than by tasks alone",
        within({"family": "misgen_both"}, {"family": "misgen_task"}, metric="complied"),
        unit="share",
    ),
    "extrapolation": Claim(
        "Figs A.72, A.76-85",
        "jailbreaks succeed less on SSFT extrapolated to alpha > 1",
        extrapolated_jailbreaks,
        (SFT,),
        "share",
        "below",
    ),
    "extrapolation, cost": Claim(
        "Figs A.72, A.76-85",
        "SSFT extrapolated to alpha > 1 complies with safe prompts as before",
        lambda results, method: extrapolated(results, method, ["safe"]),
        (SFT,),
        "share",
        "same",
    ),
    "extrapolation, SSFT": Claim(
        "Figs A.72, A.76-85",
        "extrapolation takes more success from jailbreaks on SSFT than on DPO and unlearning",
        gain_of_sft,
        (DPO, UNLEARNING),
        "share",
        "below",
    ),
    "transfer": Claim(
        "Fig. A.74",
        "the dW of one method makes the model of another refuse jailbreaks more",
        transfer,
        unit="share",
    ),
    "same basin": Claim(
        "Fig. A.73",
        "tuned models are linearly connected: between their weights behaviour stays as right",
        barrier,
        unit="share",
        expects="same",
    ),
}
