"""A study's settings: dataclasses behind the YAML of `conf/`, checked before any work."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from analysis.suite import AnalysisConfig
from models.training.objectives import METHODS
from models.training.pretraining import PretrainConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig
from synth.prompts import check_family
from synth.settings import SettingError, require, require_positive
from synth.world import WorldConfig

MethodSettings: Any = dataclasses.make_dataclass(
    "MethodSettings",
    [(name, method.hyper, field(default_factory=method.hyper)) for name, method in METHODS.items()],
    unsafe_hash=True,
)
"""The coefficients of every method in the registry, one field each."""


@dataclass(unsafe_hash=True)
class StudyConfig:
    """Everything a study depends on; two studies with equal settings have equal results."""

    study: str = "quick"
    seeds: int = 3
    """How many models are trained side by side, seeds 0, 1, ..."""
    methods: tuple[str, ...] = tuple(METHODS)
    output_dir: str = "outputs"
    store_dir: str = "store"
    checkpoint_seconds: float = 20.0
    """Time between saved training states; changes no result."""
    world: WorldConfig = field(default_factory=WorldConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    method: MethodSettings = field(default_factory=MethodSettings)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)

    def __post_init__(self) -> None:
        self.methods = tuple(self.methods)
        require_positive(self, "seeds")
        require(
            self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "must be 0 or more", "set 20"
        )
        require(len(self.methods) >= 1, "methods", "[]", "must name at least one method", "methods=[sft]")
        for name in self.methods:
            require(name in METHODS, "methods", name, f"must be among {', '.join(METHODS)}", "choose from these")
        require(
            len(set(self.methods)) == len(self.methods),
            "methods",
            list(self.methods),
            "must not repeat a method",
            "name each once",
        )
        longest = self.world.sequence_length
        require(
            longest <= self.model.context,
            "model.context",
            self.model.context,
            f"must hold the world's longest sequence, {longest} tokens",
            f"set model.context to {longest} or shorten the text (world.grammar)",
        )
        # The response's shortest length, its EOS apart, and the position that predicts its start.
        positions = self.world.grammar.text_lengths()[0] + 1
        require(
            self.analysis.clusters.window <= positions,
            "analysis.clusters.window",
            self.analysis.clusters.window,
            f"must be at most {positions}, the positions the shortest response has",
            "lower it or lengthen the text (world.grammar)",
        )
        try:
            for family in self.analysis.families:
                check_family(self.world, family)
        except SettingError as error:
            raise error.within("world") from None
