"""Measuring: what one model does, and what is read off its weights and activations, each measurement by itself."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.edits import lookup as edits
from analysis.observe import Observation, observe, observe_last
from analysis.rows import Drawn, Result, Samples, Subject, rows
from analysis.suite import MEASUREMENTS
from experiments.stages import files
from experiments.stages.prompts import drawn, together
from experiments.stages.runs import DivergedError, finite_runs
from experiments.stages.side_by_side import of_each
from experiments.stages.stage import Stage, Work
from experiments.stages.weights import ModelStage
from models.transformer import ModelConfig, Params
from models.weights import one_seed
from synth.keys import fold
from synth.prompts import TEST, VALIDATION
from synth.sequences import Prompts
from synth.source import Source

TABLE, SAMPLES = "rows.parquet", "samples.parquet"

SeenBefore = Mapping[str, Mapping[str, np.ndarray]]
"""As `Subject.before`"""


@dataclass(frozen=True)
class Asked:
    """What models are asked, and how much of what it leaves in them is seen."""

    source: Source
    families: tuple[str, ...]
    prompts: int
    """Of each family"""
    validation: int
    """Of safe and unsafe ones each, that whatever is fitted is so on"""
    window: int
    """Positions of the response that activations are a mean over"""
    prompts_before: int
    """Of each family, of which activations of the reference are seen"""

    @functools.cached_property
    def modules(self) -> tuple[str, ...]:
        """Where its source, with the families and the responses, is defined."""
        return self.source.modules(self.families)


@dataclass(frozen=True)
class Measured(Stage):
    """What is written about every seed of a model that has not diverged; what is asked is asked once for all.

    Raises DivergedError where no seed is left.
    """

    weights: ModelStage
    reference: ModelStage
    asked: Asked
    step: int | None
    """Of a snapshot of its tuning; None for the finished model"""

    @property
    def label(self) -> str:
        """Which of all that is measured of a model it is."""
        return self.name

    @property
    def rows(self) -> tuple[str, ...]:
        return self.asked.modules

    def of_seed(self, subject: Subject, seed: int) -> Any:
        """What `write` is to have of one seed."""
        raise NotImplementedError

    def write(self, folder: Path, found: Sequence[Any]) -> None:
        """The files, from what was found of each seed."""
        raise NotImplementedError

    @classmethod
    def make(cls, stages: Sequence["Measured"], folders: Sequence[Path], work: Work) -> None:
        """All that is measured of one model, step by step, each of its seeds asked once at every step."""
        of_steps: dict[int | None, list[int]] = {}
        for i, stage in enumerate(stages):
            of_steps.setdefault(stage.step, []).append(i)
        first = stages[0]
        tuned, reference = work.store.get(first.weights.recipe), work.store.get(first.reference.recipe)
        untouched = files.load_weights(reference)
        before: dict[int, SeenBefore] = {}
        for step, chosen in of_steps.items():
            params = files.load_weights(tuned, files.WEIGHTS if step is None else files.snapshot(step))
            found = _of_seeds([stages[i] for i in chosen], params, untouched, before)
            for i, of_stage in zip(chosen, zip(*found, strict=True), strict=True):
                stages[i].write(folders[i], of_stage)


def _of_seeds(
    stages: Sequence[Measured], params: Params, untouched: Params, before: dict[int, SeenBefore]
) -> list[list[Any]]:
    """By seed and by stage, what was found of a model; `before` keeps, by seed, what the reference held."""
    asked, model, numbers = stages[0].asked, stages[0].weights.shape, stages[0].weights.numbers
    same = jax.tree.all(jax.tree.map(np.array_equal, params, untouched))
    prompts, groups, validation = prompts_of(asked), groups_of(asked), validation_of(asked)
    whole = finite_runs(params)
    if not whole.any():
        raise DivergedError("there is nothing to measure: every seed of the model diverged while it was trained")

    def of_seed(place: int) -> list[Any]:
        seed, start = numbers[place], one_seed(untouched, place)
        own = start if same else one_seed(params, place)
        seen = subject(model, asked, own, start, prompts, seed, groups, before.get(place), validation)
        before[place] = seen.before
        return [stage.of_seed(seen, seed) for stage in stages]

    return of_each(of_seed, np.flatnonzero(whole).tolist())


@dataclass(frozen=True)
class Measure(Measured):
    """TABLE of one of `analysis.suite.MEASUREMENTS`, and SAMPLES with the values of single prompts."""

    measurement: str
    settings: Mapping[str, Any]
    """What it is given"""

    name: ClassVar[str] = "measure"

    @property
    def label(self) -> str:
        return self.measurement

    @property
    def rows(self) -> tuple[str, ...]:
        module = MEASUREMENTS[self.measurement].measure.__module__
        return (module, *edits.modules(self.measurement), *super().rows)

    def of_seed(self, subject: Subject, seed: int) -> tuple[pd.DataFrame, pa.Table]:
        results = MEASUREMENTS[self.measurement].measure(subject, *self.settings.values())
        table = pd.DataFrame(rows(results))
        step = pd.Series(self.step, table.index, "Int32")
        return table.assign(seed=seed, step=step), _samples_table(results, seed)

    def write(self, folder: Path, found: Sequence[tuple[pd.DataFrame, pa.Table]]) -> None:
        tables, samples = zip(*found, strict=True)
        pd.concat(tables, ignore_index=True).to_parquet(folder / TABLE, index=False)
        if self.step is None:
            pq.write_table(pa.concat_tables(samples), folder / SAMPLES)


def prompts_of(asked: Asked) -> dict[str, Prompts]:
    """The prompts that are measured, by family."""
    return together(asked.source, asked.families, asked.prompts)


def validation_of(asked: Asked) -> dict[str, Prompts]:
    """Safe and unsafe prompts that whatever is fitted is so on."""
    return together(asked.source, ("safe", "unsafe"), asked.validation, VALIDATION)


def groups_of(asked: Asked) -> dict[str, np.ndarray]:
    """[N, groups] bool, by family: the groups of the source that each of these prompts belongs to."""
    source = asked.source
    return {family: source.groups(drawn(source, family, asked.prompts)[0]) for family in asked.families}


def subject(
    model: ModelConfig,
    asked: Asked,
    params: Params,
    reference: Params,
    prompts: Mapping[str, Prompts],
    seed: int,
    groups: Mapping[str, np.ndarray] = MappingProxyType({}),
    before: SeenBefore | None = None,
    validation: Mapping[str, Prompts] = MappingProxyType({}),
) -> Subject:
    """One model of one seed, having seen all prompts; `groups` is `groups_of` these prompts, and `before`, if known,
    what `observe_last` saw with the weights `reference`."""

    def seen_of(given: Mapping[str, Prompts], count: int, side: int) -> dict[str, Observation]:
        found = {}
        for family, batch in given.items():
            judging = partial(asked.source.judge, drawn(asked.source, family, count, side)[0])
            found[family] = observe(model, params, batch, asked.window, judging)
        return found

    fitted_on = seen_of(validation, asked.validation, VALIDATION)
    seen = seen_of(prompts, asked.prompts, TEST)
    most = asked.prompts_before
    if before is None:
        before = (
            {family: {site: acts[:most] for site, acts in of.last.items()} for family, of in seen.items()}
            if params is reference
            else observe_last(model, reference, prompts, most)
        )
    key = fold(jax.random.key(0), "measure", seed)

    def draw(families: Iterable[str], count: int, side: int) -> dict[str, Drawn]:
        batches = together(asked.source, families, count, side)
        cells = {family: asked.source.cells(drawn(asked.source, family, count, side)[0]) for family in batches}
        return {family: Drawn(batch, cells[family]) for family, batch in batches.items()}

    return Subject(model, params, reference, prompts, seen, before, key, groups, fitted_on, draw)


def _samples_table(results: list[Result], seed: int) -> pa.Table:
    """One row per prompt of each of the samples."""
    samples = [result for result in results if isinstance(result, Samples)]
    sizes = [len(sample.values) for sample in samples]
    which = pa.array(np.repeat(np.arange(len(samples)), sizes))

    def label(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([getattr(sample, name) for sample in samples], kind).dictionary_encode().take(which)

    def joined(arrays: list[np.ndarray], kind: Any) -> pa.Array:
        return pa.array(np.concatenate([np.zeros(0, kind), *(array.astype(kind) for array in arrays)]))

    return pa.table(
        {
            "seed": pa.array(np.full(len(which), seed, np.int32)),
            "family": label("family", pa.string()),
            "prompt": joined([np.arange(size) for size in sizes], np.int32),
            "metric": label("metric", pa.string()),
            "layer": label("layer", pa.int16()),
            "module": label("module", pa.string()),
            "index": label("index", pa.int32()),
            "position": label("position", pa.int16()),
            "intervention": label("intervention", pa.string()),
            "strength": label("strength", pa.float64()),
            "other": label("other", pa.string()),
            "value": joined([np.asarray(sample.values) for sample in samples], np.float32),
        }
    )
