"""Measuring on the way: what snapshots of tuning do, by the measurements of the finished model."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import pandas as pd

from analysis import suite
from analysis.observe import observe_last
from analysis.rows import Row, rows
from analysis.suite import AnalysisConfig
from experiments.artifacts import Artifact, Recipe, Store
from experiments.provenance import code_version
from experiments.stages import files
from experiments.stages.measure import groups_of, prompts_of, subject
from experiments.stages.seeds import of_each
from experiments.training import DivergedError, finite_runs
from models.transformer import ModelConfig
from models.weights import one_seed
from synth.world import WorldConfig

TABLE = "rows.parquet"


def recipe(settings: dict[str, object], tuned: Recipe, reference: Recipe) -> Recipe:
    """`settings`: analysis, over_training and what is about safety in the world, as plain dictionaries."""
    return Recipe("over_training", settings, (tuned.key, reference.key), code_version(__name__))


def run(
    store: Store,
    recipe: Recipe,
    world: WorldConfig,
    model: ModelConfig,
    config: AnalysisConfig,
    measurements: tuple[str, ...],
    steps: tuple[int, ...],
    tuned: Artifact,
    reference: Artifact,
    first_seed: int,
) -> Artifact:
    """TABLE of `measurements` of the snapshots after `steps`, `variant` being "step N" and what a row had there.

    Every seed that had not diverged; its random controls are those of the finished model. `first_seed` is the
    number of the first. Raises DivergedError if
    none is left at the first of them.
    """

    def make(folder: Path, partial: Path) -> None:
        untouched = files.load_weights(reference)
        snapshots = {step: files.load_weights(tuned, files.snapshot(step)) for step in steps}
        whole = {step: finite_runs(params) for step, params in snapshots.items()}
        if not any(finite.any() for finite in whole.values()):
            raise DivergedError("there is nothing to measure: every seed had diverged before the first snapshot")
        prompts, groups = prompts_of(world, config), groups_of(world, config)

        def of_seed(place: int) -> list[pd.DataFrame]:
            start, frames, seed = one_seed(untouched, place), [], first_seed + place
            before = observe_last(model, start, prompts, config.prompts_before)
            for step in steps:
                if whole[step][place]:
                    own = one_seed(snapshots[step], place)
                    seen = subject(model, config, own, start, prompts, seed, before, groups)
                    found = [_at(step, row) for row in rows(suite.measure(config, seen, measurements))]
                    frames.append(pd.DataFrame(found).assign(seed=seed))
            return frames

        frames = list(chain.from_iterable(of_each(of_seed, range(len(whole[steps[0]])))))
        pd.concat(frames, ignore_index=True).to_parquet(folder / TABLE, index=False)

    return store.fetch(recipe, make)


def _at(step: int, row: Row) -> Row:
    return replace(row, variant=f"step {step} {row.variant}" if row.variant else f"step {step}")
