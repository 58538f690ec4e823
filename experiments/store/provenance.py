"""What a result was made by: the code it can reach, the libraries, the machine, the commit."""

import ast
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from experiments import numerics

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("synth", "models", "analysis", "experiments")
NUMERIC_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
LIBRARIES = (*NUMERIC_LIBRARIES, "orbax-checkpoint", "safetensors", "pandas", "pyarrow", "matplotlib", "hydra-core")


REGISTRIES = frozenset(
    {"analysis.edits", "analysis.suite", "models.training.methods", "synth.families", "synth.styles"}
)
"""Modules that list rows: of these the ones that are used count, as `code_version` is told."""
SILENT = ("experiments.store", "experiments.progress")
"""Packages and modules that give no number: what keeps and what shows."""


@functools.cache
def imported(module: str) -> frozenset[str]:
    """The project's own modules that `module` imports, anywhere in its source."""
    found = set()
    for node in ast.walk(ast.parse(_source(module).read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name.split(".")[0] in PACKAGES and _exists(name)}
    return frozenset(found)


def reachable(module: str) -> set[str]:
    """`module` and every module of the project its imports lead to, but REGISTRIES and what is SILENT."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        silent = any(name == one or name.startswith(f"{one}.") for one in SILENT)
        if name not in seen and name not in REGISTRIES and not silent:
            seen.add(name)
            todo += imported(name)
    return seen


@functools.cache
def code_version(*modules: str) -> str:
    """A hash of all the code that `modules` can reach, and of the numeric libraries' versions.

    Comments, docstrings and layout do not count, so that explaining code better does not
    throw results away; any other change does, so that old results are never passed off as
    those of new code.
    """
    digest = hashlib.sha256()
    for name in sorted(set().union(*map(reachable, modules))):
        digest.update(f"{name}\n{_code(name)}\n".encode())
    for library in NUMERIC_LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def _code(module: str) -> str:
    """A hash of what it does."""
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_docstring(s)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def environment() -> dict[str, Any]:
    """Versions, device, what is said about rounding, and commit, as recorded in `env.json`."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "rounding": numerics.rounding(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "git": {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))},
    }


def rounds_otherwise(before: Any, now: dict[str, Any]) -> list[str]:
    """What of an `environment` changes rounding and is not as it was `before`: "name is X there and Y here" each."""
    said = []
    for part in ("device", "rounding"):
        there = before.get(part) if isinstance(before, dict) else None
        for name, value in now[part].items():
            if isinstance(there, dict) and name in there and there[name] != value:
                said.append(f"{part}.{name} is {there[name]} there and {value} here")
    return said


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _source(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _exists(module: str) -> bool:
    return _source(module).is_file()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="replace").strip()
