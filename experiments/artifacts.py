"""Artifacts by content address: made once, checked when read, never half there.

An artifact's key is a hash of its stage, the stage's settings, its parents' keys and the
version of the code that makes it (`provenance.code_version`). It is built in a temporary
folder and renamed into place with a manifest of sizes and SHA-256 sums.

A store's folders: `artifacts`, whole and read by anyone without a lock; `partial`, what goes on
after a crash; `damaged`, what was set aside; `studies`, who uses what; `locks`, who makes what.
"""

import errno
import functools
import hashlib
import json
import os
import platform
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

FORMAT = 1
"""Of a store's folders and manifests."""
FORMAT_FILE = "store.json"
"""Says the format; a store without it is of the first."""

MANIFEST = "manifest.json"
FIELDS = ("stage", "key", "settings", "parents", "code", "made", "seconds", "files", "sha256")
"""Of a manifest: `seconds` is null where making went on after a stop, `sha256` is of the others' text."""

GROUP = "group.json"
"""In a partial folder, the names of the artifacts that are made together there."""

CLAIM = ".claim"
"""In `locks`, the names of the artifacts that a process makes; it holds the lock of the same name."""
POLL = 0.1
"""Seconds between two looks at what others make."""

DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)
"""Errors that say that a file is not what was written. Others, such as too many open files, say nothing about it."""


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
    written: str = field(default="", compare=False)
    """The settings as JSON with sorted keys, where whoever has them has that at hand"""

    @functools.cached_property
    def key(self) -> str:
        settings = self.written or json.dumps(self.settings, sort_keys=True)
        content = f"{json.dumps(self.stage)} {settings} {json.dumps(self.parents)} {json.dumps(self.code)}"
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
        new = make_way(root / FORMAT_FILE, root, warn) or not (root / "artifacts").exists()
        check_format(root)
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
        missing = [name for name in wanted if not self._is_whole(name)]
        with self.locked(missing):
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
        return self.path(recipe).is_dir()

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
            known = json.loads(read_file(path))
            if known == {**record, "time": known["time"]}:
                return
        except (OSError, ValueError, KeyError, TypeError):
            pass  # There is none, or none that can be read.
        try:
            path.parent.mkdir(exist_ok=True)
            with self.lock("studies"):
                make_way(path, self.root, self.warn)
                write_whole(path, json.dumps({**record, "time": _now()}, indent=1))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            self.warn(f"{self.root} cannot be written: it does not know that {folder} uses it, and may be pruned")

    def ready(self) -> None:
        """Raises StoreError, before any work, if what is made in `partial` could not be renamed to where it belongs.

        So it is if the two are on different disks, which may be mounts of one: only trying tells.
        """
        tried = unique(self.root / "partial" / "trial")
        arrived = self.root / "artifacts" / tried.name
        try:
            tried.touch()
            tried.rename(arrived)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise StoreError(
                f"store_dir={self.root}: its folders artifacts and partial are on different disks; put them on one"
            ) from None
        finally:
            remove(tried)
            remove(arrived)

    def lock(self, name: str) -> FileLock:
        """A lock of the store's own: "studies" is held while the record of studies is changed, "claims" for a look."""
        path = self.root / "locks" / f"{name}.lock"
        make_way(path, self.root, self.warn)
        return FileLock(path)

    @contextmanager
    def locked(self, names: Collection[str], timeout: float = -1) -> Iterator[None]:
        """Held while the artifacts `names` are made, or removed: one open file, however many they are.

        All of them are claimed at once, so that no two processes wait for each other; claims of
        processes that ended do not count. Raises filelock.Timeout if another process claims one of
        them for longer than `timeout` seconds; at -1 it waits.
        """
        if not names:
            yield
            return
        claim = self.root / "locks" / f"{_nonce()}{CLAIM}"
        held = FileLock(claim.with_suffix(".lock"))
        began = time.monotonic()
        try:
            while not self._claim(names, claim, held):
                if 0 <= timeout <= time.monotonic() - began:
                    raise Timeout(str(claim))
                time.sleep(POLL)
            yield
        finally:
            if held.is_locked:
                _disclaim(claim, held)

    def _claim(self, names: Collection[str], claim: Path, held: FileLock) -> bool:
        """Claims `names` unless somebody has one of them; returns whether it did."""
        with self.lock("claims"):
            if any(self._is_claimed(other, names) for other in (self.root / "locks").glob(f"*{CLAIM}")):
                return False
            held.acquire()
            write_whole(claim, json.dumps(sorted(names)))
            return True

    def _is_claimed(self, claim: Path, names: Collection[str]) -> bool:
        """Whether the claim of a process that is there is on one of `names`; one of a process that ended is removed."""
        held = FileLock(claim.with_suffix(".lock"))
        try:
            held.acquire(timeout=0)
        except Timeout:
            try:
                return not set(names).isdisjoint(json.loads(read_file(claim)))
            except (OSError, ValueError, TypeError):
                return os.path.lexists(claim)  # Gone meanwhile, or damaged: then on everything until its process ends.
        _disclaim(claim, held)
        return False

    def unfinished(self) -> Iterator[tuple[Path, frozenset[str]]]:
        """The partial folders, each with the names of the artifacts that were begun there."""
        for file in sorted((self.root / "partial").glob(f"*/{GROUP}")):
            try:
                yield file.parent, frozenset(json.loads(read_file(file)))
            except (OSError, ValueError, TypeError):
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
            if os.path.lexists(path):
                verify(path)
                return True
        except DamagedError as damage:
            self._set_aside(path, damage)
        # Of several made together, some may have been named before the process was killed.
        building = self._building(name)
        if not problems(building):
            building.rename(path)
            remove(self.root / "partial" / name)
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
        make_way(partial, self.root, self.warn, stat.S_ISDIR)
        partial.mkdir(exist_ok=True)
        make_way(partial / GROUP, self.root, self.warn)
        write_whole(partial / GROUP, json.dumps(list(recipes)))
        building = {name: self._building(name) for name in recipes}
        began = time.monotonic()
        try:
            for folder in building.values():
                remove(folder)
                folder.mkdir()
            make({recipes[name].key: folder for name, folder in building.items()}, partial)
        except BaseException as error:
            for folder in building.values():
                remove(folder)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                error.filename = error.filename or str(self.root)  # A full disk does not say which.
            raise
        seconds = None if goes_on else round((time.monotonic() - began) / len(recipes), 3)
        for name, folder in building.items():
            _write_manifest(folder, recipes[name], seconds)
        for name, folder in building.items():
            folder.rename(self._path(name))
        remove(partial)

    def _building(self, name: str) -> Path:
        return self.root / "partial" / f"{name}.building"

    def _set_aside(self, path: Path, damage: DamagedError) -> None:
        target = set_aside(path, self.root)
        self.warn(f"{path.name} is damaged ({damage}); set aside in {target} and made again")


