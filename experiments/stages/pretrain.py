"""Pretraining: one model a seed, from random weights to complying with every prompt."""

from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.provenance import code_version
from experiments.stages import files
from experiments.store import Artifact, Recipe, Store
from experiments.training import Runner, train
from models.training import pretraining
from models.training.loop import Schedule, seed_keys
from models.training.pretraining import PretrainConfig
from models.transformer import ModelConfig, init
from synth.families import check_division
from synth.keys import fold
from synth.settings import naming
from synth.world import WorldConfig, build_world


def recipe(settings: dict[str, object]) -> Recipe:
    """`settings`: world without what is about safety, model, pretrain and seeds as plain dictionaries."""
    return Recipe("pretrain", settings, (), code_version(__name__))


def run(
    store: Store,
    recipe: Recipe,
    runner: Runner,
    world: WorldConfig,
    model: ModelConfig,
    config: PretrainConfig,
    seeds: int,
) -> Artifact:
    """The pretrained weights and the log of each step."""

    def make(folder: Path, partial: Path) -> None:
        with naming("world"):
            check_division(build_world(world))
        program = pretraining.program(config, model, world)
        keys = seed_keys(fold(jax.random.key(0), "pretrain"), seeds)
        vocabulary = build_world(world).vocab.size
        params = jax.vmap(lambda key: init(model, vocabulary, fold(key, "init")))(keys)
        schedule = Schedule(jnp.int32(config.steps), jnp.float32(config.learning_rate), None)
        trained = train(runner, "pretrain", program, schedule, params, {}, keys, partial)
        files.save_training(folder, trained)

    return store.fetch(recipe, make)
