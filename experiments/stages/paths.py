"""Comparing tuned models: what lies between their weights, and what the change of one does to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pandas as pd

from analysis import paths
from analysis.edits import lookup as edits
from analysis.edits.mixtures import PathsConfig
from analysis.rows import rows
from experiments.stages import files
from experiments.stages.prompts import together
from experiments.stages.runs import DivergedError, finite_runs
from experiments.stages.side_by_side import of_each
from experiments.stages.stage import Stage, Work
from experiments.stages.tune import Tune
from experiments.stages.weights import ModelStage
from models.weights import one_seed
from synth.keys import fold
from synth.source import Source

TABLE = "rows.parquet"


@dataclass(frozen=True)
class Paths(Stage):
    """TABLE of every seed of which no model has diverged; columns `node`, `method` and `learning_rate` say of
    which one a path starts.

    Raises DivergedError if there is none.
    """

    source: Source
    families: tuple[str, ...]
    paths: PathsConfig
    models: Mapping[str, Tune]
    """By node"""
    controls: tuple[str, ...]
    """Those of them that are controls, which are not compared with one another"""
    reference: ModelStage

    name: ClassVar[str] = "paths"

    @property
    def rows(self) -> tuple[str, ...]:
        return (*self.source.modules(self.families), *edits.modules(self.name))

    @classmethod
    def make(cls, stages: Sequence["Paths"], folders: Sequence[Path], work: Work) -> None:
        for stage, folder in zip(stages, folders, strict=True):
            stage._make(folder, work)

    def _make(self, folder: Path, work: Work) -> None:
        stacks = {node: files.load_weights(work.store.get(one.recipe)) for node, one in self.models.items()}
        untouched = files.load_weights(work.store.get(self.reference.recipe))
        whole = np.all([finite_runs(stack) for stack in [untouched, *stacks.values()]], axis=0)
        if not whole.any():
            raise DivergedError("there is nothing to compare: in every seed the training of some model diverged")
        prompts = together(self.source, self.families, self.paths.prompts)
        numbers = self.reference.numbers

        def of_seed(place: int) -> pd.DataFrame:
            models = {node: one_seed(stack, place) for node, stack in stacks.items()}
            before = one_seed(untouched, place)
            key = fold(jax.random.key(0), "paths", numbers[place])
            found = paths.measure(self.reference.shape, models, before, prompts, self.paths, key, self.controls)
            own: dict[str, dict[str, Any]] = {
                node: {"node": node, "method": of.method, "learning_rate": of.tuning.learning_rate}
                for node, of in self.models.items()
            }
            return pd.concat(
                pd.DataFrame(rows(results)).assign(seed=numbers[place], **own[node]) for node, results in found.items()
            )

        frames = of_each(of_seed, np.flatnonzero(whole).tolist())
        pd.concat(frames, ignore_index=True).to_parquet(folder / TABLE, index=False)
