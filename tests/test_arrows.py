"""The packages import one another in one direction, and outside libraries stay where they belong."""

import ast
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from experiments.store.provenance import LIBRARIES

ROOT = Path(__file__).parents[1]
ORDER = ("synth", "models", "analysis", "experiments")
SOURCES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that the file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def importers(library: str) -> set[str]:
    return {
        str(path.relative_to(ROOT)) for path in SOURCES if any(name.split(".")[0] == library for name in imports(path))
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    level = ORDER.index(path.relative_to(ROOT).parts[0])
    beyond = {name for name in imports(path) if name.split(".")[0] in ORDER[level + 1 :]}
    assert not beyond


def test_ids_of_special_tokens_are_asked_of_a_vocabulary() -> None:
    """Those of grammar worlds are constants for `synth` alone."""
    found = set()
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] in ("models", "analysis"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module in ("synth", "synth.vocab"):
                    found |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert {name for name in found if "vocab" in name} == {"synth.vocab.MARKS", "synth.vocab.Marks"}


def test_flax_is_a_detail_of_one_file() -> None:
    assert importers("flax") == {"models/transformer.py"}


@pytest.mark.parametrize("library", ["hydra", "omegaconf", "orbax", "filelock", "pathlib", "rich"])
def test_side_effects_live_in_experiments(library: str) -> None:
    assert all(name.startswith("experiments/") for name in importers(library))


def test_matplotlib_is_for_figures() -> None:
    assert all(name.startswith("experiments/figures/") for name in importers("matplotlib"))


def test_what_is_installed_with_the_project_is_what_its_packages_import() -> None:
    """Of what tests alone need no result can depend."""
    used = {name.split(".")[0] for path in SOURCES for name in imports(path)}
    distributions = packages_distributions()
    names = {one.lower() for name in used for one in distributions.get(name, [])}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split("[>=<]", line)[0] for line in project["dependencies"]}
    # hydra-core brings omegaconf, jinja2 markupsafe, jax jaxlib.
    assert names - {"omegaconf", "markupsafe", "nullspace"} == needed
    assert set(LIBRARIES) - {"jaxlib"} <= needed
