"""Is harmfulness held apart from refusal: which of the two is where, which of them jailbreaks move, and which makes a
model refuse (Zhao et al. 2025, arXiv 2507.11878).

`analysis/contrast.py` finds both directions and `analysis/edits/steering.py` adds them; this reports. A direction of
layer l, from 1, is one of the stream that this layer reads.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from analysis.attacks import fitted
from analysis.chance import root_mean_beta
from analysis.contrast import PLACES, Contrast, HarmfulnessConfig, contrast, halves, leaning, places, steered
from analysis.edit import Fed, Label, Weights
from analysis.edits.lookup import edits_of
from analysis.rows import Result, Row, Samples, Subject, mean_of
from analysis.scores import answered, results_of, stacked
from analysis.selection import LEAST, DirectionsConfig, differences, material
from analysis.subspaces import unit
from synth.keys import fold

RESIDUAL = "resid_pre"
"""The site that directions are found at"""
INTACT = Label("steer", 0, module="resid")
"""Of the model as it is, on the prompts that are steered"""
SAME, UNSPREAD = "safe and unsafe prompts leave the same at one of both positions", "the scores have no spread"


def measure(subject: Subject, config: HarmfulnessConfig, directions: DirectionsConfig) -> list[Result]:
    """What was found, by the functions below; one row says why there is nothing, where no layer tells safe from unsafe
    prompts at both places. How many prompts there are of each kind is the directions' setting."""
    found = contrast(material(subject, directions))
    if not found.apart.any():
        return [Row("harm_refuse_cosine", np.nan, 0, module=RESIDUAL, missing=SAME)]
    return [
        *cosines(found, fold(subject.key, "harmfulness", "halves")),
        *columns(found),
        *sides(subject, found, directions.prompts),
        *under_attack(subject, found, directions),
        *by_start(subject, directions),
        *changed(subject, found, config, directions.prompts),
    ]


