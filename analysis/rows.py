"""The shape every measurement reports in: rows of a tidy table, and values of single prompts."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from analysis.observe import Observation
from models.transformer import ModelConfig, Params
from synth.sequences import Prompts


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What a number is about; None where it is about all of them."""

    family: str | None = None
    layer: int | None = None
    """Counted from 1, as in the paper's figures."""
    module: str | None = None
    """The activation site or weight matrix measured, as in `models.taps` and the weights' names."""
    index: int | None = None
    """Which singular vector, from 1, or which other one of several."""
    position: int | None = None
    """Where in the sequence, counted from EOT, at which the prompt ends: -1 is the last token before it."""
    intervention: str | None = None
    """What was done to the model before measuring, where something was: "alpha", "only", "patch to tuned"."""
    strength: float | None = None
    """How much of it: a multiple, a share, a number of directions."""
    other: str | None = None
    """The model that it was done with, where that is another one than the model tuning started from."""


@dataclass(frozen=True)
class Row(_Place):
    """One number, of one model and one seed."""

    metric: str
    value: float
    n: int
    """How many things the value is a statistic of: prompts, draws, singular vectors."""
    missing: str | None = None
    """Why there is no value, where it is NaN."""


@dataclass(frozen=True)
class Samples(_Place):
    """A number for each prompt of a family; the table has their mean, samples.parquet all of them."""

    metric: str
    values: np.ndarray
    """[N]"""

    def mean(self) -> Row:
        """The mean as a row."""
        place = {field.name: getattr(self, field.name) for field in dataclasses.fields(_Place)}
        return Row(self.metric, float(np.mean(np.asarray(self.values, float))), len(self.values), **place)


Result = Row | Samples


class Drawn(NamedTuple):
    """N prompts of a family."""

    prompts: Prompts
    cells: np.ndarray
    """[N, k] ints: the combination each is of that safety belongs to, of a task and a concept say (`Source.cells`)"""


class Draw(Protocol):
    """Prompts as their source gives them."""

    def __call__(self, families: Iterable[str], count: int, side: int) -> dict[str, Drawn]:
        """The first `count` prompts of each of `families` on a side (`synth.prompts.SIDES`), all in one size."""


class Subject(NamedTuple):
    """One model of one seed, with what it did on each family of prompts."""

    model: ModelConfig
    params: Params
    reference: Params
    """The weights tuning started from; the same as `params` for the untouched model."""
    prompts: Mapping[str, Prompts]
    """By family"""
    observations: Mapping[str, Observation]
    """What the model did, by family; arrays are NumPy, without an axis of seeds"""
    before: Mapping[str, Mapping[str, np.ndarray]]
    """Activations with the weights `reference`, by family, as `Observation.last`: of the first
    `AnalysisConfig.prompts_before` prompts"""
    key: jax.Array
    """For the measurements' controls"""
    groups: Mapping[str, np.ndarray] = MappingProxyType({})
    """By family, [N, groups] bool: the concept groups that each prompt's text was derived from, where they are known"""
    validation: Mapping[str, Observation] = MappingProxyType({})
    """What the model did on safe and unsafe prompts of another side of the world's division: whatever is chosen or
    fitted is so on these, and reported of `observations`"""
    draw: Draw | None = None
    """Further prompts of the same source, for what needs some of another side or of more of them"""
    name: str = ""
    """By which method it was tuned, where there are `others`"""
    others: Mapping[str, Params] = MappingProxyType({})
    """By method, the other models that it is compared with, where there are any"""

    @property
    def untouched(self) -> bool:
        """Whether this is the model that tuning starts from."""
        return self.params is self.reference


def mean_of(metric: str, values: np.ndarray, **place: Any) -> Row:
    """The mean of `values` [n] of some prompts as a row, or why there is none where these are no prompts."""
    if len(values):
        return Row(metric, float(values.mean()), len(values), **place)
    return Row(metric, np.nan, 0, missing="there are no such prompts", **place)


def rows(results: Iterable[Result]) -> list[Row]:
    """Every statistic, and the mean of every set of samples."""
    return [result.mean() if isinstance(result, Samples) else result for result in results]