def check_format(root: Path) -> None:
    """Raises StoreError unless the store, if there is one, is of our format."""
    try:
        text = read_file(root / FORMAT_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return
    except ValueError:
        text = ""
    try:
        found = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError):
        found = "unknown"
    if found != FORMAT:
        raise StoreError(
            f"store_dir={root}: this store is of format {found}, here format {FORMAT} is read; "
            f"use the version that made it, name another folder, or remove {FORMAT_FILE} if it was damaged"
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
    return [text for name, (size, digest) in recorded.items() if (text := problem(path / name, size, digest))]


def changed(path: Path) -> list[str]:
    """`problems` of an artifact that may have been copied without its manifest: of such a one nothing is known."""
    return problems(path) if os.path.lexists(path / MANIFEST) else []


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an artifact. Raises DamagedError if it is not, to the byte, as it was written."""
    try:
        text = read_file(path / MANIFEST)
        manifest: dict[str, Any] = json.loads(text)
        body = {name: value for name, value in manifest.items() if name != "sha256"}
        # The first manifests had no sum of their own.
        whole = "sha256" not in manifest or manifest["sha256"] == _sha256_of(_text(body))
        if whole and text == _text(manifest) and set(manifest) <= set(FIELDS):
            return manifest
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
    except (ValueError, AttributeError, TypeError):
        pass
    raise DamagedError("its manifest cannot be read")


def sum_of(file: Path) -> dict[str, Any]:
    """The size in bytes and the SHA-256 of a file, as manifests have them; it is read again only if it has changed."""
    about = _regular(file)
    return {"size": about.st_size, "sha256": _sha256(file, about.st_ino, about.st_mtime_ns, about.st_size)}


def problem(file: Path, size: int, digest: str) -> str:
    """What is wrong with a file of that size in bytes and SHA-256, in a few words; nothing if it is as it was."""
    try:
        # What is of another size need not be read.
        whole = _regular(file).st_size == size and sum_of(file)["sha256"] == digest
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        return f"{file.name} is missing" if error.errno == errno.ENOENT else f"{file.name} cannot be read"
    return "" if whole else f"{file.name} is not what was written"


def _regular(path: Path) -> os.stat_result:
    """Raises OSError unless a file is there: of a folder or a pipe no content can be read."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return about


def read_file(path: Path) -> str:
    """The text of a file of ours. Raises OSError if there is none, ValueError if it is no text."""
    _regular(path)
    return path.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1 << 16)
def _sha256(file: Path, inode: int, modified: int, size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_manifest(folder: Path, recipe: Recipe, seconds: float | None) -> None:
    files = {file.name: sum_of(file) for file in sorted(folder.iterdir())}
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
    return partial.is_dir() and any(file.name != GROUP for file in partial.iterdir())


def _sha256_of(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8, that is there whole or not at all."""
    temporary = unique(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise


def unique(path: Path) -> Path:
    """A hidden name beside `path` that no other process takes, not even one on another machine with an equal number."""
    return path.with_name(f".{path.name}.{_nonce()}")


def _nonce() -> str:
    """The machine, so that people see whose a file is that was left, and what no two processes share."""
    return f"{platform.node()}-{secrets.token_hex(6)}"


def remove(path: Path) -> None:
    """Removes whatever is there, a folder or a file, as far as it can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path, root: Path) -> Path:
    """Moves whatever is at `path` to the folder `damaged` of `root`; returns where it is then."""
    target = root / "damaged" / f"{path.name}-{time.time_ns()}"
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)
    return target


def make_way(
    path: Path, root: Path, warn: Callable[[str], None], is_kind: Callable[[int], bool] = stat.S_ISREG
) -> bool:
    """Sets aside what stands where a file is to be and is none: a folder, a loop of links. Returns whether it did.

    `is_kind` is `stat.S_ISDIR` where a folder is to be.
    """
    try:
        about = path.stat()
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        about = None
    if not os.path.lexists(path) or (about and is_kind(about.st_mode)):
        return False
    kind = "file" if is_kind is stat.S_ISREG else "folder"
    warn(f"{path} is no {kind}; set aside in {set_aside(path, root)} and made again")
    return True


def _disclaim(claim: Path, held: FileLock) -> None:
    """While it is held: without its claim the lock is nobody's."""
    remove(claim)
    held.release()
    Path(held.lock_file).unlink(missing_ok=True)
