"""The settings of the commands beside the study: what to export, to look at, to compare, to draw."""

from dataclasses import dataclass, field
from typing import Any

from synth.lookup import sampler, size, split_name
from synth.prompts import SIDES, TRAIN
from synth.settings import naming, require, require_among, require_positive, require_seed
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
    side: str = SIDES[TRAIN]
    """Of the world's division: what is trained on, or of what is held out, validation or test."""
    seed: int = 0
    output_dir: str = "outputs"
    """Where `show` puts its figures."""
    world: WorldConfig = field(default_factory=WorldConfig)

    def __post_init__(self) -> None:
        self.family = (self.family,) if isinstance(self.family, str) else tuple(self.family)
        require_positive(self, "n", most=2**30)
        require(0 <= self.show <= 100, "show", self.show, "must be from 0 to 100", "set show to 3")
        require_seed(self)
        require_among(self, "side", SIDES)
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
            size(world)
            for name in self.family:
                sampler(world, name)


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
    """Which model of the study: a method, START+METHOD, one of its nodes, untouched or random; null is the first that
    was tuned."""
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


RENAMED = {"held_out": "side", "analysis.attacks.enabled": "analysis.measurements"}
"""Settings of before, and what says the same now."""


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
