"""A study's settings: dataclasses behind the YAML of `conf/`, checked before any work."""

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from typing import Any

from analysis.edits.mixtures import PathsConfig
from analysis.suite import MEASUREMENTS, AnalysisConfig
from experiments.settings.plain import flat
from models.training.methods import CONTROLS, METHODS, SAFETY
from models.training.pretraining import PretrainConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig
from synth.lookup import existing, sampler, size
from synth.settings import naming, require, require_known, require_name, require_positive
from synth.world import WorldConfig, build_world


def method_settings() -> Any:
    """The coefficients of every method that is in the registry now, one field each."""
    return _method_settings(tuple((name, method.hyper) for name, method in METHODS.items()))()


@functools.cache
def _method_settings(kinds: tuple[tuple[str, type], ...]) -> Any:
    fields = [(name, kind, field(default_factory=kind)) for name, kind in kinds]
    return dataclasses.make_dataclass("MethodSettings", fields, unsafe_hash=True)


@dataclass(unsafe_hash=True)
class AblationConfig:
    """What a study is repeated over: values of one setting, or named points of several."""

    name: str = ""
    """Of the output folder; empty for a study that is not repeated."""
    question: str = ""
    """What the study is to answer."""
    setting: str = ""
    """The setting whose `values` are tried, by its full name."""
    values: tuple[Any, ...] = ()
    points: dict[str, Any] = field(default_factory=dict, hash=False)
    """In place of setting and values: by name, a dictionary of settings and their values."""

    def __post_init__(self) -> None:
        self.values = tuple(self.values)
        require_name("name", self.name)
        swept = bool(self.points) + bool(self.setting or self.values)
        require(
            bool(swept) == bool(self.name),
            "name",
            repr(self.name),
            "must be given where there are values or points, and only there",
            "name what is swept, for example ablation.name=noise",
        )
        require(swept < 2, "points", list(self.points), "stand in place of setting and values", "leave one of the two")
        require(
            bool(self.setting) == bool(self.values),
            "setting",
            repr(self.setting),
            f"goes with values, which are {list(self.values)}",
            "for example setting: tuning.data.label_noise, values: [0, 0.1]",
        )
        names = list(map(str, self.values))
        twice = any(value in self.values[:i] for i, value in enumerate(self.values))
        require(not twice, "values", names, "must not repeat a value", "give each once")
        for name, point in self.points.items():
            require(
                isinstance(point, dict) and len(point) > 0,
                f"points.{name}",
                point,
                "must be a dictionary of settings and their values",
                "for example {world.safety.rule: any}",
            )

    def cells(self) -> dict[str, dict[str, Any]]:
        """By the name of each cell, its settings; one without a name where nothing is swept."""
        if self.points:
            return {str(name): dict(point) for name, point in self.points.items()}
        return {str(value): {self.setting: value} for value in self.values} or {"": {}}


@dataclass(unsafe_hash=True)
class LauncherConfig:
    """Where a study's work is done."""

    name: str = "local"
    """"local" for this process, or the name of one of Hydra's launchers: joblib, submitit_local,
    submitit_slurm, ray."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Settings of that launcher, as its documentation names them."""

    def __post_init__(self) -> None:
        for name in _names(self.options):
            require(not name.startswith("_"), f"options.{name}", "...", "is no setting of a launcher", "leave it out")


def _names(node: Any) -> list[str]:
    """The names in nested dictionaries and lists."""
    if isinstance(node, dict):
        return [*map(str, node), *(name for child in node.values() for name in _names(child))]
    return [name for child in node for name in _names(child)] if isinstance(node, list | tuple) else []


SIDE_SETTINGS = ("output_dir", "store_dir", "checkpoint_seconds", "runs_at_once", "dry_run", "launcher")
"""Settings of a study that change no result, beyond rounding."""


