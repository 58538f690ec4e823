"""Artifacts by content address: made once, checked when read, never half there.

An artifact's key is a hash of its stage, the stage's settings, its parents' keys and the
version of the code that makes it (`provenance.code_version`). It is built in a temporary
folder and renamed into place with a manifest of sizes and SHA-256 sums.

A store's folders: `artifacts`, whole and read by anyone without a lock; `partial`, what goes on
after a crash; `damaged`, what was set aside; `studies`, who uses what; `locks`, who makes what.
"""

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.store.files import DAMAGE, make_way, nonce, read_file, remove, set_aside, unique, write_whole
from experiments.store.format import FORMAT, FORMAT_FILE, check_format
from experiments.store.manifest import Artifact, DamagedError, Recipe, now, problems, sha256_of, verify, write_manifest
from synth.settings import StoppedError

GROUP = "group.json"
"""In a partial folder, the names of the artifacts that are made together there."""

CLAIM = ".claim"
"""In `locks`, the names of the artifacts that a process makes; it holds the lock of the same name."""
POLL = 0.1
"""Seconds between two looks at what others make."""


class Store:
    """A folder of artifacts that several processes may share.

    `warn` is called with one line when something had to be set aside. Reading what is finished
    needs neither a lock nor the right to write.

    Raises StoppedError for a store of another format.
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
        path = self.root / "studies" / f"{home.name}-{sha256_of(str(home))[:8]}.json"
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
                write_whole(path, json.dumps({**record, "time": now()}, indent=1))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            self.warn(f"{self.root} cannot be written: it does not know that {folder} uses it, and may be pruned")

    def ready(self) -> None:
        """Raises StoppedError, before any work, if what is made in `partial` could not be renamed to where it belongs.

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
            raise StoppedError(
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
        claim = self.root / "locks" / f"{nonce()}{CLAIM}"
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
        partial = self.root / "partial" / (next(iter(recipes)) if alone else f"group-{sha256_of(*recipes)[:16]}")
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
            write_manifest(folder, recipes[name], seconds)
        for name, folder in building.items():
            folder.rename(self._path(name))
        remove(partial)

    def _building(self, name: str) -> Path:
        return self.root / "partial" / f"{name}.building"

    def _set_aside(self, path: Path, damage: DamagedError) -> None:
        target = set_aside(path, self.root)
        self.warn(f"{path.name} is damaged ({damage}); set aside in {target} and made again")


def _has_state(partial: Path) -> bool:
    try:
        return any(file.name != GROUP for file in partial.iterdir())
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        return False  # It is no folder, or another process finished what was begun there.


def _disclaim(claim: Path, held: FileLock) -> None:
    """While it is held: without its claim the lock is nobody's."""
    remove(claim)
    held.release()
    Path(held.lock_file).unlink(missing_ok=True)
