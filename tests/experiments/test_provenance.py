"""Tests of `experiments/store/provenance.py`: the version of a stage follows its code, not its comments."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.suite import MEASUREMENTS
from experiments.store import provenance


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a three-module project and gives the version of its `experiments.stage`."""

    def version(base: str = "x = 1", other: str = "y = 1") -> str:
        for name, source in {
            "synth/__init__": "",
            "synth/base": base,
            "synth/other": other,
            "experiments/__init__": "",
            "experiments/stage": "from synth.base import x\n",
        }.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
        provenance.code_version.cache_clear()
        provenance.imported.cache_clear()
        provenance._code.cache_clear()
        return provenance.code_version("experiments.stage")

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    yield version  # type: ignore[misc]
    provenance.code_version.cache_clear()
    provenance.imported.cache_clear()
    provenance._code.cache_clear()


def test_code_that_is_reached_counts(project: Callable[..., str]) -> None:
    assert project() != project(base="x = 2")


def test_code_that_is_not_reached_does_not(project: Callable[..., str]) -> None:
    assert project() == project(other="y = 2")


def test_comments_docstrings_and_layout_do_not(project: Callable[..., str]) -> None:
    assert project() == project(base='"""Explained."""\n\n# At length.\nx = (\n    1\n)')


def test_libraries_count(project: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = project()
    monkeypatch.setattr(provenance.importlib.metadata, "version", lambda library: "0.0")
    assert project() != before


def test_measuring_is_no_part_of_training() -> None:
    for stage in ("pretrain", "tune"):
        reached = provenance.reachable(f"experiments.stages.{stage}")
        assert "models.training.loop" in reached
        assert not any(name.startswith("analysis") for name in reached)


def test_no_stage_reaches_the_terminal_the_store_or_a_registry() -> None:
    for stage in ("initial", "pretrain", "tune", "measure", "responses", "paths"):
        reached = provenance.reachable(f"experiments.stages.{stage}")
        assert reached.isdisjoint(provenance.REGISTRIES)
        assert not any(name.startswith(provenance.SILENT) for name in reached)
        assert "experiments.settings.config" not in reached


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_no_measurement_reaches_the_words_of_metrics(name: str) -> None:
    reached = provenance.reachable(MEASUREMENTS[name].measure.__module__)
    assert "analysis.rows" in reached
    assert reached.isdisjoint({"analysis.metric", "analysis.metrics"})


def test_pretraining_reaches_no_method() -> None:
    reached = provenance.reachable("experiments.stages.pretrain")
    assert not any(name.startswith(("models.training.method", "models.training.tuning")) for name in reached)
    assert reached.isdisjoint({"models.fork", "synth.tuning_data"})


def test_environment_names_versions_device_and_commit() -> None:
    found = provenance.environment()
    assert {"python", "platform", "device", "libraries", "git"} <= set(found)
    assert all(found["libraries"].values())
