"""A subject whose observations are given arrays: what measurements of activations see, without a model."""

from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np

from analysis.observe import LAST, WINDOW, Observation
from analysis.rows import Row, Samples, Subject
from models.transformer import ModelConfig


def observation(rows: np.ndarray, complied: np.ndarray | None = None) -> Observation:
    """Rows [N, L, F] at every site; `_last` sites hold twice as much."""
    nothing = np.zeros(len(rows), bool)
    return Observation(
        generated=None,
        complied=nothing if complied is None else complied,
        refused=nothing,
        first_complied=nothing,
        first_refused=nothing,
        teacher_complied=nothing,
        teacher_refused=nothing,
        token_accuracy=nothing.astype(float),
        logp_comply=nothing.astype(float),
        logp_refuse=nothing.astype(float),
        last=dict.fromkeys(LAST, 2 * rows),
        window=dict.fromkeys(WINDOW, rows),
    )


def subject(
    model: ModelConfig,
    key: jax.Array,
    observations: Mapping[str, Observation],
    validation: Mapping[str, Observation] | None = None,
) -> Subject:
    """The untouched model, of as many layers as the activations have; fitted on `observations` if on no others."""
    layers = next(iter(observations.values())).window["mlp.post"].shape[1]
    return Subject(
        replace(model, layers=layers),
        {},
        {},
        {},
        observations,
        {name: seen.last for name, seen in observations.items()},
        key,
        validation=observations if validation is None else validation,
    )


def value(results: list[Row | Samples], metric: str, **where: object) -> Row:
    """The one row of that metric and place."""
    (found,) = [
        result.mean() if isinstance(result, Samples) else result
        for result in results
        if result.metric == metric and all(getattr(result, name) == v for name, v in where.items())
    ]
    return found
