"""A training stage that takes no time, and what can go wrong around it: by `run`, or in a process of its own.

    python -m tests.experiments.resumable STORE [pause=SECONDS] [full_after=STEP] [dies_saving=STEP] [command=yes]

`pause` is how long showing progress takes. After step `full_after` no file may grow beyond 256 bytes. While the
state of step `dies_saving` is saved, the process kills itself. `command` runs it as a command of the project's.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

from experiments.progress import Meter, Reporter
from experiments.stages.files import save_training
from experiments.stages.runs import Runner, Watch
from experiments.stages.training import train
from experiments.store.artifacts import Store
from experiments.store.manifest import Artifact, Recipe
from models.training.loop import Program, Schedule, Terms, across, seed_keys
from models.training.optimizer import OptimizerConfig
from models.transformer import ModelConfig, Params
from models.weights import Described
from synth.vocab import MARKS

STEPS = 1000
NEVER = 2.0


def loss(params: Params, reference: Params, batch: jax.Array, progress: jax.Array, breaks: jax.Array) -> Terms:
    error = jnp.sum(jnp.square(batch @ params["W_E"] - batch), axis=-1)
    spoilt = jnp.where(progress > breaks, jnp.nan, error)
    return Terms(error + spoilt, {"error": error, "spoilt": spoilt})


PROGRAM = Program(
    OptimizerConfig(), lambda key, step, hyper: jax.random.normal(jax.random.fold_in(key, step), (4, 8)), loss
)


def look(params: Params) -> dict[str, np.ndarray]:
    """[runs, families]: two norms."""
    weights = np.asarray(params["W_E"])
    return {"norm": np.stack([np.abs(weights).sum(axis=(1, 2)), np.linalg.norm(weights, axis=(1, 2))], axis=1)}


def run(
    root: Path,
    runs: int = 2,
    steps: int = STEPS,
    breaks: dict[int, float] | None = None,
    learning_rate: float = 1e-2,
    at_once: int | None = None,
    checkpoint_seconds: float = 0.0,
    judge: Callable[[int, int, dict[str, Any]], None] = lambda *_: None,
    reporter: Reporter | None = None,
    snapshots: Sequence[int] = (),
) -> Artifact:
    """The stage, in a store of its own; a run's loss is no number once its share `breaks` of the steps is done."""
    reporter = reporter or Reporter()
    store = Store(root, reporter.warn)

    def make(folder: Path, partial: Path) -> None:
        keys = seed_keys(jax.random.key(0), runs)
        params = {"W_E": jnp.ones((runs, 8, 8)) * 0.1}
        shares = [(breaks or {}).get(run, NEVER) for run in range(runs)]
        schedule = across([Schedule(steps, learning_rate, share) for share in shares], 1)
        watch = Watch(steps // 4, look, judge)
        runner = Runner(reporter, checkpoint_seconds, at_once)
        done = train(runner, "slow", PROGRAM, schedule, params, params, keys, partial, watch, snapshots=snapshots)
        save_training(folder, done, Described(ModelConfig(), (), MARKS), watch.every, ["sum", "root"], 0)

    return store.fetch(Recipe("slow", {}, (), "1"), make)


def forbid_large_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))


def kill_when_saved(step: int) -> None:
    """Before the last step of saving it, the renaming."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(os.fsdecode(arguments[0])).name.startswith(f"{step}."):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(root: str, *options: str) -> int:
    wanted = dict(option.split("=") for option in options)
    pause, full_after = float(wanted.get("pause", 0)), int(wanted.get("full_after", STEPS + 1))
    update = Meter.update

    def slow_update(self: Meter, step: int, note: str = "") -> None:
        print(f"at {step}", flush=True)
        time.sleep(pause)
        if step > full_after:
            forbid_large_files()
        update(self, step, note)

    Meter.update = slow_update  # type: ignore[method-assign]
    if "dies_saving" in wanted:
        kill_when_saved(int(wanted["dies_saving"]))

    def act(config: object, reporter: Reporter) -> None:
        print(run(Path(root), reporter=reporter).path)

    if "command" not in wanted:
        act(None, Reporter())
        return 0
    from experiments.command import command  # with all of the analysis: three seconds

    with patch("experiments.command.load"):
        return command("tests.experiments.resumable", None, object, act, [])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