@dataclass(unsafe_hash=True)
class StudyConfig:
    """Everything a study depends on; two studies with equal settings have equal results."""

    study: str = "quick"
    seeds: int = 3
    """How many models are trained side by side in each world, seeds first_seed, first_seed + 1, ..."""
    worlds: int = 1
    """How many worlds, with `world.seed`, `world.seed` + 1, ...; each has seeds of its own, numbered on from
    those of the world before."""
    first_seed: int = 0
    random_model: bool = True
    """Whether the models are also measured as they are before any training."""
    methods: tuple[str, ...] = (*SAFETY, *CONTROLS)
    """What pretrained models are tuned by."""
    attacks: tuple[str, ...] = ()
    """Methods by which each of those tuned models is then tuned on, in models called START+METHOD."""
    nodes: dict[str, Any] = field(default_factory=dict, hash=False)
    """Further tuned models, by name {start, method}: a model to start from (untouched if not given) and a method. Of
    their own may be any setting of `tuning` and of the method, by full name, and a `reference`, untouched or another
    node, to measure changes from that model and not from the start."""
    output_dir: str = "outputs"
    store_dir: str = "store"
    checkpoint_seconds: float = 20.0
    """Time between saved training states."""
    runs_at_once: int | None = None
    """Models trained side by side; null is as many as half of the memory holds."""
    dry_run: bool = False
    """Whether to print what would be made, and stop."""
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    method: Any = field(default_factory=method_settings)
    """The coefficients of each method, `method_settings`."""
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    over_training: tuple[str, ...] = ("behaviour", "clusters", "separability", "nullspace")
    """Measurements made of every one of `tuning.snapshots`; by default there are none of these."""
    papers: tuple[str, ...] = ("jain2024",)
    """Papers whose claims are judged, each apart from the others; none if empty. Nothing is made anew for another."""

    def __post_init__(self) -> None:
        for name in ("methods", "attacks", "over_training", "papers"):
            setattr(self, name, tuple(getattr(self, name)))
        require_positive(self, "seeds", "worlds")
        last = 2**31 - 1
        require(
            0 <= self.first_seed <= last - self.seeds * self.worlds,
            "first_seed",
            self.first_seed,
            f"must be 0 or more, and the last seed at most {last}",
            "set 0",
        )
        require(
            self.world.seed + self.worlds <= 2**32,
            "worlds",
            self.worlds,
            f"the last world's seed, from world.seed={self.world.seed} on, must be at most 2^32 - 1",
            "lower world.seed",
        )
        require_name("study", self.study)
        pause = self.checkpoint_seconds
        require(0 <= pause < math.inf, "checkpoint_seconds", pause, "must be 0 or more", "set 20")
        require(bool(self.methods or self.nodes), "methods", "[]", "must name at least one method", "methods=[sft]")
        own = dataclasses.is_dataclass(self.method)
        require(own, "method", self.method, "must be coefficients of methods", "for example method.dpo.beta=0.1")
        for setting in ("methods", "attacks"):
            named = getattr(self, setting)
            for name in named:
                require_known(setting, name, METHODS)
            require(len(set(named)) == len(named), setting, list(named), "must not repeat a method", "name each once")
        # Settings of a node's own may be nested too, as nodes.x.tuning.steps=5 makes them.
        self.nodes = {name: flat(node) if isinstance(node, dict) else node for name, node in self.nodes.items()}
        for name, node in self.nodes.items():
            with naming("nodes"):
                require_name("name", name)
                require(bool(name), "name", "''", "must not be empty", "name the model")
                require(
                    isinstance(node, dict) and isinstance(node.get("start", ""), str),
                    name,
                    node,
                    "must be a dictionary of a start, a method, and settings of its own",
                    "for example {start: sft, method: continued, tuning.steps: 100}",
                )
                with naming(name):
                    require_known("method", node.get("method"), METHODS)
        for name in self.over_training:
            require_known("over_training", name, MEASUREMENTS)
        if self.runs_at_once is not None:
            require_positive(self, "runs_at_once")
        with naming("world"):
            world = build_world(self.world)
            for name in self.analysis.families or ("safe", "unsafe"):
                sampler(world, name)
            longest = size(world, self.analysis.families or ()).whole
        if self.analysis.families is None:
            with naming("analysis"):
                self.analysis.check_among(existing(world), "the families that the world has")
        require(
            longest <= self.model.context,
            "model.context",
            self.model.context,
            f"must hold the world's longest sequence, {longest} tokens",
            f"set model.context to {longest} or shorten the text (world.text, world.grammar)",
        )
        # The response's shortest length, its EOS apart, and the position that predicts its start.
        shortest = world.text_lengths[0]
        require(
            self.analysis.clusters.window <= shortest + 1,
            "analysis.clusters.window",
            self.analysis.clusters.window,
            f"must be at most {shortest + 1}, the positions the shortest response has",
            "lower it or lengthen the text (world.text, world.grammar)",
        )
        positions = self.analysis.directions.positions
        require(
            all(-shortest <= position <= shortest for position in positions),
            "analysis.directions.positions",
            list(positions),
            f"must be from {-shortest} to {shortest}, in the shortest text and its response",
            "set [-1,0,1] or lengthen the text (world.text, world.grammar)",
        )
