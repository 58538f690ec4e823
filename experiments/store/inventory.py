"""What a store holds: artifacts and what they are made from, who needs them, what is left over."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout

from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.settings.plain import flat
from experiments.store.artifacts import Store
from experiments.store.files import DAMAGE, read_file, remove
from experiments.store.manifest import DamagedError, read_manifest
from synth.settings import StoppedError

MAIN = (
    "method",
    "models",
    "model.layers",
    "model.width",
    "pretrain.steps",
    "seeds",
    "tuning.steps",
    "tuning.learning_rate",
    "asked.prompts",
    "measurement",
)
"""Settings said of an artifact even where all of its stage agree on them."""


class Entry(NamedTuple):
    """An artifact; what cannot be read of its manifest is empty."""

    name: str
    stage: str
    key: str
    path: Path
    size: int
    """Bytes"""
    made: str
    seconds: float | None
    """What making took; None where it is not known"""
    parents: tuple[str, ...]
    """Keys"""
    code: str
    settings: dict[str, Any]


class UsingStudy(NamedTuple):
    """A study that the store was used by; its output folder may be gone."""

    folder: Path
    record: Path
    artifacts: frozenset[str]

    @property
    def name(self) -> str:
        return self.folder.name


class Waste(NamedTuple):
    """Something that can be removed."""

    path: Path
    reason: str
    size: int
    locks: tuple[str, ...]
    """Names of the artifacts that it is part of: nothing else may be making them"""


class Inventory:
    """A store as it was when it was looked at."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.entries = {path.name: _entry(path) for path in _folders(store.root / "artifacts")}
        self.by_key = {entry.key: entry for entry in self.entries.values()}
        studies = [_study(path) for path in sorted((store.root / "studies").glob("*.json"))]
        self.studies = [study for study in studies if study.folder.is_dir()]
        self.gone = [study for study in studies if not study.folder.is_dir()]
        self.users: dict[str, list[UsingStudy]] = {}
        """Of each artifact that is needed, whether it is there or not"""
        for study in self.studies:
            for name in self.with_ancestors(study.artifacts):
                self.users.setdefault(name, []).append(study)

    def with_ancestors(self, names: Iterable[str]) -> set[str]:
        """`names`, and the artifacts that these are made from, directly or not."""
        found, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                parents = self.entries[name].parents if name in self.entries else ()
                todo += [self.by_key[key].name for key in parents if key in self.by_key]
        return found

    def children(self, key: str) -> list[Entry]:
        """The artifacts that are made from it directly."""
        return [entry for entry in self.entries.values() if key in entry.parents]

    def unused(self) -> list[Entry]:
        """The artifacts that no existing study needs."""
        return [entry for entry in self.entries.values() if entry.name not in self.users]

    def waste(self) -> list[Waste]:
        """What no existing study needs, what no computation goes on from, and what was set aside as damaged."""
        root = self.store.root
        found = [Waste(entry.path, "no study needs it", entry.size, (entry.name,)) for entry in self.unused()]
        begun = dict(self.store.unfinished())
        for path in _folders(root / "partial"):
            members = begun.get(path, frozenset([path.name.removesuffix(".building")]))
            if not any(name in self.users and name not in self.entries for name in members):
                found.append(Waste(path, "begun, and no study needs it", size(path), tuple(sorted(members))))
        found += [Waste(path, "damaged, set aside", size(path), ()) for path in _folders(root / "damaged")]
        return [one for one in found if _under(self.store, one.locks, lambda: None)]

    def remove(self, waste: Waste) -> bool:
        """Removes it, unless a process is making it; returns whether it did."""
        return _under(self.store, waste.locks, lambda: _remove(self.store, waste.path))

    def described(self) -> dict[str, dict[str, Any]]:
        """Of each artifact, the settings that tell it from others of its stage, its parents' included, and MAIN."""
        settings: dict[str, dict[str, Any]] = {}
        for name in self.entries:
            self._inherit(name, settings)
        found = {}
        for stage in dict.fromkeys(entry.stage for entry in self.entries.values()):
            names = [name for name, entry in self.entries.items() if entry.stage == stage]
            values: dict[str, set[str]] = {}
            of_methods = any("method" in settings[name] for name in names)
            for name in names:
                if of_methods:
                    settings[name].setdefault("method", self._untuned(name))
                for setting, value in settings[name].items():
                    values.setdefault(setting, set()).add(json.dumps(value))
            for name in names:
                own, inherited = flat(self.entries[name].settings), settings[name]
                differing = [setting for setting in inherited if len(values[setting]) > 1]
                shown = dict.fromkeys(
                    [*(s for s in MAIN if s in differing), *differing, *(s for s in MAIN if s in own)]
                )
                found[name] = {setting: inherited[setting] for setting in shown}
        return found

    def _untuned(self, name: str) -> str:
        """Which model it is, or of which it says something, where it descends from no tuning."""
        trained = any(self.entries[one].stage == "pretrain" for one in self.with_ancestors([name]))
        return UNTOUCHED if trained else RANDOM

    def _inherit(self, name: str, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The settings of an artifact and those on which all that it is made from agree.

        What another of these is itself made from is not asked: that was changed since. A model that is tuned again
        has the methods of all its tunings, START+METHOD.
        """
        if name not in known:
            known[name] = {}
            made_from = dict.fromkeys(self.by_key[key].name for key in self.entries[name].parents if key in self.by_key)
            older = {
                one for other in made_from for one in self.with_ancestors([other]) if one != other and one in made_from
            }
            parents = [self._inherit(one, known) for one in made_from if one not in older]
            every = {setting: value for parent in parents for setting, value in parent.items()}
            agreed = {
                setting: value
                for setting, value in every.items()
                if all(parent.get(setting, value) == value for parent in parents)
            }
            own = flat(self.entries[name].settings)
            if "method" in agreed and "method" in own:
                own["method"] = f"{agreed['method']}+{own['method']}"
            known[name] = {**agreed, **own}
        return known[name]


def size(path: Path) -> int:
    """Bytes of a file, or of the files below a folder; what is removed meanwhile counts as nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        try:
            total += 0 if file.is_dir() else file.lstat().st_size
        except FileNotFoundError:
            continue
    return total


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _entry(path: Path) -> Entry:
    stage, _, key = path.name.rpartition("-")
    try:
        manifest = read_manifest(path)
    except DamagedError:
        return Entry(path.name, stage, key, path, size(path), "", None, (), "", {})
    return Entry(
        path.name,
        stage,
        key,
        path,
        size(path),
        manifest["made"],
        manifest.get("seconds"),
        tuple(manifest["parents"]),
        manifest["code"],
        manifest["settings"],
    )


def _study(record: Path) -> UsingStudy:
    """Raises StoppedError if the record cannot be read: what it keeps is then not known."""
    try:
        content = json.loads(read_file(record))
        return UsingStudy(Path(content["folder"]), record, frozenset(content["artifacts"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and error.errno not in DAMAGE:
            raise
        raise StoppedError(f"{record}: cannot be read; remove it, and run the study again if it is wanted") from None


def _under(store: Store, names: Collection[str], act: Callable[[], None]) -> bool:
    """Whether the locks of `names` were free; `act` is called with them held."""
    try:
        with store.locked(names, timeout=0):
            act()
    except Timeout:
        return False
    return True


def _remove(store: Store, path: Path) -> None:
    """Out of sight first, so that nothing half removed is ever taken for an artifact."""
    doomed = store.root / "partial" / f"{path.name}.pruned"
    remove(doomed)
    path.rename(doomed)
    remove(doomed)
