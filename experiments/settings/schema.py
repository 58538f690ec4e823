"""A study's settings: dataclasses behind the YAML of `conf/`, checked before any work."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from analysis.edits.mixtures import PathsConfig
from analysis.suite import MEASUREMENTS, AnalysisConfig
from models.training.methods import METHODS
from models.training.pretraining import PretrainConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig
from synth.lookup import existing, sampler, split_name
from synth.settings import naming, require, require_among, require_name, require_positive, require_seed
from synth.world import WorldConfig, build_world


@dataclass(unsafe_hash=True)
class DataConfig:
    """Prompts of a world, to export or to look at."""

    family: Any = ("safe", "unsafe")
    """A family or a list of them, exported one after the other. `FAMILY@PART` is one of what tuning
    leaves out, `pretraining` is what the model sees before tuning."""
    n: int = 1000
    """Prompts of each family."""
    out: str = ""
    """The file to write, .parquet or .jsonl."""
    show: int = 0
    """Prompts of each family to print, beside a description and figures of the world."""
    held_out: bool = False
    """Whether prompts are from the world's held-out share; if not, from what is trained on."""
    seed: int = 0
    output_dir: str = "outputs"
    """Where `show` puts its figures."""
    world: WorldConfig = field(default_factory=WorldConfig)

    def __post_init__(self) -> None:
        self.family = (self.family,) if isinstance(self.family, str) else tuple(self.family)
        require_positive(self, "n", most=2**30)
        require(0 <= self.show <= 100, "show", self.show, "must be from 0 to 100", "set show to 3")
        require_seed(self)
        require(
            not self.out or self.out.endswith((".parquet", ".jsonl")),
            "out",
            self.out,
            "must end in .parquet or .jsonl",
            "for example out=prompts.parquet",
        )
        require(len(self.family) > 0, "family", "[]", "must name at least one family", "family=[safe,unsafe]")
        for name in self.family:
            split_name(name, "family")
        with naming("world"):
            world = build_world(self.world)
            for name in self.family:
                sampler(world, name)


MethodSettings: Any = dataclasses.make_dataclass(
    "MethodSettings",
    [(name, method.hyper, field(default_factory=method.hyper)) for name, method in METHODS.items()],
    unsafe_hash=True,
)
"""The coefficients of every method in the registry, one field each."""
# So that other processes find the class by its name.
MethodSettings.__module__ = __name__


FORMATS = ("huggingface", "safetensors")


@dataclass(unsafe_hash=True)
class ExportConfig:
    """One model of a finished study, for other tools."""

    run: str = ""
    """The study's output folder."""
    to: str = "huggingface"
    """"huggingface" for a folder that `transformers` loads, with a tokenizer; "safetensors" for one file with
    our own names and the model's configuration in its header."""
    out: str = ""
    """The folder, or the .safetensors file, to write."""
    method: str | None = None
    """Which model: a method of the study, or untouched; null is the study's first method."""
    cell: str | None = None
    """Which cell of an ablation; null is the first."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            bool(self.run), "run", "''", "must name a study's output folder", "for example run=outputs/quick-1a2b3c4d"
        )
        require_among(self, "to", FORMATS)
        require(bool(self.out), "out", "''", "must name what to write", "for example out=model")
        require_seed(self)


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
        require_name(self, "name")
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
    methods: tuple[str, ...] = tuple(METHODS)
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
    method: MethodSettings = field(default_factory=MethodSettings)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    over_training: tuple[str, ...] = ("behaviour", "clusters", "separability", "nullspace")
    """Measurements made of every one of `tuning.snapshots`; by default there are none of these."""

    def __post_init__(self) -> None:
        self.methods, self.over_training = tuple(self.methods), tuple(self.over_training)
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
        require_name(self, "study")
        pause = self.checkpoint_seconds
        require(0 <= pause < math.inf, "checkpoint_seconds", pause, "must be 0 or more", "set 20")
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
        for name in self.over_training:
            require(
                name in MEASUREMENTS,
                "over_training",
                list(self.over_training),
                f"{name} is none of {', '.join(MEASUREMENTS)}",
                "choose from these",
            )
        if self.runs_at_once is not None:
            require_positive(self, "runs_at_once")
        with naming("world"):
            world = build_world(self.world)
            for name in self.analysis.families or ("safe", "unsafe"):
                sampler(world, name)
        if self.analysis.families is None:
            with naming("analysis"):
                self.analysis.check_among(existing(world), "the families that the world has")
        longest = world.sequence_length
        require(
            longest <= self.model.context,
            "model.context",
            self.model.context,
            f"must hold the world's longest sequence, {longest} tokens",
            f"set model.context to {longest} or shorten the text (world.text, world.grammar)",
        )
        # The response's shortest length, its EOS apart, and the position that predicts its start.
        positions = world.text_lengths[0] + 1
        require(
            self.analysis.clusters.window <= positions,
            "analysis.clusters.window",
            self.analysis.clusters.window,
            f"must be at most {positions}, the positions the shortest response has",
            "lower it or lengthen the text (world.text, world.grammar)",
        )


STORE_VERBS = ("list", "show", "verify", "prune", "du")


@dataclass(unsafe_hash=True)
class StoreConfig:
    """What lies in a store: to look at, to check, to make room."""

    do: str = "list"
    key: str = ""
    """Only artifacts whose name or key starts so."""
    store_dir: str = "store"
    yes: bool = False
    """prune removes without asking."""

    def __post_init__(self) -> None:
        require_among(self, "do", STORE_VERBS)
        require(
            self.do != "show" or bool(self.key),
            "key",
            "''",
            "must say which artifact, by the start of its name or key",
            "list shows them",
        )


@dataclass(unsafe_hash=True)
class CompareConfig:
    """Two finished studies, side by side."""

    a: str = ""
    b: str = ""
    """The studies' output folders."""
    out: str = ""
    """A file for the numbers, .csv or .json; none if empty."""

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            folder = getattr(self, name)
            require(bool(folder), name, "''", "must name a study's output folder", "for example outputs/quick-1a2b3c4d")
        require(
            not self.out or self.out.endswith((".csv", ".json")),
            "out",
            self.out,
            "must end in .csv or .json",
            "for example out=compared.csv",
        )


@dataclass(unsafe_hash=True)
class FiguresConfig:
    """Figures of a finished study, drawn again from its table."""

    run: str = ""
    """The study's output folder."""
    only: Any = ()
    """A figure's name or a list of them; all that the table has the rows for if empty."""
    width: Any = "text"
    """"column" (3.25 inches), "text" (5.5), "page" (6.75), or inches."""
    cell: str | None = None
    """One cell of a sweep, whose own figures are to be drawn; null for those of the sweep."""
    out: str = ""
    """The folder to write to; `figures` in the study's folder if empty, and of a cell a folder in that."""

    def __post_init__(self) -> None:
        self.only = (self.only,) if isinstance(self.only, str) else tuple(self.only)
        require(
            bool(self.run), "run", "''", "must name a study's output folder", "for example run=outputs/quick-1a2b3c4d"
        )
        named = isinstance(self.width, str) and self.width in ("column", "text", "page")
        number = isinstance(self.width, int | float) and not isinstance(self.width, bool) and 2 <= self.width <= 20
        require(
            named or number,
            "width",
            self.width,
            "must be column, text, page or from 2 to 20 inches",
            "set width=column",
        )
