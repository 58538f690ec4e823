"""Is what tuning did to the residual stream one direction, and is that the one of refusal (Pan et al. 2025, arXiv
2502.09674); and is it where the null-space paper (arXiv 2407.10264) looks: in dW, and between the clusters.

`analysis/components.py` takes the shift apart and `analysis/edits/unshifted.py` takes directions out; this reports.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.chance import root_mean_beta
from analysis.clusters import activations
from analysis.components import (
    REFUSAL,
    SITE,
    Removed,
    Shifted,
    ShiftsConfig,
    Spectrum,
    accuracy,
    dealt,
    found_in,
    in_stream,
    removed,
    shifted,
    spectrum,
    turned,
)
from analysis.edit import Label, Weights
from analysis.edits.lookup import edits_of
from analysis.rows import Result, Row, Subject
from analysis.scores import results_of, scores, stacked, tried
from analysis.selection import SIDES, DirectionsConfig, NoDirectionError, first_of, material
from analysis.subspaces import unit
from synth.keys import fold

INTACT = Label("ablate shift", 0, module="resid")
"""Of the model as it is, on the prompts that edits are tried on"""
STREAM_SIDE = {"W_out": ("mlp", -1), "W_O": ("attn", -1), "W_in": ("mlp", 0)}
"""By matrix, the part of a block it is of and its axis along the residual stream: of what writes to it, and what reads
it"""
AXES = (SITE, f"{SITE}_last", "mlp.post", "mlp.post_last")
"""Modules of `analysis/clusters.py` that cluster axes are taken at"""
STILL, ZERO, GONE = "tuning moved nothing there", "dW is zero", "there is no such direction left"


def measure(subject: Subject, config: ShiftsConfig, directions: DirectionsConfig) -> list[Result]:
    """The shift and its components, the refusal direction among them and in dW, and what becomes of a model, and of the
    other directions, without one or the other. No rows for the untouched model, which did not move.

    How the refusal direction is found, and on how many prompts edits are tried, is the directions' setting.
    """
    if subject.untouched:
        return []
    of = shifted(subject, config)
    firsts: dict[tuple[int, bool], np.ndarray] = {}
    results: list[Result] = []
    for layer in range(subject.model.layers):
        for centred in (False, True):
            matrix = of.moved(layer, centred)
            if matrix is None:
                name = _named("shift_energy", centred)
                results.append(Row(name, np.nan, 0, missing=STILL, module=SITE, layer=layer + 1, position=0))
                continue
            found = spectrum(matrix, config.shares)
            firsts[layer, centred] = found.components[0]
            results += energy(subject, config, matrix, found, layer, centred)
            if not centred:
                results += detectors(subject, config, of, found.components[: config.components], layer)
    try:
        asked = material(subject, directions)
        refusal, _, _ = first_of(asked, directions)
    except NoDirectionError as error:
        return [*results, Row("shift_overlap", np.nan, 0, module=SITE, missing=str(error))]
    results += in_shift(refusal.unit, firsts)
    results += in_change(subject, config, refusal.unit)
    results += in_axes(subject, refusal.unit)
    uncentred = {layer: vector for (layer, centred), vector in firsts.items() if not centred}
    if uncentred:
        taken = removed(asked, uncentred, refusal, config.draws)
        results += without(subject, taken, directions.prompts)
        results += found_again(subject, config, directions, taken, of)
    return results


def _named(metric: str, centred: bool) -> str:
    return metric + "_centred" * centred


def energy(
    subject: Subject, config: ShiftsConfig, matrix: np.ndarray, found: Spectrum, layer: int, centred: bool
) -> Iterator[Row]:
    """How much of the energy of the shift `matrix` [N, D] its first component has, and how many hold shares of it
    (`index`, in percent); beside shifts of the same sizes in random directions."""
    key = fold(subject.key, "shifts", layer, int(centred))
    null = [spectrum(one, config.shares) for one in turned(matrix, config.draws, key)]
    place: dict[str, Any] = {"module": SITE, "layer": layer + 1, "position": 0}
    name = _named("shift_energy", centred)
    yield Row(name, found.share, len(matrix), **place)
    yield Row(f"{name}_random", float(np.mean([one.share for one in null])), len(null), **place)
    name = _named("shift_rank", centred)
    for i, share in enumerate(config.shares):
        at = {**place, "index": round(100 * share)}
        yield Row(name, float(found.ranks[i]), len(matrix), **at)
        yield Row(f"{name}_random", float(np.mean([one.ranks[i] for one in null])), len(null), **at)


def detectors(subject: Subject, config: ShiftsConfig, of: Shifted, components: np.ndarray, layer: int) -> Iterator[Row]:
    """How many test prompts the first of `components` [K, D] tells apart, and the best of them; and the same where
    labels mean nothing."""
    place: dict[str, Any] = {"module": SITE, "layer": layer + 1, "position": 0}
    relabelled = dealt(of, config.permutations, fold(subject.key, "shifts", "labels"))
    for metric, among in (("shift_accuracy_first", components[:1]), ("shift_accuracy", components)):
        yield Row(metric, accuracy(among, of.validation, of.test, layer), len(of.test.unsafe), **place)
        null = [accuracy(among, *labels, layer) for labels in relabelled]
        yield Row(f"{metric}_permuted", float(np.mean(null)), len(null), **place)


def _chance(width: int, rank: int = 1) -> float:
    """The mean length of a random unit vector within a subspace of dimension `rank`."""
    return root_mean_beta(rank / 2, (width - rank) / 2)


def in_shift(refusal: np.ndarray, firsts: dict[tuple[int, bool], np.ndarray]) -> Iterator[Row]:
    """The size of the cosine of the refusal direction with the first component of the shift, by layer."""
    for (layer, centred), first in firsts.items():
        at: dict[str, Any] = {"module": SITE, "layer": layer + 1, "position": 0}
        name = _named("shift_overlap", centred)
        yield Row(name, abs(float(first @ refusal)), 1, **at)
        yield Row(f"{name}_random", _chance(len(refusal)), 1, **at)


def in_change(subject: Subject, config: ShiftsConfig, refusal: np.ndarray) -> Iterator[Row]:
    """How long the refusal direction is within the first `index` singular directions of dW, on the side of each matrix
    that lies in the residual stream."""
    width = len(refusal)
    for layer in range(subject.model.layers):
        for module, (part, axis) in STREAM_SIDE.items():
            after, before = (
                np.asarray(params["blocks"][str(layer)][part][module], float)
                for params in (subject.params, subject.reference)
            )
            change = np.moveaxis(after - before, axis, -1)
            right = np.linalg.svd(change, full_matrices=False)[2]
            for rank in config.ranks:
                held = min(rank, len(right))
                at: dict[str, Any] = {"module": module, "layer": layer + 1, "index": rank}
                value, missing = (
                    (float(np.linalg.norm(right[:held] @ refusal)), None) if change.any() else (np.nan, ZERO)
                )
                yield Row("change_overlap", value, 1, missing=missing, **at)
                yield Row("change_overlap_random", _chance(width, held), 1, **at)


def in_axes(subject: Subject, refusal: np.ndarray) -> Iterator[Row]:
    """The size of the cosine of the refusal direction with the axis between the clusters of safe and unsafe prompts,
    by layer and module; that of `mlp.post` is carried to the residual stream by W_out."""
    seen = subject.validation
    for layer in range(subject.model.layers):
        for module in AXES:
            unsafe, safe = (activations(seen[family], module, layer).mean(axis=0, dtype=float) for family in SIDES)
            axis = safe - unsafe
            if module.startswith("mlp"):
                axis = axis @ np.asarray(subject.params["blocks"][str(layer)]["mlp"]["W_out"], float)
            at: dict[str, Any] = {"module": module, "layer": layer + 1}
            yield Row("axis_overlap", abs(float(unit(axis[None])[0] @ refusal)), 1, **at)
            yield Row("axis_overlap_random", _chance(len(refusal)), 1, **at)


def without(subject: Subject, found: Removed, count: int) -> Iterator[Result]:
    """Safe and unsafe prompts answered by the model as it is and without either direction. Behind which layer the
    component that is removed was found is `shift_layer`."""
    prompts = stacked(subject.prompts, count, SIDES)
    answers = {INTACT: [scores(Weights(subject.params, subject.model), prompts)]}
    answers |= tried(edits_of("shifts", subject, found), prompts)
    for label, draws in answers.items():
        yield from results_of(SIDES, draws, **label._asdict())
    yield Row("shift_layer", found.layer + 1.0, subject.model.layers, intervention="ablate shift", strength=1.0)


def found_again(
    subject: Subject, config: ShiftsConfig, directions: DirectionsConfig, taken: Removed, of: Shifted
) -> Iterator[Row]:
    """The size of the cosine that each direction has with what it was, where it is found anew in the model without one
    of them in dW, or without a random one: does removing one remove the others?"""
    own = {**in_stream(of.before, of.validation.after), (REFUSAL, None): taken.refusal}
    chance, seen = _chance(subject.model.width), set[Label]()
    for one in edits_of("shifts", subject, taken):
        # One random direction is enough to say that hardly anything moves.
        if one.label.module != "weights" or one.label in seen:
            continue
        seen.add(one.label)
        there = found_in(subject, config, directions, one.make(), of.before)
        for (name, layer), was in own.items():
            place: dict[str, Any] = {
                **one.label._asdict(), "module": name, "layer": None if layer is None else layer + 1
            }  # fmt: skip
            again = there.get((name, layer))
            value, missing = (np.nan, GONE) if again is None else (abs(float(again @ was)), None)
            yield Row("found_again", value, 1, missing=missing, **place)
            yield Row("found_again_random", chance, 1, **place)
