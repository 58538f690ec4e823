"""What an artifact is made from, what it then consists of, and whether it is still that."""

import functools
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.store.files import DAMAGE, problem, read_file, sum_of, write_whole

MANIFEST = "manifest.json"
FIELDS = ("stage", "key", "settings", "parents", "code", "made", "seconds", "files", "sha256")
"""Of a manifest: `seconds` is null where making went on after a stop, `sha256` is of the others' text."""


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
        # As JSON has them: names of stages, keys and hashes have nothing to escape.
        parents = ", ".join(f'"{key}"' for key in self.parents)
        content = f'"{self.stage}" {settings} [{parents}] "{self.code}"'
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Of the artifact's folder."""
        return f"{self.stage}-{self.key}"


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
        whole = "sha256" not in manifest or manifest["sha256"] == sha256_of(_text(body))
        if whole and text == _text(manifest) and set(manifest) <= set(FIELDS):
            return manifest
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
    except (ValueError, AttributeError, TypeError):
        pass
    raise DamagedError("its manifest cannot be read")


def write_manifest(folder: Path, recipe: Recipe, seconds: float | None) -> None:
    files = {file.name: sum_of(file) for file in sorted(folder.iterdir())}
    manifest = {
        "stage": recipe.stage,
        "key": recipe.key,
        "settings": recipe.settings,
        "parents": list(recipe.parents),
        "code": recipe.code,
        "made": now(),
        "seconds": seconds,
        "files": files,
    }
    write_whole(folder / MANIFEST, _text({**manifest, "sha256": sha256_of(_text(manifest))}))


def sha256_of(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
