"""Tests of `experiments/study/engine.py`: everything that can be done is, once, wherever it is done."""

import json
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from experiments.settings.schema import LauncherConfig
from experiments.stages import side_by_side
from experiments.stages.runs import DivergedError, Runner
from experiments.store.artifacts import Store
from experiments.store.manifest import Recipe
from experiments.study import engine
from experiments.study.engine import Failures, Place
from experiments.study.plan import Job
from synth.settings import UserError
from tests.experiments.said import Said

LAUNCHERS = [
    LauncherConfig(),
    LauncherConfig("joblib", {"n_jobs": 2}),
    LauncherConfig("submitit_local"),
    LauncherConfig("ray", {"ray": {"init": {"num_cpus": 2, "include_dashboard": False}}}),
]


def recipe(stage: str, name: str, *parents: Recipe) -> Recipe:
    return Recipe(stage, {"name": name}, tuple(parent.key for parent in parents), "code")


def write(recipes: tuple[Recipe, ...], parents: tuple[Recipe, ...], store: Store, runner: Runner) -> None:
    """Each artifact says which process made it and what it found in its parents."""

    def make(folders: dict[str, Path], partial: Path) -> None:
        time.sleep(0.2)
        for one in recipes:
            if one.key in folders:
                seen = [(store.get(parent).path / "made.json").read_text() for parent in parents]
                content = {"name": one.settings["name"], "process": os.getpid(), "parents": seen}
                (folders[one.key] / "made.json").write_text(json.dumps(content))

    store.fetch_all(recipes, make)


def diverge(store: Store, runner: Runner) -> None:
    raise DivergedError("tune bad: seed 0 diverged")


def stumble(store: Store, runner: Runner) -> None:
    raise TypeError("a mistake\nof two lines")


def fill_up(store: Store, runner: Runner) -> None:
    raise OSError(28, "No space left on device", "store")


def job(what: str, recipes: tuple[Recipe, ...], *parents: Recipe, make: Callable[..., None] | None = None) -> Job:
    return Job(what, recipes, parents, make or partial(write, recipes, parents))


BEFORE = recipe("pretrain", "before")
TUNED = tuple(recipe("tune", f"tuned {i}", BEFORE) for i in range(3))
MEASURED = tuple(recipe("measure", f"measured {i}", one) for i, one in enumerate(TUNED))
ALL = [
    job("pretrain", (BEFORE,)),
    job("tune two", TUNED[:2], BEFORE),
    job("tune bad", TUNED[2:], BEFORE, make=diverge),
    *(job(f"measure {i}", (one,), TUNED[i]) for i, one in enumerate(MEASURED)),
]


def do(root: Path, jobs: list[Job], launcher: LauncherConfig) -> tuple[Failures, list[str], list[Failures]]:
    reporter, news = Said(), list[Failures]()
    logs = root / "the logs' folder"
    place = Place(root / "store", 20.0, None)
    Store(place.store)
    failures = engine.do(jobs, place, launcher, logs, reporter, lambda failures: news.append(dict(failures)))
    return failures, reporter.lines, news


def available(launcher: LauncherConfig) -> None:
    try:
        engine.check(launcher)
    except UserError as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.name)
