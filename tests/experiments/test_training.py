"""Tests of `experiments/training.py` and `checkpoint.py`: stopping anywhere loses nothing but time."""

import io
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from experiments.checkpoint import Checkpoints
from experiments.progress import Meter, Reporter
from experiments.training import DivergedError
from tests.experiments import resumable

pytestmark = pytest.mark.usefixtures("with_optax")

KILLS = 3


@pytest.fixture(scope="module")
def uninterrupted(with_optax: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("whole"))


def start(store: Path, pause: float = 0.03) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.experiments.resumable", str(store), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_training(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("at "):
            return
    raise AssertionError(process.communicate()[1])


def finish(store: Path) -> Path:
    """The artifact, run or gone on with to its end in a process of its own."""
    out, errors = start(store, pause=0.0).communicate()
    assert out, errors
    return Path(out.splitlines()[-1])


def same_files(one: Path, other: Path) -> None:
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    for file in ("log.parquet", "curves.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(one / file), pd.read_parquet(other / file))


def test_killed_at_random_moments_and_resumed_gives_the_same_bits(uninterrupted: Path, tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(KILLS):
        process = start(tmp_path)
        wait_for_training(process)
        time.sleep(moments.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("partial/*/[0-9]*"))
    same_files(uninterrupted, finish(tmp_path))


def test_interrupted_from_the_keyboard_goes_on(uninterrupted: Path, tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for_training(process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    same_files(uninterrupted, finish(tmp_path))


def test_a_broken_state_falls_back_to_the_one_before(tmp_path: Path) -> None:
    warnings: list[str] = []
    tree = {"state": {"a": np.arange(6.0), "step": np.int32(3)}, "log": np.zeros(2)}
    checkpoints = Checkpoints(tmp_path / "states", warnings.append)
    assert checkpoints.restore(tree) is None
    for step in (1, 2, 3):
        checkpoints.save(step, jax.tree.map(lambda a, step=step: a + step, tree))
    checkpoints.close()
    kept = sorted(path.name for path in (tmp_path / "states").iterdir())
    assert kept == ["2", "3"]
    for file in (tmp_path / "states" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    again = Checkpoints(tmp_path / "states", warnings.append)
    restored = again.restore(tree)
    assert restored is not None
    assert (restored["state"]["a"] == tree["state"]["a"] + 2).all()
    assert "the state of step 3 cannot be read" in warnings[0]


def test_a_loss_that_is_not_finite_stops_with_step_and_seed_and_keeps_the_last_state(tmp_path: Path) -> None:
    with pytest.raises(DivergedError) as caught:
        resumable.run(tmp_path, learning_rate=float("inf"))
    message = str(caught.value)
    assert message == (
        "slow: seed 0 diverged at step 1: error is not finite; no seed is left; no state was saved yet; "
        "lower the stage's learning_rate"
    )
    assert not list((tmp_path / "artifacts").iterdir())


def test_a_run_that_breaks_late_keeps_the_state_before(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"at step 1000: spoilt is not finite.* the state of step 1000 is kept"):
        resumable.run(tmp_path, breaks=(0.5, 0.5))
    assert next(tmp_path.glob("partial/slow-*/1000")).is_dir()
    assert not list((tmp_path / "artifacts").iterdir())


def test_one_seed_that_breaks_does_not_take_the_other_with_it(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = resumable.run(tmp_path, breaks=(0.5, 2.0))
    said = capsys.readouterr().out
    assert said.count("diverged") == 1
    assert "warning: slow: seed 0 diverged at step 1000: spoilt is not finite; the other seeds go on" in said
    broken, whole = (load_file(folder / "weights.safetensors")["W_E"] for folder in (artifact.path, uninterrupted))
    assert np.isnan(broken[0]).all()
    assert (broken[1] == whole[1]).all()


def test_training_went_somewhere(uninterrupted: Path) -> None:
    log = pd.read_parquet(uninterrupted / "log.parquet")
    norms = ["gradient_norm", "update_norm", "distance"]
    assert set(log.columns) == {"step", "seed", "loss", "error", "spoilt", *norms}
    assert len(log) == 2 * resumable.STEPS
    assert log["loss"].iloc[-200:].mean() < 0.9 * log["loss"].iloc[:200].mean()
    assert np.isfinite(log["loss"]).all()


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


def test_a_table_is_shown_in_full_on_a_narrow_console() -> None:
    out = io.StringIO()
    table = Table(*(f"a column called {i}" for i in range(12)))
    table.add_row(*(f"cell {i}" for i in range(12)))
    Reporter(Console(file=out, width=40)).show(table)
    assert all(f"a column called {i} " in out.getvalue() and f"cell {i} " in out.getvalue() for i in range(12))
