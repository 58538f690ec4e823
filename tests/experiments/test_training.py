"""Tests of `experiments/stages/training.py`: stopping anywhere loses nothing but time."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from experiments.command import command
from experiments.progress import Meter, PlainConsole, Reporter
from experiments.settings.commands import DataConfig
from experiments.stages import side_by_side
from experiments.stages.checkpoint import MismatchError
from experiments.stages.files import guard, snapshot
from experiments.stages.runs import DivergedError, look_steps
from experiments.store.manifest import DamagedError
from models.training.watch import WatchConfig
from tests.experiments import resumable
from tests.experiments.said import Said

pytestmark = pytest.mark.usefixtures("with_optax")

FEW = 200
"""Steps of a training in this process: four chunks."""
SNAPSHOTS = (30, 100, FEW)
Start = Callable[..., "subprocess.Popen[str]"]


def interrupted(reports: int, monkeypatch: pytest.MonkeyPatch, store: Path, **settings: Any) -> None:
    """A training whose progress, shown so often, raises KeyboardInterrupt."""
    left = [reports]

    def update(self: Meter, step: int, note: str = "") -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "update", update)
        with pytest.raises(KeyboardInterrupt):
            resumable.run(store, steps=FEW, **settings)


# In processes of their own, that are killed.


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts the stage in a process; all of them share what they compile."""
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def begin(store: Path, *options: str) -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", "tests.experiments.resumable", str(store), *options]
        return subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **compiled}
        )

    return begin


