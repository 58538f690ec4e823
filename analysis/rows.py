"""The shape every measurement reports in: rows of a tidy table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from analysis.observe import Observation
from models.transformer import Params


@dataclass(frozen=True)
class Row:
    """One number, of one model and one seed."""

    metric: str
    value: float
    n: int
    """How many things the value is a statistic of: prompts, draws, singular vectors."""
    family: str | None = None
    layer: int | None = None
    """Counted from 1, as in the paper's figures."""
    module: str | None = None
    """The activation site or weight matrix measured, as in `models.taps` and the weights' names."""
    index: int | None = None
    """Which singular vector, from 1, where there are several."""


class Subject(NamedTuple):
    """One model of one seed, with what it did on each family of prompts."""

    params: Params
    reference: Params
    """The weights tuning started from; the same as `params` for the untouched model."""
    observations: Mapping[str, Observation]
    """By family; arrays are NumPy, without an axis of seeds"""
    key: jax.Array
    """For the measurements' controls"""


Measurement = Callable[[Subject], list[Row]]


def mean_row(metric: str, values: np.ndarray | jax.Array, **where: Any) -> Row:
    """The mean of per-sample `values` [n] as a row."""
    return Row(metric, float(np.mean(np.asarray(values))), len(values), **where)
