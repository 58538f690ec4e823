"""Measuring: what one model does on held-out prompts of each family, and where it changed."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from analysis import suite
from analysis.observe import Observation, observe
from analysis.rows import Subject
from analysis.suite import AnalysisConfig
from experiments.provenance import code_version
from experiments.stages import files
from experiments.store import Artifact, Recipe, Store
from models.transformer import ModelConfig, Params
from models.weights import one_seed
from synth import sequences
from synth.families import existing, sample_batch
from synth.keys import fold
from synth.prompts import HELD_OUT
from synth.world import World, WorldConfig, build_world

TABLE = "rows.parquet"


def recipe(settings: dict[str, object], model: Recipe, reference: Recipe) -> Recipe:
    """`settings`: analysis and what is about safety in the world, as plain dictionaries."""
    return Recipe("measure", settings, (model.key, reference.key), code_version(__name__))


def run(
    store: Store,
    recipe: Recipe,
    world: WorldConfig,
    model: ModelConfig,
    config: AnalysisConfig,
    weights: Artifact,
    reference: Artifact,
) -> Artifact:
    """The table of every measurement of every seed."""

    def make(folder: Path, partial: Path) -> None:
        tables = build_world(world)
        params, untouched = files.load_weights(weights), files.load_weights(reference)
        families = config.families or existing(tables)
        seen = {family: _observe(tables, model, config, params, family) for family in families}
        frames = []
        for seed in range(params["W_E"].shape[0]):
            subject = Subject(
                params=one_seed(params, seed),
                reference=one_seed(untouched, seed),
                observations={family: seen[family][seed] for family in seen},
                key=fold(jax.random.key(0), "measure", seed),
            )
            frames.append(pd.DataFrame(suite.measure(config, subject)).assign(seed=seed))
        table = pd.concat(frames, ignore_index=True)
        table.astype({"layer": "Int16", "index": "Int32"}).to_parquet(folder / TABLE, index=False)

    return store.fetch(recipe, make)


def _observe(
    world: World, model: ModelConfig, config: AnalysisConfig, params: Params, family: str
) -> list[Observation]:
    """Each seed on the same held-out prompts of a family, as NumPy arrays."""
    key = fold(jax.random.key(world.config.seed), "evaluation", family)
    prompts = sample_batch(world, family, HELD_OUT, key, config.prompts)
    complying, refusing = sequences.both(world, prompts)
    one = partial(observe, model, complying=complying, refusing=refusing, window=config.clusters.window)
    seeds = range(params["W_E"].shape[0])
    return [jax.tree.map(np.asarray, one(params=one_seed(params, seed))) for seed in seeds]
