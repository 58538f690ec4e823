"""What safety tuning covers of a world; the rest is held out and can be evaluated by name.

Beside aliases and the prompts that the hash holds out, which tuning never sees either.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from synth.grammar import Grammar
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
    """Share of each concept's productions; `misgen_text` writes its texts with the others (`reserved`)."""

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


def reserved(config: CoverageConfig, grammar: Grammar, concepts: Sequence[str]) -> dict[str, frozenset[int]]:
    """By concept of `grammar`, the numbers of the productions that tuning on `concepts` does not cover.

    They are a concept's last ones, unless a right-hand side would then be reserved of one concept
    and covered of another: productions of a concept change places, one pair at a time, as long as
    that leaves fewer of these. Where none can be left, `reserved.unseen` still accepts no text that
    covered productions derive.
    """
    rules = {concept: [production.symbols for production in grammar.rules[concept]] for concept in grammar.concepts}
    kept = {concept: max(1, round(config.productions * len(sides))) for concept, sides in rules.items()}
    chosen = {concept: frozenset(range(kept[concept], len(sides))) for concept, sides in rules.items()}

    def clashes(chosen: Mapping[str, frozenset[int]]) -> int:
        seen = {side for concept in concepts for i, side in enumerate(rules[concept]) if i not in chosen[concept]}
        return sum(rules[concept][i] in seen for concept, numbers in chosen.items() for i in numbers)

    def exchanged() -> Iterator[dict[str, frozenset[int]]]:
        for concept, numbers in chosen.items():
            others = [i for i in reversed(range(len(rules[concept]))) if i not in numbers]
            for out, into in itertools.product(sorted(numbers), others):
                yield chosen | {concept: numbers - {out} | {into}}

    left = clashes(chosen)
    while left:
        best = min(exchanged(), key=clashes, default=chosen)
        if clashes(best) >= left:
            break
        chosen, left = best, clashes(best)
    return chosen


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
