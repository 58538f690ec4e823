"""What every stage is: an object whose fields are all that it computes with."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from experiments.settings.plain import to_dict
from experiments.stages.runs import Runner
from experiments.store.artifacts import Store
from experiments.store.manifest import Artifact, Recipe
from experiments.store.provenance import code_version


class Work(NamedTuple):
    """What a stage is made with; none of it changes a result beyond rounding."""

    store: Store
    runner: Runner
    partial: Path
    """Where it keeps what it needs to go on after a stop"""


@dataclass(frozen=True)
class Stage:
    """Something that is made once and kept in the store.

    Its recipe, and so its key, is made of its fields, the keys of those fields that are stages
    themselves, and the code that its class and its rows reach: what is not a field cannot be
    computed with, and a field cannot be forgotten.
    """

    name: ClassVar[str]

    @classmethod
    def make(cls, stages: Sequence[Self], folders: Sequence[Path], work: Work) -> None:
        """Writes the files of each of `stages`, which one computation makes together, into its folder."""
        raise NotImplementedError

    @property
    def rows(self) -> tuple[str, ...]:
        """The modules of the rows of registries that it uses."""
        return ()

    @classmethod
    @functools.cache
    def _names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in dataclasses.fields(cls))

    @functools.cached_property
    def parents(self) -> tuple["Stage", ...]:
        """The stages among its fields, in their order."""
        found: list[Stage] = []
        for name in self._names():
            value = getattr(self, name)
            if isinstance(value, Stage):
                found.append(value)
            elif _is_mapping(value):
                found += [one for one in value.values() if isinstance(one, Stage)]
        return tuple(found)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """As the store knows it."""
        fields = []
        for name in self._names():
            value = getattr(self, name)
            if _is_mapping(value):
                stages = any(isinstance(one, Stage) for one in value.values())
                value = tuple(value) if stages else _Items((key, type(of), of) for key, of in value.items())
            if not isinstance(value, Stage):
                fields.append((name, type(value), value))
        settings, written = _settings(tuple(fields))
        keys = tuple(parent.recipe.key for parent in self.parents)
        code = code_version(type(self).__module__, *self.rows)
        return Recipe(self.name, settings, keys, code, written)


def make(stages: Sequence[Stage], store: Store, runner: Runner) -> list[Artifact]:
    """The artifacts of `stages`, all of one class: those that are missing are made together."""
    of = {stage.recipe.key: stage for stage in stages}

    def missing(folders: dict[str, Path], partial: Path) -> None:
        chosen = [of[key] for key in folders]
        type(chosen[0]).make(chosen, list(folders.values()), Work(store, runner, partial))

    made = store.fetch_all([stage.recipe for stage in stages], missing)
    return [made[stage.recipe.key] for stage in stages]


class _Items(tuple[tuple[str, type, Any], ...]):
    """A mapping's names, types of values and values, to be looked up by: True is 1 and 1 is 1.0, but not as JSON."""


@functools.lru_cache(maxsize=4096)
def _settings(fields: tuple[tuple[str, type, Any], ...]) -> tuple[dict[str, Any], str]:
    """Fields as plain dictionaries, lists, strings and numbers, and these as JSON with sorted keys.

    Thousands of stages have all of them in common, and others all but one.
    """
    made = {name: _plain(kind, value) for name, kind, value in sorted(fields, key=lambda field: field[0])}
    written = ", ".join(f"{json.dumps(name)}: {text}" for name, (_, text) in made.items())
    return {name: plain for name, (plain, _) in made.items()}, f"{{{written}}}"


@functools.lru_cache(maxsize=4096)
def _plain(kind: type, value: Any) -> tuple[Any, str]:
    plain = to_dict({name: of for name, _, of in value} if issubclass(kind, _Items) else value, labels=False)
    return plain, json.dumps(plain, sort_keys=True)


def _is_mapping(value: Any) -> bool:
    # To ask this of every value by the abstract class alone takes a third of a plan's time.
    return not isinstance(value, Stage | str | int) and isinstance(value, Mapping)
