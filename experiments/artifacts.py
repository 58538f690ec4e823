"""Artifacts by content address: made once, checked when read, never half there.

An artifact's key is a hash of its stage, the stage's settings, its parents' keys and the
version of the code that makes it (`provenance.code_version`). It is built in a temporary
folder and renamed into place with a manifest of sizes and SHA-256 sums.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

MANIFEST = "manifest.json"


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

    @property
    def key(self) -> str:
        content = json.dumps([self.stage, self.settings, self.parents, self.code], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class DamagedError(Exception):
    """An artifact that is not what its manifest says."""


class Store:
    """A folder of artifacts that several processes may share.

    `warn` is called with one line when something had to be set aside.
    """

    def __init__(self, root: Path, warn: Callable[[str], None] = print) -> None:
        self.root, self.warn = root, warn
        for folder in ("artifacts", "partial", "locks"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def fetch(self, recipe: Recipe, make: Callable[[Path, Path], None]) -> Artifact:
        """The artifact of `recipe`, made by `make(folder, partial)` unless it is there and whole.

        `make` writes its files to `folder`; what it needs to go on after a crash it keeps in
        `partial`, which lives until the artifact is finished. Another process that wants the
        same artifact waits for this one.
        """
        path = self.root / "artifacts" / f"{recipe.stage}-{recipe.key}"
        with FileLock(self.root / "locks" / f"{path.name}.lock"):
            if path.exists():
                try:
                    verify(path)
                    return Artifact(recipe.key, path)
                except DamagedError as damage:
                    self._set_aside(path, damage)
            partial = self.root / "partial" / path.name
            partial.mkdir(parents=True, exist_ok=True)
            building = self.root / "partial" / f"{path.name}.building"
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            make(building, partial)
            _write_manifest(building, recipe)
            building.rename(path)
            shutil.rmtree(partial, ignore_errors=True)
        return Artifact(recipe.key, path)

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact is there (not whether it is whole)."""
        return (self.root / "artifacts" / f"{recipe.stage}-{recipe.key}").exists()

    def _set_aside(self, path: Path, damage: DamagedError) -> None:
        target = self.root / "damaged" / f"{path.name}-{time.time_ns()}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        self.warn(f"{path.name} is damaged ({damage}); set aside in {target} and made again")


def verify(path: Path) -> None:
    """Raises DamagedError unless every file of the artifact is as its manifest says."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
        recorded = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DamagedError("its manifest cannot be read") from None
    for name, (size, digest) in recorded.items():
        with suppress(OSError):
            content = (path / name).read_bytes()
            if len(content) == size and hashlib.sha256(content).hexdigest() == digest:
                continue
        raise DamagedError(f"{name} is not what was written")


def _write_manifest(folder: Path, recipe: Recipe) -> None:
    files = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        files[file.name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {
        "stage": recipe.stage,
        "key": recipe.key,
        "settings": recipe.settings,
        "parents": list(recipe.parents),
        "code": recipe.code,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": files,
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Writes a text file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
