"""What every stage is: an object whose fields are all that it computes with."""

import dataclasses
import functools
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

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

    @functools.cached_property
    def parents(self) -> tuple["Stage", ...]:
        """The stages among its fields, in their order."""
        found: list[Stage] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            found += [one for one in _several(value) if isinstance(one, Stage)]
        return tuple(found)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """As the store knows it."""
        settings, written = {}, []
        for field in sorted(dataclasses.fields(self), key=lambda field: field.name):
            value = getattr(self, field.name)
            if isinstance(value, Mapping) and any(isinstance(one, Stage) for one in value.values()):
                value = list(value)
            if not isinstance(value, Stage):
                settings[field.name], text = _plain(value)
                written.append(f"{json.dumps(field.name)}: {text}")
        keys = tuple(parent.recipe.key for parent in self.parents)
        code = code_version(type(self).__module__, *self.rows)
        return Recipe(self.name, settings, keys, code, f"{{{', '.join(written)}}}")


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
    if dataclasses.is_dataclass(value) and isinstance(value, Hashable):
        return _config(value)
    if isinstance(value, Mapping):
        made = {str(name): _plain(child) for name, child in value.items()}
        written = ", ".join(f"{json.dumps(name)}: {made[name][1]}" for name in sorted(made))
        return {name: plain for name, (plain, _) in made.items()}, f"{{{written}}}"
    if isinstance(value, list | tuple):
        parts = [_plain(child) for child in value]
        return [plain for plain, _ in parts], f"[{', '.join(text for _, text in parts)}]"
    return value, json.dumps(value)


@functools.lru_cache(maxsize=4096)
def _config(config: Any) -> tuple[Any, str]:
    """All but labels, which are not compared. Stages have most of their settings in common."""
    return _plain({field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.compare})
