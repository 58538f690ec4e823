"""What every stage is: an object whose fields are all that it computes with."""

import dataclasses
import functools
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from experiments.settings.plain import to_dict
from experiments.stages.training import Runner
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

    @property
    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def parents(self) -> tuple["Stage", ...]:
        """The stages among its fields, in their order."""
        values = [one for value in self._fields.values() for one in _several(value)]
        return tuple(one for one in values if isinstance(one, Stage))

    @functools.cached_property
    def recipe(self) -> Recipe:
        """As the store knows it."""
        fields = {}
        for name, value in self._fields.items():
            if isinstance(value, Mapping) and any(isinstance(one, Stage) for one in value.values()):
                value = list(value)
            if not isinstance(value, Stage):
                fields[name] = value
        settings, written = _plain(fields)
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


def _several(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _plain(value: Any) -> tuple[Any, str]:
    """A setting as plain dictionaries, lists, strings and numbers, and these as JSON with sorted keys."""
    if isinstance(value, Mapping):
        made = {name: _plain(child) for name, child in sorted(value.items())}
        written = ", ".join(f"{json.dumps(name)}: {text}" for name, (_, text) in made.items())
        return {name: plain for name, (plain, _) in made.items()}, f"{{{written}}}"
    return _config(value) if dataclasses.is_dataclass(value) and isinstance(value, Hashable) else _as_json(value)


def _as_json(value: Any) -> tuple[Any, str]:
    plain = to_dict(value, labels=False)
    return plain, json.dumps(plain, sort_keys=True)


_config = functools.lru_cache(maxsize=4096)(_as_json)
"""Stages have most of their settings in common."""
