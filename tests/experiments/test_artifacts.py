"""Tests of `experiments/artifacts.py`: made once, checked, shared, never half there."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from experiments.artifacts import Artifact, DamagedError, Recipe, Store, verify

RECIPE = Recipe("stage", {"b": 1, "a": [1.5, "x"]}, ("parent",), "code")


def make(folder: Path, partial: Path) -> None:
    (folder / "data.txt").write_text("content")


def no_make(folder: Path, partial: Path) -> None:
    raise AssertionError("made again")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return Store(tmp_path / "store", warnings.append)


def test_an_artifact_is_made_once(store: Store) -> None:
    first = store.fetch(RECIPE, make)
    assert (first.path / "data.txt").read_text() == "content"
    assert store.fetch(RECIPE, no_make) == first
    assert json.loads((first.path / "manifest.json").read_text())["settings"] == RECIPE.settings


@pytest.mark.parametrize(
    "other",
    [
        Recipe("stage2", RECIPE.settings, RECIPE.parents, RECIPE.code),
        Recipe("stage", {"b": 2, "a": [1.5, "x"]}, RECIPE.parents, RECIPE.code),
        Recipe("stage", RECIPE.settings, ("other",), RECIPE.code),
        Recipe("stage", RECIPE.settings, RECIPE.parents, "new code"),
    ],
)
def test_anything_that_matters_changes_the_key(other: Recipe) -> None:
    assert other.key != RECIPE.key
    assert Recipe("stage", {"a": [1.5, "x"], "b": 1}, RECIPE.parents, RECIPE.code).key == RECIPE.key


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "manifest", "no manifest"])
def test_a_damaged_artifact_is_set_aside_and_made_again(harm: str, store: Store, warnings: list[str]) -> None:
    path = store.fetch(RECIPE, make).path
    data, manifest = path / "data.txt", path / "manifest.json"
    if harm == "flip":
        data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    elif harm == "truncate":
        data.write_text("con")
    elif harm == "remove":
        data.unlink()
    elif harm == "manifest":
        manifest.write_text("{")
    else:
        manifest.unlink()
    with pytest.raises(DamagedError):
        verify(path)
    again = store.fetch(RECIPE, make)
    verify(again.path)
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert len(list((store.root / "damaged").iterdir())) == 1


def test_a_make_that_fails_leaves_no_artifact_but_keeps_its_partial_state(store: Store) -> None:
    def fail(folder: Path, partial: Path) -> None:
        (folder / "data.txt").write_text("half")
        (partial / "state").write_text("so far")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        store.fetch(RECIPE, fail)
    assert not store.has(RECIPE)

    def go_on(folder: Path, partial: Path) -> None:
        assert not list(folder.iterdir())
        (folder / "data.txt").write_text((partial / "state").read_text() + ", done")

    assert (store.fetch(RECIPE, go_on).path / "data.txt").read_text() == "so far, done"
    assert not list((store.root / "partial").iterdir())


def slow_fetch(root: Path, log: Path) -> None:
    def make_slowly(folder: Path, partial: Path) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        make(folder, partial)

    Store(root).fetch(RECIPE, make_slowly)


def test_processes_share_a_store_and_a_killed_one_does_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    workers = [context.Process(target=slow_fetch, args=(tmp_path / "store", log)) for _ in range(4)]
    for worker in workers:
        worker.start()
    while not log.exists() or not log.read_text():
        time.sleep(0.01)
    first = int(log.read_text().split()[0])
    os.kill(first, signal.SIGKILL)
    for worker in workers:
        worker.join()
    assert sorted(worker.exitcode or 0 for worker in workers) == [-signal.SIGKILL, 0, 0, 0]
    # Made by the one that was killed and, once, by one that waited.
    assert len(log.read_text().split()) == 2
    verify(Store(tmp_path / "store").fetch(RECIPE, no_make).path)


def test_an_artifact_is_its_key_and_its_path(store: Store) -> None:
    artifact = store.fetch(RECIPE, make)
    assert artifact == Artifact(RECIPE.key, store.root / "artifacts" / f"stage-{RECIPE.key}")
