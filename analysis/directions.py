"""Is refusal one direction of the residual stream, several, or none: what becomes of a model without it or with more of
it (Arditi et al. 2024, arXiv 2406.11717).

`analysis/selection.py` finds directions and `analysis/edits/directions.py` changes models by them; this reports.
A direction of layer l, from 1, is one of the stream that this layer reads.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from analysis.attacks import fitted
from analysis.attribution import attribute, mean_shares
from analysis.chance import random_units
from analysis.edit import Fed, Label, Weights
from analysis.edits.lookup import edits_of
from analysis.refusal import stream
from analysis.rows import Result, Row, Samples, Subject, mean_of
from analysis.scores import Answered, Scores, answered, results_of, stacked
from analysis.selection import SIDES, DirectionsConfig, Found, NoDirectionError, material, search
from analysis.subspaces import unit
from synth.keys import fold
from synth.segments import Batch

RESIDUAL = "resid_pre"
"""The site that directions are found at"""
INTACT = Label("ablate", 0, module="resid")
"""Of the model as it is, on the prompts that edits are tried on and judged as they are"""

EDITED = (*Scores._fields, "first_refused", "first_token_kl")
"""What is measured of edited models"""


def measure(subject: Subject, config: DirectionsConfig) -> list[Result]:
    """What was found and what it is good for, by the functions below.

    One row says why there is nothing, where safe and unsafe prompts leave the same in the residual stream.
    """
    try:
        found = search(material(subject, config), config, fold(subject.key, "directions"))
    except NoDirectionError as error:
        return [Row("direction_passing", np.nan, 0, module=RESIDUAL, missing=str(error))]
    # The direction, and random ones that stand beside it.
    random = random_units(subject.model.width, config.draws, fold(subject.key, "directions", "beside"))
    directions = np.concatenate([found.first.unit[None], random])
    return [
        *searched(found),
        *changed(subject, found),
        *cosines(subject, config, directions),
        *attributed(subject, config, directions),
        *under_attack(subject, config, directions),
    ]


def searched(found: Found) -> Iterator[Result]:
    """Every candidate with its scores on validation prompts; how many keep to the thresholds; where the first lies, and
    the chosen one; and which share of the training prompts the filter kept."""
    candidates, of = found.candidates, found.of
    for i, vector in enumerate(candidates.vectors):
        place: dict[str, Any] = {"layer": int(candidates.layers[i]) + 1, "position": int(candidates.positions[i])}
        norm = float(np.linalg.norm(vector))
        yield Row("direction_norm", norm, int(of.train.kept.sum()), module=RESIDUAL, **place)
        for name in ("bypass", "induce", "kl"):
            value = float(getattr(candidates, name)[i])
            missing = None if np.isfinite(value) else "safe and unsafe prompts leave the same there"
            count = int(of.validation.kept.sum())
            yield Row(f"direction_{name}", value, count, module=RESIDUAL, missing=missing, **place)
    passing = candidates.passing(found.config, of.model.layers)
    yield Row("direction_passing", float(passing.sum()), len(passing), module=RESIDUAL)
    for intervention, one in (("ablate", found.first), ("ablate chosen", found.chosen)):
        for metric, where in (("direction_layer", "layer"), ("direction_position", "position")):
            value = np.nan if one is None else float(getattr(one, where) + (where == "layer"))
            missing = None if one else _none_passes(found.config)
            yield Row(metric, value, len(passing), module=RESIDUAL, intervention=intervention, missing=missing)
    for family, side in zip(SIDES, (of.train.unsafe, ~of.train.unsafe), strict=True):
        yield Row("direction_kept", float(of.train.kept[side].mean()), int(side.sum()), family=family)


def _none_passes(config: DirectionsConfig) -> str:
    return f"no direction keeps to the thresholds, KL below {config.kl:g} and log-odds above {config.induce:g}"


def changed(subject: Subject, found: Found) -> Iterator[Result]:
    """Safe and unsafe prompts answered by the model as it is and under every edit: behaviour, whether the first token
    is one of a refusal, and by how much it is changed."""
    config = found.config
    prompts = stacked(subject.prompts, config.prompts, SIDES)
    whole = answered(Weights(subject.params, subject.model), prompts)
    answers: dict[Label, list[Answered]] = {INTACT: [whole]}
    for one in edits_of("directions", subject, found):
        answers.setdefault(one.label, []).append(answered(one.make(), prompts))
    kept: dict[int, float] = {}
    for label, draws in answers.items():
        yield from results_of(SIDES, [one for one, _ in draws], **label._asdict())
        refused = np.mean([found.of.refusal[np.argmax(first, axis=-1)] for _, first in draws], axis=0)
        moved = np.mean([divergence(whole[1], first) for _, first in draws], axis=0)
        for i, family in enumerate(SIDES):
            yield Samples("first_refused", refused[i], family=family, **label._asdict())
            yield Samples("first_token_kl", moved[i], family=family, **label._asdict())
        if label.intervention == "ablate" and label.module == "resid":
            kept[int(label.strength or 0)] = float(refused[0].mean())
    yield _rank(kept, prompts.complying.go.shape[1], config)
    if found.chosen is None:
        for intervention, strength in (("ablate chosen", 1.0), ("add chosen", config.coefficient)):
            label = Label(intervention, strength, module="resid")
            for metric, family in ((metric, family) for metric in EDITED for family in SIDES):
                yield Row(metric, np.nan, 0, family=family, missing=_none_passes(config), **label._asdict())


def _rank(kept: dict[int, float], prompts: int, config: DirectionsConfig) -> Row:
    """How many directions must go until refusal is, from the share of unsafe prompts `kept` by how many are ablated."""
    gone = [k for k in sorted(kept) if kept[k] <= config.left]
    if not gone:
        missing = f"without {max(kept)} directions {kept[max(kept)]:.0%} of unsafe prompts are still refused"
    elif gone[0] == 0:
        missing = "the model as it is refuses hardly any unsafe prompt"
    else:
        return Row("direction_rank", float(gone[0]), prompts, module=RESIDUAL)
    return Row("direction_rank", np.nan, prompts, module=RESIDUAL, missing=missing)


def divergence(before: jax.Array, after: jax.Array) -> np.ndarray:
    """[B] KL(before || after) in nats, of log-probabilities [B, V]."""
    return np.asarray(jnp.sum(jnp.exp(before) * (before - after), axis=-1), float)


def cosines(subject: Subject, config: DirectionsConfig, directions: np.ndarray) -> Iterator[Result]:
    """By family, layer and position, the cosine of the stream with the first of `directions` [A, D]; beside it the mean
    size of that with the others. The model reads its own responses.

    At EOT also over the prompts that were complied with, and over the others (the paper's Fig. 5).
    """
    nothing = jnp.zeros((1, subject.model.width))
    for family, seen in subject.observations.items():
        fed = Fed(seen.generated[: config.prompts, :-1], subject.prompts[family].complying.go[: config.prompts])
        held = unit(np.asarray(stream(subject.model, subject.params, fed, nothing, config.positions), float))
        along = held @ directions.T
        complied = np.asarray(seen.complied[: config.prompts])
        for layer in range(along.shape[1]):
            for i, position in enumerate(config.positions):
                place: dict[str, Any] = {"family": family, "layer": layer + 1, "position": position}
                values = along[:, layer, i]
                yield Samples("refusal_cosine", values[:, 0], module=RESIDUAL, **place)
                chance = float(np.abs(values[:, 1:]).mean())
                yield Row("refusal_cosine_random", chance, values[:, 1:].size, module=RESIDUAL, **place)
                if position == 0:
                    for metric, which in (("successful", complied), ("failed", ~complied)):
                        yield mean_of(f"refusal_cosine_{metric}", values[which, 0], module=RESIDUAL, **place)


def attributed(subject: Subject, config: DirectionsConfig, directions: np.ndarray) -> Iterator[Result]:
    """By family, what each head and each MLP writes at EOT along the first of `directions` [A, D], beside the mean size
    of what it writes along the others; and what share of a head's attention is on tasks, text and the rest."""
    for family, both in subject.prompts.items():
        batch: Batch = jax.tree.map(lambda x: x[: config.prompts], both.complying)
        seen = attribute(subject.model, subject.params, batch, jnp.asarray(directions, jnp.float32))
        heads, mlps = np.asarray(seen.heads, float), np.asarray(seen.mlps, float)
        shares, count = mean_shares(np.asarray(seen.attention)), len(heads)
        for layer in range(subject.model.layers):
            place: dict[str, Any] = {"family": family, "layer": layer + 1}
            yield from _written(mlps[:, layer], count, module="mlp_out", **place)
            for head in range(subject.model.heads):
                yield from _written(heads[:, layer, head], count, module="attn_out", index=head + 1, **place)
                for region, of_heads in shares.items():
                    share = float(of_heads[layer, head])
                    yield Row("attention_share", share, count, module=region, index=head + 1, **place)


def _written(values: np.ndarray, count: int, **place: Any) -> Iterator[Row]:
    yield Row("component_effect", float(values[:, 0].mean()), count, **place)
    yield Row("component_effect_random", float(np.abs(values[:, 1:].mean(axis=0)).mean()), count, **place)


def under_attack(subject: Subject, config: DirectionsConfig, directions: np.ndarray) -> Iterator[Result]:
    """At EOT of unsafe prompts with soft tokens that were fitted to make the model comply, and with random ones as
    long, the cosine of the stream with the first of `directions`; and how many then comply (`analysis/attacks.py`).
    """
    count = config.soft_tokens
    if count == 0:
        return
    place: dict[str, Any] = {"family": "unsafe", "index": count}
    found = fitted(subject, config.prompts, count, (0,), fold(subject.key, "directions", "soft"))
    if found.missing:
        yield Row("adv_refusal_cosine", np.nan, 0, module=RESIDUAL, position=0, missing=found.missing, **place)
    for name, held in found.stream.items():
        along = unit(held[:, :, 0]) @ directions[0]
        for layer in range(along.shape[1]):
            at = {"module": RESIDUAL, "layer": layer + 1, "position": 0, **place}
            yield Samples(f"{name}_refusal_cosine", along[:, layer], **at)
        # Under a name of its own: where soft tokens are attacked with by themselves, of so many there may be rows.
        yield Samples(f"{name}_direction_complied", found.complied[name], **place)
