"""Safety tuning: each pretrained seed tuned by one method."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pandas as pd

from experiments.provenance import code_version
from experiments.stages import files
from experiments.artifacts import Artifact, Recipe, Store
from experiments.training import Runner, train
from models.training import tuning
from models.training.loop import across, seed_keys
from models.training.objectives import METHODS
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig
from synth import tuning_data
from synth.families import existing
from synth.keys import fold
from synth.world import WorldConfig, build_world

DATA_TABLE = "data.parquet"
"""About the prompts that were trained on: the share that came more than once, a row a seed."""


def recipe(settings: dict[str, object], pretrained: Recipe) -> Recipe:
    """`settings`: tuning, method, its coefficients and what is about safety in the world, as plain dictionaries."""
    return Recipe("tune", settings, (pretrained.key,), code_version(__name__))


def run(
    store: Store,
    recipe: Recipe,
    runner: Runner,
    world: WorldConfig,
    model: ModelConfig,
    config: TuningConfig,
    method: str,
    coefficients: Any,
    pretrained: Artifact,
) -> Artifact:
    """The tuned weights, what was seen on the way, and DATA_TABLE."""

    def make(folder: Path, partial: Path) -> None:
        objective = METHODS[method].objective
        program = tuning.program(objective, config.batch_size, config.optimizer, model, world)
        reference = jax.tree.map(jnp.asarray, files.load_weights(pretrained))
        seeds = reference["W_E"].shape[0]
        # All methods draw from the same keys: those with one unsafe share see the same prompts.
        keys = seed_keys(fold(jax.random.key(0), "tune"), seeds)
        schedule = across([tuning.schedule(config, method, coefficients)], seeds)
        name, families = f"tune {method}", existing(build_world(world))
        watch = files.watch(runner.reporter, name, config.watch, world, model, families)
        trained = train(runner, name, program, schedule, reference, reference, keys, partial, watch)
        files.save_training(folder, trained, files.described(model, world), config.watch.every, families)
        seen = jax.tree.map(jnp.asarray, tuning.data(config, method))
        counts = [tuning_data.repeats(build_world(world), seen, key, config.steps, config.batch_size) for key in keys]
        rows = pd.DataFrame(counts, columns=["value", "n"]).assign(metric="repeats", family="tuning", seed=range(seeds))
        rows.to_parquet(folder / DATA_TABLE, index=False)

    return store.fetch(recipe, make)
