"""Artifacts by content address: made once, checked when read, never half there.

An artifact's key is a hash of its stage, the stage's settings, its parents' keys and the
version of the code that makes it (`provenance.code_version`). It is built in a temporary
folder and renamed into place with a manifest of sizes and SHA-256 sums.

A store's folders: `artifacts`, whole and read by anyone without a lock; `partial`, what goes on
after a crash; `damaged`, what was set aside; `studies`, who uses what; `locks`.
"""

import errno
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

FORMAT = 1
"""Of a store's folders and manifests."""
FORMAT_FILE = "store.json"
"""Says the format; a store without it is of the first."""

MANIFEST = "manifest.json"
FIELDS = ("stage", "key", "settings", "parents", "code", "made", "seconds", "files", "sha256")
"""Of a manifest: `seconds` is null where making went on after a stop, `sha256` is of the others' text."""

GROUP = "group.json"
"""In a partial folder, the names of the artifacts that are made together there."""


class StoreError(Exception):
    """A store that cannot be used; the message is one line for the user."""


class DamagedError(Exception):
    """An artifact that is not what its manifest says."""


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: a folder that nothing writes to any more."""

    key: str
    path: Path


@dataclass(frozen=True)
class Recipe:
    """What an artifact is made from; equal recipes have equal keys."""

    stage: str
    settings: Any
    """Plain dictionaries, lists, strings and numbers"""
    parents: tuple[str, ...]
    """Keys of the artifacts it is made from"""
    code: str

    @functools.cached_property
    def key(self) -> str:
        content = json.dumps([self.stage, self.settings, self.parents, self.code], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Of the artifact's folder."""
        return f"{self.stage}-{self.key}"


