"""Pretraining: one model a seed, from random weights to complying with every prompt."""

from pathlib import Path

import jax

from experiments.artifacts import Artifact, Recipe, Store
from experiments.provenance import code_version
from experiments.stages import files
from experiments.training import Runner, train
from models.training import pretraining
from models.training.loop import Schedule, across, seed_keys
from models.training.pretraining import PretrainConfig
from models.transformer import ModelConfig, init
from synth.families import PRETRAINING
from synth.keys import fold
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
    """The pretrained weights and what was seen on the way."""

    def make(folder: Path, partial: Path) -> None:
        program = pretraining.program(config, model, world)
        keys = seed_keys(fold(jax.random.key(0), "pretrain"), seeds)
        vocabulary = build_world(world).vocab.size
        params = jax.vmap(lambda key: init(model, vocabulary, fold(key, "init")))(keys)
        schedule = across([Schedule(config.steps, config.learning_rate, None)], seeds)
        runs = [f"seed {seed}" for seed in range(seeds)]
        watch = files.watch(runner.reporter, "pretrain", config.watch, world, model, [PRETRAINING], runs)
        trained = train(runner, "pretrain", program, schedule, params, params, keys, partial, watch, runs)
        files.save_training(folder, trained, files.described(model, world), config.watch.every, [PRETRAINING])

    return store.fetch(recipe, make)