@pytest.mark.filterwarnings("ignore")  # Of the launchers' own libraries.
def test_what_can_be_done_is_done_and_what_cannot_says_why(launcher: LauncherConfig, tmp_path: Path) -> None:
    available(launcher)
    failures, lines, news = do(tmp_path, ALL, launcher)
    store = Store(tmp_path / "store")
    made = {one.settings["name"]: store.has(one) for one in (BEFORE, *TUNED, *MEASURED)}
    assert [name for name, there in made.items() if not there] == ["tuned 2", "measured 2"]
    assert {key: failure.error for key, failure in failures.items()} == dict.fromkeys(
        (TUNED[2].key, MEASURED[2].key), "tune bad: seed 0 diverged"
    )
    assert lines.count("warning: tune bad: seed 0 diverged") == 1
    assert news[-1] == failures
    content = json.loads((store.get(MEASURED[1]).path / "made.json").read_text())
    assert json.loads(content["parents"][0])["name"] == "tuned 1"
    assert (content["process"] == os.getpid()) == (launcher.name == "local")


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    ones = [recipe("measure", f"{i}") for i in range(6)]
    do(tmp_path, [job(f"measure {i}", (one,)) for i, one in enumerate(ones)], LauncherConfig("joblib", {"n_jobs": 2}))
    store = Store(tmp_path / "store")
    processes = {json.loads((store.get(one).path / "made.json").read_text())["process"] for one in ones}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_models_are_measured_side_by_side_with_blas_to_themselves(tmp_path: Path) -> None:
    both, threads = threading.Barrier(2), list[set[int]]()

    def measure(store: Store, runner: Runner) -> None:
        both.wait(60)  # Neither goes on without the other.
        np.ones((2, 2)) @ np.ones((2, 2))
        threads.append({one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"})

    before = threadpool_info()
    ones = [recipe("measure", f"{i}") for i in range(2)]
    failures, lines, _ = do(tmp_path, [job(one.name, (one,), make=measure) for one in ones], LauncherConfig())
    assert failures == {}
    assert sorted(line[:5] for line in lines) == ["[1/2]", "[2/2]"]
    assert all(found <= {1} for found in threads)
    assert len(threads) == 2
    assert threadpool_info() == before


def test_interrupted_no_other_model_is_begun(tmp_path: Path) -> None:
    begun: list[int] = []

    def measure(i: int, store: Store, runner: Runner) -> None:
        begun.append(i)
        if i == 0:
            raise KeyboardInterrupt
        time.sleep(0.5)

    ones = [recipe("measure", f"{i}") for i in range(40)]
    jobs = [job(one.name, (one,), make=partial(measure, i)) for i, one in enumerate(ones)]
    with pytest.raises(KeyboardInterrupt):
        do(tmp_path, jobs, LauncherConfig())
    assert len(begun) <= 2 * side_by_side.AT_ONCE


@pytest.mark.parametrize("launcher", LAUNCHERS[:2], ids=lambda launcher: launcher.name)
def test_a_mistake_in_the_program_is_one_line_and_a_trace(launcher: LauncherConfig, tmp_path: Path) -> None:
    wrong = recipe("tune", "wrong")
    jobs = [job("tune wrong", (wrong,), make=stumble), job("tune right", TUNED[:1])]
    failures, lines, _ = do(tmp_path, jobs, launcher)
    [failure] = failures.values()
    assert failure.error == "tune wrong: TypeError: a mistake"
    assert "in stumble" in failure.trace
    assert "warning: tune wrong: TypeError: a mistake" in lines
    assert Store(tmp_path / "store").has(TUNED[0])


@pytest.mark.parametrize("launcher", LAUNCHERS[:2], ids=lambda launcher: launcher.name)
def test_a_store_that_cannot_be_written_stops_everything(launcher: LauncherConfig, tmp_path: Path) -> None:
    jobs = [job("pretrain", (BEFORE,), make=fill_up), *ALL[1:]]
    with pytest.raises(OSError, match="No space left"):
        do(tmp_path, jobs, launcher)
    assert not any(Store(tmp_path / "store").has(one) for one in TUNED)


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (
            LauncherConfig("slrm"),
            "launcher.name=slrm: must be one of local, joblib, submitit_local, submitit_slurm, ray",
        ),
        (
            LauncherConfig("joblib", {"jobs": 2}),
            "launcher.options.jobs=2: Key 'jobs' not in 'JobLibLauncherConf'; joblib has n_jobs,",
        ),
        (
            LauncherConfig("submitit_slurm", {"timeout_min": "long"}),
            "launcher.options.timeout_min=long: Value 'long' of type 'str' could not be converted to Integer",
        ),
    ],
)
def test_a_launcher_that_cannot_be_is_one_line(launcher: LauncherConfig, message: str) -> None:
    with pytest.raises(UserError) as error:
        engine.check(launcher)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_launcher_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine.EXTRAS, "ray", ("ray", "hydra_plugins.not_there"))
    with pytest.raises(UserError, match=r"launcher=ray is not installed; python -m pip install -e '.\[ray\]'"):
        engine.check(LauncherConfig("ray"))


def test_a_job_waits_for_what_it_needs_and_for_nothing_else(tmp_path: Path) -> None:
    """Of two chains, the second is done to its end while the first model is still being trained."""
    end, order = threading.Event(), list[str]()

    def make(name: str, store: Store, runner: Runner) -> None:
        if name == "slow":
            assert end.wait(60), "nothing was begun beside it"
        order.append(name)
        if name == "measured":
            end.set()

    slow, quick = recipe("pretrain", "slow"), recipe("pretrain", "quick")
    after, measured = recipe("tune", "after", quick), recipe("measure", "measured", quick)
    last = recipe("paths", "last", slow, after)
    given = [(slow, ()), (quick, ()), (after, (quick,)), (measured, (after,)), (last, (slow, after))]
    jobs = [job(one.name, (one,), *of, make=partial(make, one.settings["name"])) for one, of in given]
    assert do(tmp_path, jobs, LauncherConfig())[0] == {}
    assert order == ["quick", "after", "measured", "slow", "last"]
    assert [[one.recipes[0].settings["name"] for one in level] for level in engine._levels(jobs)] == [
        ["slow", "quick"],
        ["after"],
        ["measured", "last"],
    ]
