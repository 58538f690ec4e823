"""The models before any training: their random weights, which pretraining starts from."""

from pathlib import Path

import jax

from experiments.artifacts import Artifact, Recipe, Store
from experiments.provenance import code_version
from experiments.stages import files
from models.training.loop import seed_keys
from models.transformer import ModelConfig, Params, init
from models.weights import to_safetensors
from synth.keys import fold
from synth.world import WorldConfig, build_world


def recipe(settings: dict[str, object]) -> Recipe:
    """`settings`: world without what is about safety, model, seeds and first_seed as plain dictionaries."""
    return Recipe("initial", settings, (), code_version(__name__))


def run(store: Store, recipe: Recipe, world: WorldConfig, model: ModelConfig, seeds: int, first_seed: int) -> Artifact:
    """The weights of seeds `first_seed`, `first_seed` + 1, ... as the training stages keep theirs."""

    def make(folder: Path, partial: Path) -> None:
        params = weights(world, model, keys(seeds, first_seed))
        (folder / files.WEIGHTS).write_bytes(to_safetensors(params, files.described(model, world)))

    return store.fetch(recipe, make)


def keys(seeds: int, first_seed: int) -> jax.Array:
    """Of each seed [seeds], all that is random in its pretraining."""
    return seed_keys(fold(jax.random.key(0), "pretrain"), seeds, first_seed)


def weights(world: WorldConfig, model: ModelConfig, keys: jax.Array) -> Params:
    """Random weights for each of `keys` [seeds], with a leading axis of seeds."""
    vocabulary = build_world(world).vocab.size
    params: Params = jax.vmap(lambda key: init(model, vocabulary, fold(key, "init")))(keys)
    return params
