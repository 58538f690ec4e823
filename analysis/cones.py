"""Is refusal a cone of directions, found by gradient, rather than one direction, and are there independent ones
(Wollschläger et al. 2025, arXiv 2502.17420).

`analysis/cone_search.py` finds them and `analysis/edits/cones.py` changes models by them; this reports. In all rows
`strength` is the dimension of the cone.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from analysis.chance import random_frames, root_mean_beta
from analysis.cone_search import ARBITRARY, CONE, INDEPENDENT, Cones, ConesConfig, dims, search
from analysis.directions import divergence
from analysis.edit import Fed, Label, Weights
from analysis.edits.lookup import edits_of
from analysis.refusal import stream
from analysis.rows import Result, Row, Samples, Subject
from analysis.scores import Answered, answered, results_of, stacked
from analysis.selection import SIDES, DirectionsConfig, NoDirectionError
from analysis.subspaces import unit
from synth.keys import fold
from synth.prompts import TEST

INTACT = Label("ablate cone", 0, module="resid")
"""Of the model as it is"""

LEAST = ("lowest_complied", "highest_first_refused")
"""What is said of whichever direction of a cone does least"""


def measure(subject: Subject, found_by: DirectionsConfig, config: ConesConfig) -> list[Result]:
    """What was found and what it is good for, by the functions below.

    One row says why there is nothing, where safe and unsafe prompts leave the same in the residual stream.
    """
    try:
        found = search(subject, found_by, config)
    except NoDirectionError as error:
        return [Row("cone_dimension", np.nan, 0, module="resid", missing=str(error))]
    answers = answers_of(subject, found)
    return [
        *searched(found),
        *changed(found, answers),
        *dimensions(found, answers),
        *crossed(subject, found),
        *swapped(subject, found, answers),
    ]


def answers_of(subject: Subject, found: Cones) -> dict[Label, list[Answered]]:
    """By label, for each of its draws, how safe and unsafe prompts are answered; safe ones alone by what is added."""
    prompts = stacked(subject.prompts, found.config.prompts, SIDES)
    safe = jax.tree.map(lambda x: x[1:], prompts)
    answers = {INTACT: [answered(Weights(subject.params, subject.model), prompts)]}
    for one in edits_of("cones", subject, found):
        asked = safe if one.label.intervention.startswith("add") else prompts
        answers.setdefault(one.label, []).append(answered(one.make(), asked))
    return answers


def searched(found: Cones) -> Iterator[Result]:
    """The loss on validation prompts as it falls, and |cosine| of what was found with the difference of means."""
    width = found.of.model.width
    place: dict[str, Any]
    chance = root_mean_beta(0.5, (width - 1) / 2)
    for k in set(found.config.dims) - set(dims(found.config, width)):
        place = {"intervention": "ablate cone", "strength": float(k), "module": "resid"}
        for metric in LEAST:
            yield Row(metric, np.nan, 0, family=SIDES[0], missing=f"the stream has {width} dimensions", **place)
    for one, course in found.found.items():
        place = {"intervention": f"ablate {one.what}", "strength": float(one.dim), "module": "resid"}
        for i, loss in enumerate(np.asarray(course.losses, float)):
            missing = None if np.isfinite(loss) else "the loss is not finite"
            yield Row("cone_loss", float(loss), found.config.validation, index=i, missing=missing, **place)
        for i, along in enumerate(np.abs(found.basis(*one) @ found.first.unit)):
            yield Row("cone_cosine", float(along), 1, index=i + 1, **place)
            yield Row("cone_cosine_random", chance, 1, index=i + 1, **place)


def first_refused(found: Cones, draws: list[Answered]) -> np.ndarray:
    """[draws, families, N] bool: the likeliest first token is one of a refusal."""
    return np.stack([found.of.refusal[np.argmax(first, axis=-1)] for _, first in draws])


def changed(found: Cones, answers: dict[Label, list[Answered]]) -> Iterator[Result]:
    """Behaviour, the mean over the directions of a label, whether the first token is one of a refusal and by how much
    it is changed; and of all directions of an ablated cone that which does least."""
    before = answers[INTACT][0][1]
    for label, draws in answers.items():
        added = label.intervention.startswith("add")
        families, start = (SIDES[1:], before[1:]) if added else (SIDES, before)
        yield from results_of(families, [one for one, _ in draws], **label._asdict())
        refused = first_refused(found, draws)
        moved = np.mean([divergence(start, first) for _, first in draws], axis=0)
        for i, family in enumerate(families):
            place = {"family": family, **label._asdict()}
            yield Samples("first_refused", refused[:, i].mean(axis=0), **place)
            if np.isfinite(moved[i]).all():
                yield Samples("first_token_kl", moved[i], **place)
            else:
                yield Row("first_token_kl", np.nan, len(moved[i]), missing="values that are not finite", **place)
        if not added:
            complied = np.stack([np.asarray(one.complied[0], float) for one, _ in draws])
            place = {"family": SIDES[0], **label._asdict()}
            yield Row("lowest_complied", float(complied.mean(axis=1).min()), complied.shape[1], **place)
            most = float(refused[:, 0].mean(axis=1).max())
            yield Row("highest_first_refused", most, refused.shape[2], **place)


def dimensions(found: Cones, answers: dict[Label, list[Answered]]) -> Iterator[Result]:
    """The largest dimension of a cone whose every direction removes refusal, and the same of random cones."""
    known = dims(found.config, found.of.model.width)
    for metric, name in (("cone_dimension", "cone"), ("cone_dimension_random", "cone random")):
        largest = 0
        for k in known:
            refused = first_refused(found, answers[Label(f"ablate {name}", k, module="resid")])
            if refused[:, 0].mean(axis=1).max() <= found.config.threshold:
                largest = k
        yield Row(metric, float(largest), len(known), module="resid")


def crossed(subject: Subject, found: Cones) -> Iterator[Result]:
    """What ablating one of two directions changes of the cosine of the stream with the other, at EOT.

    Of the difference of means with the direction found as one (`means, cone`) and with the one found as independent
    (`means, independent`), and of the rows of each basis (`basis`, pair by `index`). Beside each, random pairs at the
    same angle.
    """
    width, means = subject.model.width, found.first.unit
    if width < 2:
        return
    pairs: list[tuple[dict[str, Any], np.ndarray]] = [
        ({"intervention": f"means, {what}", "strength": 1.0}, np.stack([means, found.basis(what)[0]]))
        for what in (CONE, INDEPENDENT)
    ]
    for k in dims(found.config, width):
        rows, (one, other) = found.basis(CONE, k), np.triu_indices(k, 1)
        for i in range(len(one)):
            pairs.append(
                (
                    {"intervention": "basis", "strength": float(k), "index": i + 1},
                    np.stack([rows[one[i]], rows[other[i]]]),
                )
            )
    whole = stacked(subject.prompts, found.config.prompts, SIDES).complying
    tokens, go = (np.asarray(x).reshape(-1, *x.shape[2:]) for x in (whole.tokens, whole.go))
    fed = Fed(jnp.asarray(tokens[:, : go.max() + 1]), jnp.asarray(go))
    nothing = np.zeros(width)

    def without(direction: np.ndarray) -> np.ndarray:
        basis = jnp.asarray(direction[None], jnp.float32)
        return unit(np.asarray(stream(subject.model, subject.params, fed, basis, (0,)), float)[:, :, 0])

    def effect(pair: np.ndarray) -> np.ndarray:
        ways = [np.abs((intact - without(ablated)) @ read) for read, ablated in (pair, pair[::-1])]
        return np.asarray(np.mean(ways, axis=(0, 2)))

    intact = without(nothing)
    frames = random_frames(width, 2, found.config.draws, fold(subject.key, "cones", "pairs"))
    by_chance: dict[float, float] = {}
    for place, pair in pairs:
        cosine = float(pair[0] @ pair[1])
        # Rows of a basis are all at the same angle.
        angle = 0.0 if place["intervention"] == "basis" else cosine
        if angle not in by_chance:
            turned = [np.stack([f[:, 0], angle * f[:, 0] + np.sqrt(1 - angle**2) * f[:, 1]]) for f in frames]
            by_chance[angle] = float(np.mean([effect(one).mean() for one in turned]))
        yield Samples("cross_effect", effect(pair), module="resid", **place)
        yield Row("cross_effect_random", by_chance[angle], found.config.draws, module="resid", **place)
        yield Row("cross_cosine", cosine, 1, module="resid", **place)


def swapped(subject: Subject, found: Cones, answers: dict[Label, list[Answered]]) -> Iterator[Result]:
    """How far a direction can be found for any behaviour: of prompts whose combinations were dealt to be answered wrong
    without it, how many are, and how many of the others are still answered right; by the model as it is, too.

    Beside it, the same of the direction of refusal, for which the combinations are the unsafe ones.
    """
    assert subject.draw is not None
    drawn = subject.draw(SIDES, found.config.prompts, TEST)
    count = np.shape(answers[INTACT][0][1])[1]
    cells = np.concatenate([drawn[family].cells[:count] for family in SIDES])
    is_unsafe = np.repeat([True, False], count)
    arbitrary, as_it_is = dealt(found, cells), np.where(is_unsafe, 1, 0)
    for what, sides in ((ARBITRARY, arbitrary), (CONE, as_it_is)):
        for strength in (0.0, 1.0):
            label = INTACT if strength == 0 else Label(f"ablate {what}", strength, module="resid")
            place: dict[str, Any] = {"intervention": f"ablate {what}", "strength": strength, "module": "resid"}
            if label not in answers:
                missing = "all combinations were dealt to one side"
                yield from (Row(metric, np.nan, 0, missing=missing, **place) for metric in ("swapped", "spared"))
                continue
            scores = answers[label][0][0]
            complied, refused = (np.asarray(x).reshape(-1) for x in (scores.complied, scores.refused))
            wrong, right = (np.where(is_unsafe, *both) for both in ((complied, refused), (refused, complied)))
            for metric, values in (("swapped", wrong[sides == 1]), ("spared", right[sides == 0])):
                if len(values):
                    yield Row(metric, float(values.mean()), len(values), **place)
                else:
                    yield Row(metric, np.nan, 0, missing="there are no such prompts", **place)


def dealt(found: Cones, cells: np.ndarray) -> np.ndarray:
    """[N] the side that combinations `cells` [N, k] were dealt to: 1 is the first, 0 the second, -1 neither."""
    known: dict[tuple[int, ...], int] = {}
    for asked in (found.dealt.train, found.dealt.validation):
        known |= {tuple(cell): int(side) for cell, side in zip(asked.cells.tolist(), asked.unsafe, strict=True)}
    return np.array([known.get(tuple(cell), -1) for cell in cells.tolist()])