def cosines(found: Contrast, key: jax.Array) -> Iterator[Row]:
    """By layer, the cosine of v_harm with v_refuse, of all prompts, and of one half of them with the other; and that of
    each with itself, of one half with the other, which is what the same direction would have."""
    chance = _mean_cosine(found.of.model.width)
    both, kept = unit(found.vectors), [int(side.sum()) for side in found.of.train.sides]
    for layer, apart in enumerate(found.apart):
        place: dict[str, Any] = {"module": RESIDUAL, "layer": layer + 1}
        value, missing = (float(both[layer, 0] @ both[layer, 1]), None) if apart else (np.nan, SAME)
        yield Row("harm_refuse_cosine", value, sum(kept), missing=missing, **place)
        yield Row("harm_refuse_cosine_random", chance, 1, **place)
    if min(kept) < 2:
        return
    one, other = (unit(differences(found.seen, half)) for half in halves(found.of.train.sides, key))
    for layer in np.flatnonzero(found.apart).tolist():
        place = {"module": RESIDUAL, "layer": layer + 1}
        across = (one[layer, 0] @ other[layer, 1] + other[layer, 0] @ one[layer, 1]) / 2
        yield Row("harm_refuse_cosine_halves", float(across), sum(kept) // 2, **place)
        for i, position in enumerate(PLACES.values()):
            same = float(one[layer, i] @ other[layer, i])
            yield Row("halves_cosine", same, sum(kept) // 2, position=position, **place)


def _mean_cosine(width: int) -> float:
    """The mean size of the cosine of a random direction with any other."""
    return root_mean_beta(1 / 2, (width - 1) / 2)


def columns(found: Contrast) -> Iterator[Row]:
    """The cosines of both directions with what tells tasks, or concepts, apart among safe prompts alone.

    Of each column of the combinations that safety belongs to (`index`, from 1), safe prompts whose value there is more
    often unsafe than prompts are on the whole, less the other safe ones. No rows where either are too few.
    """
    asked, chance = found.of.train, _mean_cosine(found.of.model.width)
    for column, values in enumerate(asked.cells.T):
        _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        risky = (np.bincount(which, asked.unsafe) / counts > asked.unsafe.mean())[which]
        parts = asked.sides[1] & risky, asked.sides[1] & ~risky
        if min(part.sum() for part in parts) < LEAST:
            continue
        along = np.einsum("lpd,lpd->lp", unit(differences(found.seen, parts)), unit(found.vectors))
        for layer in np.flatnonzero(found.apart).tolist():
            for i, position in enumerate(PLACES.values()):
                at: dict[str, Any] = {"layer": layer + 1, "position": position, "index": column + 1}
                count = int(asked.sides[1].sum())
                yield Row("column_cosine", abs(float(along[layer, i])), count, module=RESIDUAL, **at)
                yield Row("column_cosine_random", chance, 1, module=RESIDUAL, **at)


def sides(subject: Subject, found: Contrast, count: int) -> Iterator[Result]:
    """By family and place, on which side prompts lie, also of those that were complied with and of the others; how far
    apart unsafe and safe ones do, in standard deviations; and what the means of the other place say of the same."""
    of, scored = found.of, {}
    means = found.means
    for family, both in subject.prompts.items():
        batch = both.complying
        seen = places(of.model, of.params, Fed(batch.tokens[:count, :-1], batch.go[:count]))
        scored[family] = own, swapped = [leaning(seen, one, found.apart) for one in (means, means[:, :, ::-1])]
        complied = np.asarray(subject.observations[family].complied[:count])
        for i, position in enumerate(PLACES.values()):
            at: dict[str, Any] = {"family": family, "module": RESIDUAL, "position": position}
            yield Samples("side_score", own[:, i], **at)
            yield Samples("side_score_swapped", swapped[:, i], **at)
            for metric, which in (("successful", complied), ("failed", ~complied)):
                yield mean_of(f"side_score_{metric}", own[which, i], **at)
    for metric, unsafe, safe in zip(("side_gap", "side_gap_swapped"), scored["unsafe"], scored["safe"], strict=True):
        for position, gap in zip(PLACES.values(), gaps(unsafe, safe), strict=True):
            missing = None if np.isfinite(gap) else UNSPREAD
            yield Row(metric, gap, len(unsafe) + len(safe), module=RESIDUAL, position=position, missing=missing)


def under_attack(subject: Subject, found: Contrast, directions: DirectionsConfig) -> Iterator[Result]:
    """On which side unsafe prompts lie with soft tokens behind the text that were fitted to make the model comply, or
    with random ones; the last token before EOT is then a soft one. Also of those alone that were complied with."""
    count = directions.soft_tokens
    if count == 0:
        return
    key, spots = fold(subject.key, "harmfulness", "soft"), tuple(PLACES.values())
    tried = fitted(subject, directions.prompts, count, spots, key)
    means = found.means
    for i, position in enumerate(spots):
        at: dict[str, Any] = {"family": "unsafe", "module": RESIDUAL, "position": position, "index": count}
        if tried.missing:
            yield Row("adv_side_score", np.nan, 0, missing=tried.missing, **at)
        for name, held in tried.stream.items():
            scored = leaning(held, means, found.apart)[:, i]
            yield Samples(f"{name}_side_score", scored, **at)
            if name == "adv":
                yield mean_of("adv_side_score_successful", scored[tried.complied[name]], **at)


def by_start(subject: Subject, directions: DirectionsConfig) -> Iterator[Result]:
    """How far apart the model leaves unsafe and safe prompts along what told them apart in the model that it started
    from: of one that was attacked by further tuning, how much is left of either."""
    if subject.untouched:
        return
    start = contrast(material(subject._replace(params=subject.reference), directions))
    if not start.apart.any():
        yield Row("side_gap_start", np.nan, 0, module=RESIDUAL, missing=SAME)
        return
    scored = []
    for family in ("unsafe", "safe"):
        batch = subject.prompts[family].complying
        fed = Fed(batch.tokens[: directions.prompts, :-1], batch.go[: directions.prompts])
        scored.append(leaning(places(subject.model, subject.params, fed), start.means, start.apart))
    for position, gap in zip(PLACES.values(), gaps(*scored), strict=True):
        missing, count = (None if np.isfinite(gap) else UNSPREAD), sum(map(len, scored))
        yield Row("side_gap_start", gap, count, module=RESIDUAL, position=position, missing=missing)


def gaps(one: np.ndarray, other: np.ndarray) -> list[float]:
    """By place, the mean of scores `one` [n, 2] less that of `other` [m, 2], over their standard deviation within both
    (Cohen's d); nan where that is 0."""
    within = np.sqrt((one.var(axis=0) * len(one) + other.var(axis=0) * len(other)) / (len(one) + len(other)))
    apart = one.mean(axis=0) - other.mean(axis=0)
    return np.divide(apart, within, out=np.full(len(apart), np.nan), where=within > 0).tolist()


def changed(subject: Subject, found: Contrast, config: HarmfulnessConfig, count: int) -> Iterator[Result]:
    """Safe prompts answered by the model as it is and with each direction added: behaviour, and whether the first token
    is one of a refusal. Where each was added is `steering_layer`."""
    prompts = stacked(subject.prompts, count, ("safe",))
    chosen = steered(found, config, fold(subject.key, "harmfulness", "steered"))
    answers = {INTACT: [answered(Weights(subject.params, subject.model), prompts)]}
    for one in edits_of("harmfulness", subject, chosen):
        answers.setdefault(one.label, []).append(answered(one.make(), prompts))
    for label, draws in answers.items():
        yield from results_of(("safe",), [one for one, _ in draws], **label._asdict())
        refused = np.mean([found.of.refusal[np.argmax(first[0], axis=-1)] for _, first in draws], axis=0)
        yield Samples("first_refused", refused, family="safe", **label._asdict())
    for name, strength, position, layer in dict.fromkeys((s.name, s.strength, s.last, s.layer) for s in chosen):
        at: dict[str, Any] = {"intervention": name, "strength": strength, "module": "resid", "position": position}
        yield Row("steering_layer", layer + 1.0, int(found.apart.sum()), **at)
