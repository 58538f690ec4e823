"""What safety tuning covers of a world; the rest is held out and can be evaluated by name.

Beside aliases and the prompts that the hash holds out, which tuning never sees either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from synth.settings import require

PARTS = ("tasks", "concepts", "grammars", "productions")
"""What may be left out."""


@dataclass(unsafe_hash=True)
class CoverageConfig:
    """The part of the world that safety tuning sees; null is all of it."""

    tasks: tuple[int, ...] | None = None
    """Tasks by number."""
    concepts: tuple[str, ...] | None = None
    """Concepts by name, A0 the first of the first group."""
    grammars: tuple[int, ...] | None = None
    """Grammars by number (the paper: the first of four)."""
    productions: float = 1.0
    """Share of each concept's productions; `misgen_text` writes its texts with the others."""

    def __post_init__(self) -> None:
        for name in ("tasks", "concepts", "grammars"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else tuple(value))
        require(0 < self.productions <= 1, "productions", self.productions, "must be a share above 0, up to 1", "set 1")


@dataclass(frozen=True)
class Scope:
    """The tasks, concepts and grammars that prompts are drawn from, by number."""

    tasks: tuple[int, ...]
    concepts: tuple[int, ...]
    grammars: tuple[int, ...]
    reserved: bool = False
    """Whether texts are written with the productions that tuning does not cover"""


def covered(config: CoverageConfig, tasks: int, concepts: Sequence[str], grammars: int) -> Scope:
    """What tuning sees of a world of that size. Raises SettingError for what is not in it."""
    numbers = {name: i for i, name in enumerate(concepts)}
    named = concepts if config.concepts is None else config.concepts
    for name in named:
        require(name in numbers, "concepts", name, f"must be among {', '.join(concepts)}", "choose from these")
    return Scope(
        tasks=_chosen("tasks", config.tasks, tasks),
        concepts=_chosen("concepts", tuple(numbers[name] for name in named), len(concepts)),
        grammars=_chosen("grammars", config.grammars, grammars),
    )


def _chosen(name: str, value: Sequence[int] | None, count: int) -> tuple[int, ...]:
    entries = tuple(range(count)) if value is None else tuple(sorted(set(value)))
    require(
        len(entries) > 0 and entries[0] >= 0 and entries[-1] < count,
        name,
        list(entries),
        f"must hold numbers from 0 to {count - 1}, at least one",
        "null covers all",
    )
    return entries
