"""The models before any training: their random weights, which pretraining starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax

from experiments.stages import files
from experiments.stages.stage import Work
from experiments.stages.weights import ModelStage
from models.training.loop import seed_keys
from models.transformer import ModelConfig, Params, init
from models.weights import to_safetensors
from synth.keys import fold
from synth.world import WorldConfig, build_world


@dataclass(frozen=True)
class Fresh(ModelStage):
    """Models that begin in `world`, seeds `first_seed`, `first_seed` + 1, ..."""

    world: WorldConfig
    """Without what pretraining does not depend on (`synth.world.without_safety`)"""
    model: ModelConfig
    seeds: int
    first_seed: int

    @property
    def shape(self) -> ModelConfig:
        return self.model

    @property
    def numbers(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def keys(self) -> jax.Array:
        """Of each seed [seeds], all that is random in its pretraining."""
        return seed_keys(fold(jax.random.key(0), "pretrain"), self.seeds, self.first_seed)

    def weights(self) -> Params:
        """Random weights, with a leading axis of seeds."""
        vocabulary = build_world(self.world).vocab.size
        params: Params = jax.vmap(lambda key: init(self.model, vocabulary, fold(key, "init")))(self.keys)
        return params


@dataclass(frozen=True)
class Initial(Fresh):
    """Their weights, as the training stages keep theirs."""

    name: ClassVar[str] = "initial"

    @classmethod
    def make(cls, stages: Sequence["Initial"], folders: Sequence[Path], work: Work) -> None:
        for stage, folder in zip(stages, folders, strict=True):
            content = to_safetensors(stage.weights(), files.described(stage.model, stage.world))
            (folder / files.WEIGHTS).write_bytes(content)