@pytest.fixture(scope="module")
def uninterrupted(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(start, tmp_path_factory.mktemp("whole"))


def wait_for_training(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("at "):
            return
    raise AssertionError(process.communicate()[1])


def finish(start: Start, store: Path) -> Path:
    """The artifact, run or gone on with to its end."""
    out, errors = start(store).communicate()
    assert out, errors
    return Path(out.splitlines()[-1])


def same_files(one: Path, other: Path) -> None:
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    for file in ("log.parquet", "curves.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(one / file), pd.read_parquet(other / file))


def stop_at_random(start: Start, store: Path, moments: random.Random, how: signal.Signals = signal.SIGKILL) -> None:
    process = start(store, "pause=0.2")
    wait_for_training(process)
    time.sleep(moments.uniform(0.0, 0.3))
    process.send_signal(how)
    process.communicate()
    assert process.returncode == -how or (how == signal.SIGINT and process.returncode > 0)


def test_killed_at_any_moment_and_while_saving_it_gives_the_same_bits(
    start: Start, uninterrupted: Path, tmp_path: Path
) -> None:
    dying, moments = start(tmp_path, "dies_saving=200"), random.Random(0)
    dying.communicate()
    assert dying.returncode == -signal.SIGKILL
    assert latest(tmp_path) == 150
    assert list(tmp_path.glob("partial/slow-*/200.*"))
    for how in (signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
        stop_at_random(start, tmp_path, moments, how)
    assert 150 <= latest(tmp_path) < resumable.STEPS
    same_files(uninterrupted, finish(start, tmp_path))


@pytest.mark.slow
def test_killed_twenty_times_it_gives_the_same_bits(start: Start, uninterrupted: Path, tmp_path: Path) -> None:
    moments = random.Random(1)
    for _ in range(20):
        stop_at_random(start, tmp_path, moments)
    assert latest(tmp_path) < resumable.STEPS
    same_files(uninterrupted, finish(start, tmp_path))


def latest(store: Path) -> int:
    """The last saved state."""
    return max(int(path.name) for path in store.glob("partial/slow-*/*") if path.name.isdigit())


def test_on_a_full_disk_training_goes_on_and_once_there_is_space_gives_the_same_bits(
    start: Start, uninterrupted: Path, tmp_path: Path
) -> None:
    full = start(tmp_path, "full_after=500", "command=yes")
    out, errors = full.communicate()
    assert full.returncode == 1
    assert errors.startswith("error: files: File too large; raise the size that a file may have, ulimit -f; nothing")
    said = [line for line in out.splitlines() if not line.startswith("at ")]
    # What is written when there is no space left any more is lost too.
    before = latest(tmp_path)
    assert before in (450, 500)
    assert said == [
        "slow: 1000 steps, compiling",
        *(
            f"warning: the state of step {step} could not be saved (File too large); training goes on"
            for step in range(before + 50, 950, 50)
        ),
        next(line for line in said if line.startswith("slow: step 1000/1000")),
        "warning: the state of step 950 could not be saved (File too large); training goes on",
    ]
    assert sorted(path.name for path in tmp_path.glob("partial/slow-*/[0-9]*") if "." not in path.parent.name) == [
        str(before - 50),
        str(before),
    ]
    again = start(tmp_path)
    out, errors = again.communicate()
    assert f"slow: going on from step {before}" in out, errors
    same_files(uninterrupted, Path(out.splitlines()[-1]))


@pytest.mark.slow
def test_on_a_file_system_without_space_it_is_the_same(start: Start, uninterrupted: Path, tmp_path: Path) -> None:
    own = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=300k tmpfs {tmp_path}"
    if not shutil.which("unshare") or subprocess.run([*own, mount], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    run = f"{sys.executable} -m tests.experiments.resumable {tmp_path}/store"
    # The disk is full before training, but for what a state or two takes.
    fill = f"head -c 180k /dev/zero > {tmp_path}/other"
    kept = f"ls -d {tmp_path}/store/partial/slow-*[0-9a-f]/*"
    script = f"{mount} && {fill} && {run} command=yes; echo code $?; {kept}; rm {tmp_path}/other; {run}"
    save = f"cp -r {tmp_path}/store/artifacts/slow-* {tmp_path.parent}/out"
    done = subprocess.run([*own, f"{script} && {save}"], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("at ")]
    assert "code 1" in lines, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr
    first = lines[: lines.index("code 1")]
    warnings = [line for line in first if line.startswith("warning: ")]
    assert warnings
    assert all("could not be saved (No space left on device); training goes on" in line for line in warnings)
    assert len(first) == len(warnings) + 2
    states = lines[lines.index("code 1") + 1 :][:2]
    assert all(Path(state).name.isdigit() for state in states)
    assert f"slow: going on from step {max(int(Path(state).name) for state in states)}" in lines
    same_files(uninterrupted, tmp_path.parent / "out")


# In this process.


@pytest.fixture(scope="module")
def whole(with_optax: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resumable.run(tmp_path_factory.mktemp("few"), steps=FEW).path


@pytest.fixture(scope="module")
def three(with_optax: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs together."""
    return resumable.run(tmp_path_factory.mktemp("three"), runs=3, steps=FEW).path


def test_training_went_somewhere_and_every_file_has_every_run_in_order(three: Path) -> None:
    log = pd.read_parquet(three / "log.parquet")
    assert set(log) == {"step", "seed", "loss", "error", "spoilt", "gradient_norm", "update_norm", "distance"}
    assert log["step"].tolist() == [step for step in range(FEW) for _ in range(3)]
    assert log["seed"].tolist() == [0, 1, 2] * FEW
    assert np.isfinite(log).all(axis=None)
    ends = log.groupby("seed")["loss"]
    assert (ends.apply(lambda loss: loss[-50:].mean()) < 0.9 * ends.apply(lambda loss: loss[:50].mean())).all()
    curves = pd.read_parquet(three / "curves.parquet")
    assert list(curves.columns) == ["step", "seed", "family", "norm"]
    assert curves["step"].tolist() == [step for step in (0, 50, 100, 150, FEW) for _ in range(6)]
    assert curves["seed"].tolist() == [0, 0, 1, 1, 2, 2] * 5
    assert curves["family"].tolist() == ["sum", "root"] * 15
    first, last = curves[curves["step"] == 0], curves[curves["step"] == FEW]
    np.testing.assert_allclose(first["norm"], [6.4, 0.8] * 3, rtol=1e-6)
    seen = resumable.look(load_file(three / "weights.safetensors"))["norm"]
    np.testing.assert_allclose(last["norm"], seen.ravel(), rtol=1e-6)
    speed = pd.read_parquet(three / "speed.parquet")
    assert speed["step"].tolist() == [50, 100, 150, 200]
    assert speed["first_run"].tolist() == [0] * 4
    assert (speed[["seconds", "samples_per_second", "tokens_per_second"]] > 0).all(axis=None)


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(4, 2, [0, 2, 4]), (5, 2, [0, 2, 4, 5]), (5, 0, [0, 5]), (2, 9, [0, 2])]
)
def test_models_are_looked_at_before_every_so_often_and_at_the_end(steps: int, every: int, expected: list[int]) -> None:
    assert look_steps(steps, every) == expected


def snapshots(artifact: Path) -> dict[int, np.ndarray]:
    return {step: load_file(artifact / snapshot(step))["W_E"] for step in SNAPSHOTS}


@pytest.fixture(scope="module")
def followed(with_optax: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resumable.run(tmp_path_factory.mktemp("followed"), steps=FEW, snapshots=SNAPSHOTS).path


def test_snapshots_are_the_weights_on_the_way_and_change_nothing(whole: Path, followed: Path) -> None:
    same_files(whole, followed)
    kept = snapshots(followed)
    np.testing.assert_array_equal(kept[FEW], load_file(followed / "weights.safetensors")["W_E"])
    curves = pd.read_parquet(followed / "curves.parquet")
    seen = resumable.look({"W_E": kept[100]})["norm"]
    np.testing.assert_array_equal(curves.loc[curves["step"] == 100, "norm"], seen.ravel())
    # Of step 30, at which nothing else stops: between what was seen before and after.
    norms = [curves.loc[(curves["step"] == step) & (curves["family"] == "sum"), "norm"].iloc[0] for step in (0, 50)]
    assert min(norms) < np.abs(kept[30][0]).sum() < max(norms)


@pytest.mark.parametrize("reports", [1, 4])
def test_a_stop_loses_no_snapshot(
    followed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reports: int
) -> None:
    """Before any state is saved, and once two snapshots are behind."""
    interrupted(reports, monkeypatch, tmp_path, snapshots=SNAPSHOTS)
    done = resumable.run(tmp_path, steps=FEW, snapshots=SNAPSHOTS).path
    same_files(followed, done)
    for step, weights in snapshots(followed).items():
        np.testing.assert_array_equal(snapshots(done)[step], weights)


def flip(file: Path) -> None:
    """One byte of its weights, into those of other weights that are finite."""
    content = bytearray(file.read_bytes())
    content[-40] ^= 1  # Of the last weight but one, before the sum of 32 bytes.
    file.write_bytes(content)


@pytest.mark.parametrize(
    "spoil", [flip, Path.unlink, lambda file: os.truncate(file, 20)], ids=["flip", "gone", "short"]
)
@pytest.mark.parametrize(("step", "begins"), [(30, None), (100, 50)])
def test_a_snapshot_that_is_not_what_was_written_is_made_again(
    followed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    step: int,
    begins: int | None,
) -> None:
    """From the last state before it, or from the beginning."""
    interrupted(4, monkeypatch, tmp_path, snapshots=SNAPSHOTS)
    assert latest(tmp_path) == 100
    spoil(next(tmp_path.glob(f"partial/slow-*/snapshot-{step}")))
    said = Said()
    done = resumable.run(tmp_path, steps=FEW, snapshots=SNAPSHOTS, reporter=said).path
    warned = [line for line in said.lines if line.startswith("warning")]
    assert len(warned) == 1
    assert warned[0].startswith(f"warning: slow: the snapshot of step {step} cannot be read (")
    assert warned[0].endswith("); going on from before it")
    expected = [f"slow: going on from step {begins}"] if begins else []
    assert [line for line in said.lines if line.startswith("slow: going on")] == expected
    same_files(followed, done)
    for at, weights in snapshots(followed).items():
        np.testing.assert_array_equal(snapshots(done)[at], weights)


def test_a_snapshot_that_changes_while_training_goes_on_reaches_no_artifact(
    followed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    update = Meter.update

    def spoils(self: Meter, step: int, note: str = "") -> None:
        if step == 150:
            flip(next(tmp_path.glob("partial/slow-*/snapshot-100")))
        update(self, step, note)

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "update", spoils)
        with pytest.raises(DamagedError, match=r"slow: the snapshot of step 100 cannot be read \(it is not what was"):
            resumable.run(tmp_path, steps=FEW, snapshots=SNAPSHOTS)
    assert not list(tmp_path.glob("artifacts/*"))
    done = resumable.run(tmp_path, steps=FEW, snapshots=SNAPSHOTS).path
    np.testing.assert_array_equal(snapshots(done)[100], snapshots(followed)[100])


def test_runs_in_shares_have_snapshots_of_every_run(tmp_path: Path) -> None:
    kept = snapshots(resumable.run(tmp_path, runs=3, steps=FEW, at_once=2, snapshots=SNAPSHOTS).path)
    assert all(weights.shape == (3, 8, 8) for weights in kept.values())
    assert len({weights[run].tobytes() for weights in kept.values() for run in range(3)}) == 9


def test_a_share_of_which_none_is_left_keeps_the_snapshots_before(tmp_path: Path) -> None:
    """As beside others, which go on."""
    together, apart = (
        snapshots(
            resumable.run(tmp_path / str(size), steps=FEW, at_once=size, breaks={1: 0.4}, snapshots=SNAPSHOTS).path
        )
        for size in (2, 1)
    )
    np.testing.assert_allclose(apart[SNAPSHOTS[0]], together[SNAPSHOTS[0]], rtol=0, atol=1e-5)
    assert [np.isfinite(apart[step]).all(axis=(1, 2)).tolist() for step in SNAPSHOTS] == [
        [True, True],
        [True, False],
        [True, False],
    ]


def test_runs_in_shares_are_the_runs_together_up_to_rounding(three: Path, tmp_path: Path) -> None:
    shares = resumable.run(tmp_path, runs=3, steps=FEW, at_once=2).path
    for file, keys in (("log.parquet", ["step", "seed"]), ("curves.parquet", ["step", "seed", "family"])):
        one, other = (pd.read_parquet(folder / file) for folder in (three, shares))
        pd.testing.assert_frame_equal(one[keys], other[keys])
        # Products of 2 and of 3 matrices round differently, 6e-8 a step; losses end near 0.
        pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-6)
    together, apart = (load_file(folder / "weights.safetensors")["W_E"] for folder in (three, shares))
    np.testing.assert_allclose(apart, together, rtol=0, atol=1e-5)
    assert pd.read_parquet(shares / "speed.parquet")["first_run"].tolist() == [0] * 4 + [2] * 4


def test_runs_in_shares_go_on_where_each_share_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninterrupted = resumable.run(tmp_path / "whole", runs=3, steps=FEW, at_once=2).path
    interrupted(7, monkeypatch, tmp_path / "stopped", runs=3, at_once=2)
    again = Said()
    stopped = resumable.run(tmp_path / "stopped", runs=3, steps=FEW, at_once=2, reporter=again).path
    assert [line for line in again.lines if "going on" in line] == [
        "slow: going on from step 150",
        "slow: going on from step 100",
    ]
    same_files(uninterrupted, stopped)


def test_how_many_runs_are_trained_at_once_may_change_before_going_on(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at_once in (2, None, 1):
        interrupted(3, monkeypatch, tmp_path, runs=3, at_once=at_once)
    same_files(three, resumable.run(tmp_path, runs=3, steps=FEW).path)


def test_one_of_several_trainings_that_is_stopped_keeps_its_state(
    whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when another one beside it is interrupted."""
    monkeypatch.setattr(side_by_side.stopping, "is_set", iter([False, False, True]).__next__)
    with pytest.raises(CancelledError, match="was stopped at step 100"):
        resumable.run(tmp_path, steps=FEW, checkpoint_seconds=1e6)
    monkeypatch.undo()
    assert list(tmp_path.glob("partial/slow-*/100"))
    same_files(whole, resumable.run(tmp_path, steps=FEW).path)


def test_states_are_saved_no_more_often_than_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(4, monkeypatch, tmp_path, checkpoint_seconds=1e6)
    assert not list(tmp_path.glob("partial/slow-*/[0-9]*"))


def test_a_state_of_something_else_is_one_line_of_the_command_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(3, monkeypatch, tmp_path)
    with pytest.raises(MismatchError):
        resumable.run(tmp_path, steps=FEW + 4)
    capsys.readouterr()
    code = command("any", None, DataConfig, lambda *_: resumable.run(tmp_path, runs=3, steps=FEW) and None, [])
    assert code == 1
    folder = next(tmp_path.glob("partial/slow-*[0-9a-f]"))
    assert capsys.readouterr().err == (
        f"error: the state of step 100 in {folder} is of other settings: log.distance is (200, 2) there and "
        "(200, 3) here; train elsewhere or remove the folder\n"
    )
    again = Said()
    resumable.run(tmp_path, steps=FEW, reporter=again)
    assert "slow: going on from step 100" in again.lines


# Runs that diverge, and a guard.


def test_a_loss_that_is_not_finite_stops_with_step_and_seed_and_keeps_the_last_state(tmp_path: Path) -> None:
    with pytest.raises(DivergedError) as caught:
        resumable.run(tmp_path, steps=FEW, learning_rate=float("inf"))
    assert str(caught.value) == (
        "slow: seed 0 diverged at step 1: error is not finite; no run is left; no state was saved yet; "
        "lower the stage's learning_rate"
    )
    assert not list((tmp_path / "artifacts").iterdir())


def test_a_last_step_that_breaks_the_weights_is_seen(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="seed 0 diverged at step 0: its weights are not finite; no run is left"):
        resumable.run(tmp_path, steps=1, learning_rate=float("inf"))


def test_a_run_that_breaks_late_keeps_the_state_before(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"at step 100: spoilt is not finite.* the state of step 100 is kept"):
        resumable.run(tmp_path, steps=FEW, breaks={0: 0.5, 1: 0.5})
    assert next(tmp_path.glob("partial/slow-*/100")).is_dir()
    assert not list((tmp_path / "artifacts").iterdir())


def test_one_seed_that_breaks_does_not_take_the_other_with_it(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(4, monkeypatch, tmp_path, breaks={0: 0.5}, reporter=Said())
    again = Said()
    artifact = resumable.run(tmp_path, steps=FEW, breaks={0: 0.5}, reporter=again)
    # It is said once in each process, after going on too.
    assert [line for line in again.lines if "diverged" in line] == [
        "warning: slow: seed 0 diverged at step 100: spoilt is not finite; the others go on; "
        "lower the stage's learning_rate"
    ]
    assert "slow: going on from step 150" in again.lines
    broken, sound = (load_file(folder / "weights.safetensors")["W_E"] for folder in (artifact.path, whole))
    assert np.isnan(broken[0]).all()
    assert (broken[1] == sound[1]).all()


def test_a_seed_that_breaks_in_a_share_has_its_own_number(tmp_path: Path) -> None:
    said = Said()
    path = resumable.run(tmp_path, runs=3, steps=FEW, at_once=2, breaks={1: 0.5}, reporter=said).path
    assert [line.split(";")[0] for line in said.lines if "diverged" in line] == [
        "warning: slow: seed 1 diverged at step 100: spoilt is not finite"
    ]
    weights = load_file(path / "weights.safetensors")["W_E"]
    assert np.isnan(weights).all(axis=(1, 2)).tolist() == [False, True, False]


def complied(*shares: float) -> dict[str, np.ndarray]:
    return {"complied": np.stack([np.zeros(len(shares)), np.array(shares)], axis=1)}


RUNS = [f"seed {seed}" for seed in range(4)]


def judged(config: WatchConfig, *looks: tuple[int, int, dict[str, np.ndarray]]) -> list[str]:
    said = Said()
    judge = guard(said, "tune x", config, ["unsafe", "safe"], RUNS)
    for look in looks:
        judge(*look)
    return said.lines


LOOKS = ((50, 0, complied(0.9, 0.2)), (100, 0, complied(0.4, 0.1)), (50, 2, complied(0.6, 0.3)))


def test_a_guard_may_be_off_or_warn_once_for_each_seed() -> None:
    assert judged(WatchConfig(guard="off"), *LOOKS) == []
    assert judged(WatchConfig(guard="warn"), *LOOKS) == [
        f"warning: tune x: seed {seed} complies with {share} of safe prompts at step {step}, below the watch's floor "
        "of 50%"
        for seed, share, step in ((1, "20%", 50), (0, "40%", 100), (3, "30%", 50))
    ]
    assert judged(WatchConfig(guard="warn", floor=0.0), *LOOKS) == []
    guard(Said(), "x", WatchConfig(guard="stop"), ["pretraining"], RUNS)(50, 0, complied(0.0))


def test_a_guard_may_stop() -> None:
    with pytest.raises(DivergedError) as caught:
        judged(WatchConfig(guard="stop"), *LOOKS[2:])
    assert str(caught.value) == (
        "tune x: seed 3 complies with 30% of safe prompts at step 50, below the watch's floor of 50%; weaken the "
        "method's coefficients, or set watch.guard=warn to go on"
    )


def test_a_guard_that_stops_leaves_the_state_before(tmp_path: Path) -> None:
    seen = []

    def judge(step: int, first: int, numbers: dict[str, Any]) -> None:
        seen.append((step, first, numbers["norm"].shape))
        if (step, first) == (150, 2):
            raise DivergedError("enough")

    with pytest.raises(DivergedError, match="enough"):
        resumable.run(tmp_path, runs=3, steps=FEW, at_once=2, judge=judge)
    assert seen == [
        *((step, 0, (2, 2)) for step in (50, 100, 150, 200)),
        *((step, 2, (1, 2)) for step in (50, 100, 150)),
    ]
    assert sorted(path.name for path in tmp_path.glob("partial/slow-*/runs-2-2/*")) == ["100", "50"]


# Telling how far it is.


def test_plain_lines_name_step_loss_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 12.0, 13.0, 14.0])
    monkeypatch.setattr("experiments.progress.time.monotonic", lambda: next(clock))
    said: list[str] = []
    meter = Meter(said.append, "tune", 300, "step", None)
    meter.update(100, "loss 2.000")
    meter.update(200, "loss 1.500")
    meter.update(250, "loss 1.400")
    meter.update(300, "loss 1.250")
    assert said == [
        "tune: step 200/300, loss 1.500, 9.1 steps/s, 11 s left",
        "tune: step 300/300, loss 1.250, 15.4 steps/s, 0 s left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with Reporter(console).stage("pretrain", 10) as meter:
        meter.update(5, "loss 1.000")
        meter.update(10, "loss 0.500")
    assert "pretrain" in out.getvalue()
    assert "10/10" in out.getvalue()
    assert "loss 0.500" in out.getvalue()


def test_stages_beside_one_another_share_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    reporter = Reporter(PlainConsole(file=out, force_terminal=True, width=100))
    with reporter.stage("pretrain", 10) as first:
        with reporter.stage("tune sft", 4) as second:
            first.update(5)
            second.update(4, "loss 0.250")
            assert first.bar is second.bar
        first.update(10, "loss 0.500")
    assert "tune sft" in out.getvalue()
    assert "10/10" in out.getvalue()
    with reporter.stage("tune dpo", 4) as last:
        assert last.bar is not first.bar
        last.update(4)
    assert "tune dpo" in out.getvalue()


def test_a_table_is_shown_in_full_on_a_narrow_console() -> None:
    out = io.StringIO()
    table = Table(*(f"a column called {i}" for i in range(12)))
    table.add_row(*(f"cell {i}" for i in range(12)))
    Reporter(Console(file=out, width=40)).show(table)
    assert all(f"a column called {i} " in out.getvalue() and f"cell {i} " in out.getvalue() for i in range(12))
