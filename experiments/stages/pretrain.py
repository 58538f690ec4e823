"""Pretraining: one model a seed, from random weights to complying with every prompt."""

from pathlib import Path

from experiments.artifacts import Artifact, Recipe, Store
from experiments.provenance import code_version
from experiments.stages import files, initial
from experiments.training import Runner, train
from models.training import pretraining
from models.training.loop import across
from models.training.pretraining import PretrainConfig
from models.transformer import ModelConfig
from synth.families import PRETRAINING
from synth.world import WorldConfig


def recipe(settings: dict[str, object]) -> Recipe:
    """`settings`: world without what is about safety, model, pretrain, seeds and first_seed as plain dictionaries."""
    return Recipe("pretrain", settings, (), code_version(__name__))


def run(
    store: Store,
    recipe: Recipe,
    runner: Runner,
    world: WorldConfig,
    model: ModelConfig,
    config: PretrainConfig,
    seeds: int,
    first_seed: int,
) -> Artifact:
    """The pretrained weights of seeds `first_seed`, `first_seed` + 1, ... and what was seen on the way."""

    def make(folder: Path, partial: Path) -> None:
        program = pretraining.program(config, model, world)
        keys = initial.keys(seeds, first_seed)
        params = initial.weights(world, model, keys)
        schedule = across([pretraining.schedule(config, world)], seeds)
        runs = [f"seed {seed}" for seed in range(first_seed, first_seed + seeds)]
        watch = files.watch(runner.reporter, "pretrain", config.watch, world, model, [PRETRAINING], runs)
        trained = train(runner, "pretrain", program, schedule, params, params, keys, partial, watch, runs)
        described = files.described(model, world)
        files.save_training(folder, trained, described, config.watch.every, [PRETRAINING], first_seed)

    return store.fetch(recipe, make)
