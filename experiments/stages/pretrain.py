"""Pretraining: one model per seed, from random weights to complying with every prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from experiments.stages import files
from experiments.stages.initial import Fresh
from experiments.stages.stage import Work
from experiments.stages.training import train
from models.training import pretraining
from models.training.loop import across
from models.training.pretraining import PretrainConfig
from synth import sequences
from synth.lookup import modules


@dataclass(frozen=True)
class Pretrain(Fresh):
    """The pretrained weights, and what was seen on the way."""

    pretrain: PretrainConfig

    name: ClassVar[str] = "pretrain"
    watched: ClassVar[tuple[str, ...]] = ("pretraining",)
    """The families that are looked at on the way"""

    @property
    def rows(self) -> tuple[str, ...]:
        return (*modules(self.watched), *sequences.modules(self.world))

    @classmethod
    def make(cls, stages: Sequence["Pretrain"], folders: Sequence[Path], work: Work) -> None:
        for stage, folder in zip(stages, folders, strict=True):
            world, config, params = stage.world, stage.pretrain, stage.weights()
            program = pretraining.program(config, stage.model, world)
            schedule = across([pretraining.schedule(config, world)], stage.seeds)
            runs = [f"seed {seed}" for seed in stage.numbers]
            seen = files.watch(work.runner.reporter, cls.name, config.watch, world, stage.model, cls.watched, runs)
            trained = train(
                work.runner, cls.name, program, schedule, params, params, stage.keys, work.partial, seen, runs
            )
            described = files.described(stage.model, world)
            files.save_training(folder, trained, described, config.watch.every, cls.watched, stage.first_seed)