class Store:
    """A folder of artifacts that several processes may share.

    `warn` is called with one line when something had to be set aside. Reading what is finished
    needs neither a lock nor the right to write.

    Raises StoreError for a store of another format.
    """

    def __init__(self, root: Path, warn: Callable[[str], None] = print) -> None:
        self.root, self.warn = root, warn
        check_format(root)
        new = not (root / "artifacts").exists()
        for folder in ("artifacts", "partial", "locks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        if new:
            write_whole(root / FORMAT_FILE, json.dumps({"format": FORMAT}))

    def fetch(self, recipe: Recipe, make: Callable[[Path, Path], None]) -> Artifact:
        """The artifact of `recipe`, made by `make(folder, partial)` unless it is there and whole.

        `make` writes its files to `folder`; what it needs to go on after a crash it keeps in
        `partial`, which lives until the artifact is finished. Another process that wants the
        same artifact waits for this one. `make` must not fetch.
        """
        return self.fetch_all([recipe], lambda folders, partial: make(folders[recipe.key], partial))[recipe.key]

    def fetch_all(
        self, recipes: Iterable[Recipe], make: Callable[[dict[str, Path], Path], None]
    ) -> dict[str, Artifact]:
        """The artifacts of `recipes`, by key, where one computation makes several.

        `make(folders, partial)` makes those that are neither there nor being made elsewhere,
        `folders` by key. What was begun together and stopped goes on together, with its partial
        state, before the rest: so `make` may be called more than once, each time for others.
        """
        wanted = {recipe.name: recipe for recipe in recipes}
        missing = [name for name in sorted(wanted) if not self._is_whole(name)]
        with ExitStack() as locks:
            # In one order everywhere, so that no two processes wait for each other.
            for name in missing:
                locks.enter_context(self.lock(name))
            for group in self._groups({name for name in missing if not self._is_settled(name)}):
                self._make({name: wanted[name] for name in group}, make)
        return {recipe.key: Artifact(recipe.key, self._path(name)) for name, recipe in wanted.items()}

    def get(self, recipe: Recipe) -> Artifact:
        """The finished artifact of `recipe`. Raises DamagedError if it is not there or not whole."""
        if found := problems(self.path(recipe)):
            raise DamagedError(f"{recipe.name}: {'; '.join(found)}; the same command makes it again")
        return Artifact(recipe.key, self.path(recipe))

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact is there (not whether it is whole)."""
        return self.path(recipe).exists()

    def is_whole(self, recipe: Recipe) -> bool:
        """Whether it is there, every file as it was written."""
        return self._is_whole(recipe.name)

    def path(self, recipe: Recipe) -> Path:
        """Where the artifact is, or will be."""
        return self._path(recipe.name)

    def register(self, folder: Path, names: Iterable[str]) -> None:
        """Notes which artifacts (`Recipe.name`) the study in `folder` uses, all of them, instead of what was noted.

        They are kept as long as `folder` exists; a study registers before it fetches. In a store
        that cannot be written it is warned that they are not.
        """
        home = folder.resolve()
        path = self.root / "studies" / f"{home.name}-{_sha256_of(str(home))[:8]}.json"
        record = {"folder": str(home), "artifacts": sorted(set(names))}
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):
            known = {}
        if known == {**record, "time": known.get("time")}:
            return
        try:
            path.parent.mkdir(exist_ok=True)
            with self.lock("studies"):
                write_whole(path, json.dumps({**record, "time": _now()}, indent=1))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            self.warn(f"{self.root} cannot be written: it does not know that {folder} uses it, and may be pruned")

    def lock(self, name: str, timeout: float = -1) -> FileLock:
        """Held while the artifact `name` is made, or removed; "studies" while the record of studies is changed."""
        return FileLock(self.root / "locks" / f"{name}.lock", timeout)

    def unfinished(self) -> Iterator[tuple[Path, frozenset[str]]]:
        """The partial folders, each with the names of the artifacts that were begun there."""
        for file in sorted((self.root / "partial").glob(f"*/{GROUP}")):
            try:
                yield file.parent, frozenset(json.loads(file.read_text()))
            except (OSError, ValueError):
                continue  # Finished by another process since, or damaged: then nothing goes on from it.

    def _path(self, name: str) -> Path:
        return self.root / "artifacts" / name

    def _is_whole(self, name: str) -> bool:
        try:
            verify(self._path(name))
        except DamagedError:
            return False
        return True

    def _is_settled(self, name: str) -> bool:
        """Whether an artifact that was missing has appeared; one that is damaged is set aside. Under its lock."""
        path = self._path(name)
        try:
            if path.exists():
                verify(path)
                return True
        except DamagedError as damage:
            self._set_aside(path, damage)
        # Of several made together, some may have been named before the process was killed.
        building = self._building(name)
        if (building / MANIFEST).exists() and not problems(building):
            building.rename(path)
            shutil.rmtree(self.root / "partial" / name, ignore_errors=True)
            return True
        return False

    def _groups(self, missing: set[str]) -> Iterator[Collection[str]]:
        """`missing` in groups: each that has a state to go on from, the largest first, then all the others."""
        begun = [members for folder, members in self.unfinished() if _has_state(folder)]
        for members in sorted(begun, key=len, reverse=True):
            if members and members <= missing:
                yield sorted(members)
                missing = missing - members
        if missing:
            yield sorted(missing)

    def _make(self, recipes: dict[str, Recipe], make: Callable[[dict[str, Path], Path], None]) -> None:
        """Makes what is missing, by name. Under all the locks."""
        alone = len(recipes) == 1
        partial = self.root / "partial" / (next(iter(recipes)) if alone else f"group-{_sha256_of(*recipes)[:16]}")
        goes_on = _has_state(partial)
        partial.mkdir(exist_ok=True)
        write_whole(partial / GROUP, json.dumps(list(recipes)))
        building = {name: self._building(name) for name in recipes}
        began = time.monotonic()
        try:
            for folder in building.values():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            make({recipes[name].key: folder for name, folder in building.items()}, partial)
        except BaseException as error:
            for folder in building.values():
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                error.filename = error.filename or str(self.root)  # A full disk does not say which.
            raise
        seconds = None if goes_on else round((time.monotonic() - began) / len(recipes), 3)
        for name, folder in building.items():
            _write_manifest(folder, recipes[name], seconds)
        for name, folder in building.items():
            folder.rename(self._path(name))
        shutil.rmtree(partial, ignore_errors=True)

    def _building(self, name: str) -> Path:
        return self.root / "partial" / f"{name}.building"

    def _set_aside(self, path: Path, damage: DamagedError) -> None:
        target = self.root / "damaged" / f"{path.name}-{time.time_ns()}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        self.warn(f"{path.name} is damaged ({damage}); set aside in {target} and made again")


def check_format(root: Path) -> None:
    """Raises StoreError unless the store, if there is one, is of our format."""
    try:
        text = (root / FORMAT_FILE).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        found = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError):
        found = "unknown"
    if found != FORMAT:
        raise StoreError(
            f"store_dir={root}: this store is of format {found}, here format {FORMAT} is read; "
            "use the version that made it, or name another folder"
        )


def verify(path: Path) -> None:
    """Raises DamagedError unless every file of the artifact is as its manifest says."""
    if found := problems(path):
        raise DamagedError("; ".join(found))


def problems(path: Path) -> list[str]:
    """What is wrong with an artifact: a few words for each file that is not as its manifest says.

    A file is read once by a process, and again only if its size or time has changed.
    """
    try:
        files = read_manifest(path)["files"]
        recorded = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except (DamagedError, KeyError, TypeError, AttributeError):
        return ["its manifest cannot be read"]
    return [text for name, (size, digest) in recorded.items() if (text := _problem(path / name, size, digest))]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an artifact. Raises DamagedError if it is not, to the byte, as it was written."""
    try:
        text = (path / MANIFEST).read_text()
        manifest: dict[str, Any] = json.loads(text)
        body = {name: value for name, value in manifest.items() if name != "sha256"}
        # The first manifests had no sum of their own.
        whole = "sha256" not in manifest or manifest["sha256"] == _sha256_of(_text(body))
        if whole and text == _text(manifest) and set(manifest) <= set(FIELDS):
            return manifest
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError, TypeError):
        pass
    raise DamagedError("its manifest cannot be read")


def _problem(file: Path, size: int, digest: str) -> str:
    try:
        stat = file.stat()
        whole = stat.st_size == size and _sha256(file, stat.st_ino, stat.st_mtime_ns, size) == digest
    except OSError as error:
        # Anything else, such as too many open files, says nothing about the file.
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO):
            raise
        return f"{file.name} is missing" if error.errno == errno.ENOENT else f"{file.name} cannot be read"
    return "" if whole else f"{file.name} is not what was written"


@functools.lru_cache(maxsize=1 << 16)
def _sha256(file: Path, inode: int, modified: int, size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_manifest(folder: Path, recipe: Recipe, seconds: float | None) -> None:
    files = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as content:
            files[file.name] = {
                "size": file.stat().st_size,
                "sha256": hashlib.file_digest(content, "sha256").hexdigest(),
            }
    manifest = {
        "stage": recipe.stage,
        "key": recipe.key,
        "settings": recipe.settings,
        "parents": list(recipe.parents),
        "code": recipe.code,
        "made": _now(),
        "seconds": seconds,
        "files": files,
    }
    write_whole(folder / MANIFEST, _text({**manifest, "sha256": _sha256_of(_text(manifest))}))


def _has_state(partial: Path) -> bool:
    return partial.exists() and any(file.name != GROUP for file in partial.iterdir())


def _sha256_of(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write_whole(path: Path, text: str) -> None:
    """Writes a text file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise
