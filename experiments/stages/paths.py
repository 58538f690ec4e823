"""Comparing tuned models: what lies between their weights, and what the change of one does to another."""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis import paths
from analysis.paths import PathsConfig
from analysis.rows import rows
from experiments.artifacts import Artifact, Recipe, Store
from experiments.provenance import code_version
from experiments.stages import files
from experiments.stages.prompts import held_out
from experiments.stages.seeds import of_each
from experiments.training import DivergedError, finite_runs
from models.transformer import ModelConfig
from models.weights import one_seed
from synth.world import WorldConfig

TABLE = "rows.parquet"


def recipe(settings: dict[str, object], models: dict[str, Recipe], reference: Recipe) -> Recipe:
    """`settings`: families, paths and what is about safety in the world, as plain dictionaries."""
    parents = (*(model.key for model in models.values()), reference.key)
    return Recipe("paths", {**settings, "models": list(models)}, parents, code_version(__name__))


def run(
    store: Store,
    recipe: Recipe,
    world: WorldConfig,
    model: ModelConfig,
    config: PathsConfig,
    families: tuple[str, ...],
    tuned: dict[str, Artifact],
    reference: Artifact,
    first_seed: int,
) -> Artifact:
    """TABLE of every seed of which no model has diverged, with a column `method`: the model that a path starts from.

    `first_seed` is the number of the first seed. Raises DivergedError if there is none.
    """

    def make(folder: Path, partial: Path) -> None:
        stacks = {method: files.load_weights(artifact) for method, artifact in tuned.items()}
        untouched = files.load_weights(reference)
        whole = np.all([finite_runs(stack) for stack in [untouched, *stacks.values()]], axis=0)
        if not whole.any():
            raise DivergedError("there is nothing to compare: in every seed the training of some model diverged")
        prompts = {family: held_out(world, family, config.prompts) for family in families}

        def of_seed(place: int) -> pd.DataFrame:
            models = {method: one_seed(stack, place) for method, stack in stacks.items()}
            found = paths.measure(model, models, one_seed(untouched, place), prompts, config)
            return pd.concat(
                pd.DataFrame(rows(results)).assign(seed=first_seed + place, method=method)
                for method, results in found.items()
            )

        frames = of_each(of_seed, np.flatnonzero(whole).tolist())
        pd.concat(frames, ignore_index=True).to_parquet(folder / TABLE, index=False)

    return store.fetch(recipe, make)
