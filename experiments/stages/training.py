"""Running a training program to its end: progress, saved states, going on after a stop."""

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from safetensors.numpy import save

from experiments.progress import Meter
from experiments.stages.checkpoint import Checkpoints, reason, with_sum, without_sum
from experiments.stages.runs import Chunk, NoneLeftError, Runner, Trained, Watch, finite_runs, look_steps
from experiments.stages.side_by_side import stopping
from experiments.store.manifest import DamagedError
from models.training.devices import mesh, spread
from models.training.loop import CHUNK, Program, Schedule, State, run_chunk, start
from models.training.memory import run_bytes, runs_at_once
from models.transformer import Params
from models.weights import flatten, from_safetensors


def train(
    runner: Runner,
    name: str,
    program: Program,
    schedule: Schedule,
    params: Params,
    reference: Params,
    keys: jax.Array,
    folder: Path,
    watch: Watch | None = None,
    names: Sequence[str] = (),
    snapshots: Sequence[int] = (),
) -> Trained:
    """Trains from `params`, or goes on from the last state in `folder`; keeps the weights after each of `snapshots`.

    All arrays but `schedule.steps` have a leading axis of runs (`loop.across`); `names` says what
    to call each. Runs train together, in equal shares if memory does not hold all of them. A run
    that diverges is reported and the others go on.

    Raises DivergedError when no run is left, MismatchError for a state of something else, and
    whatever `watch.judge` raises; states saved before are kept.
    """
    runs = keys.shape[0]
    called = list(names) or [f"seed {run}" for run in range(runs)]
    each = runner.jobs_at_once * run_bytes(program, schedule, params, reference, keys)
    size = runner.runs_at_once or runs_at_once(runs, each)
    parts, lost = [], []
    for first in range(0, runs, size):
        share = slice(first, min(first + size, runs))
        some = jax.tree.map(lambda x, share=share: x[share] if x.ndim else x, schedule)
        chosen = jax.tree.map(lambda x, share=share: x[share], (params, reference, keys))
        home = folder if size >= runs else folder / f"runs-{first}-{share.stop - 1}"
        together = _Together(runner, name, program, some, called[share], first, home, watch, snapshots)
        try:
            parts.append(together.run(*chosen))
        except NoneLeftError as error:
            lost.append(error)
            parts.append(together.broken(chosen[0]))
    if len(lost) == len(parts):
        raise lost[0]
    return Trained(
        _joined([part.params for part in parts], axis=0),
        _joined([part.log for part in parts], axis=1),
        _joined([part.looks for part in parts], axis=1),
        [chunk for part in parts for chunk in part.speed],
        _joined([part.snapshots for part in parts], axis=0),
    )


def _joined(parts: list[Any], axis: int) -> Any:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis), *parts)


class _Together:
    """Runs that train side by side, `first` the number of the first of them."""

    def __init__(
        self,
        runner: Runner,
        name: str,
        program: Program,
        schedule: Schedule,
        called: Sequence[str],
        first: int,
        folder: Path,
        watch: Watch | None,
        snapshots: Sequence[int],
    ) -> None:
        self.runner, self.name, self.program, self.schedule = runner, name, program, schedule
        self.called, self.first, self.watch, self.steps = called, first, watch, int(schedule.steps)
        self.looked = look_steps(self.steps, watch.every) if watch else []
        # Files of their own: in the saved states they would be written again and again.
        self.snapshots = {step: folder / f"snapshot-{step}" for step in sorted(snapshots)}
        self.stops = sorted({*self.looked, *self.snapshots, self.steps})
        self.checkpoints = Checkpoints(folder, runner.reporter.warn)
        self.log: dict[str, np.ndarray] = {}
        self.looks: dict[str, np.ndarray] = {}
        self.diverged: set[int] = set()
        self.speed: list[Chunk] = []

    def run(self, params: Params, reference: Params, keys: jax.Array) -> Trained:
        grid = mesh(keys.shape[0], self.program.examples)
        state = start(self.program, params)
        shapes = jax.eval_shape(partial(run_chunk, self.program), self.schedule, 0, state, reference, keys, None)[1]
        self.log = {name: np.zeros((self.steps, *row.shape[1:]), row.dtype) for name, row in shapes.items()}
        if self.watch:
            first = self.watch.look(state.result)
            self.looks = {name: np.zeros((len(self.looked), *x.shape), x.dtype) for name, x in first.items()}
            for name, x in first.items():
                self.looks[name][0] = x
        self._check_snapshots()
        saved = self.checkpoints.restore(self._kept(state))
        if saved is not None:
            state, self.log, self.looks = State(**saved["state"]), saved["log"], saved["looks"]
        spread_out = spread((self.schedule, state, reference, keys), grid)
        try:
            with self.runner.reporter.stage(self.name, self.steps) as meter:
                state = self._advance(meter, grid, *spread_out)
        finally:
            self.checkpoints.close()
        result = jax.tree.map(np.array, state.result)
        self._report_broken(~finite_runs(result), self.steps - 1)
        for leaf in jax.tree.leaves(result):
            leaf[list(self.diverged)] = np.nan
        snapshots = {step: self._snapshot_of(step) for step in self.snapshots}
        return Trained(result, self.log, self.looks, self.speed, snapshots)

    def broken(self, params: Params) -> Trained:
        """What is to be kept where none is left: the log and the snapshots so far, and no weights."""
        none = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), params)
        snapshots = {step: self._snapshot_of(step) if file.exists() else none for step, file in self.snapshots.items()}
        return Trained(none, self.log, self.looks, self.speed, snapshots)

    def _advance(
        self, meter: Meter, grid: Mesh | None, schedule: Schedule, state: State, reference: Params, keys: jax.Array
    ) -> State:
        begun, saved = int(state.step), time.monotonic()
        step = begun
        if step:
            meter.say(f"{self.name}: going on from step {step}")
            self._check_log(0, step)
        waiting: tuple[int, int, dict[str, jax.Array]] | None = None
        since = time.monotonic()
        while step < self.steps:
            if stopping.is_set():
                if waiting:
                    self._collect(meter, since, *waiting)
                if step > begun:
                    self.checkpoints.save(step, self._kept(state))
                raise CancelledError(f"{self.name} was stopped at step {step}")
            stop = next(stop for stop in self.stops if stop > step)
            length = min(CHUNK, stop - step)
            state, log = run_chunk(self.program, schedule, length, state, reference, keys, grid)
            # The log of a chunk is read while the next one is computed.
            if waiting:
                since = self._collect(meter, since, *waiting)
            waiting, step = (step, length, log), step + length
            due = step < self.steps and time.monotonic() - saved >= self.runner.checkpoint_seconds
            if step == stop or due:
                since, waiting = self._collect(meter, since, *waiting), None
            if step in self.snapshots:
                self._snapshot(step, state)
            if step in self.looked:
                self._look(step, state)
            if due:
                self.checkpoints.save(step, self._kept(state))
                saved = time.monotonic()
        return state

    def _collect(self, meter: Meter, since: float, step: int, length: int, log: dict[str, jax.Array]) -> float:
        """Waits for a chunk, keeps and checks its log; returns the time."""
        for name, rows in log.items():
            self.log[name][step : step + length] = rows[:length]
        now = time.monotonic()
        seconds, runs = (now - since) / length, self.log["loss"].shape[1]
        samples = runs * self.program.examples / seconds
        self.speed.append(Chunk(self.first, step + length, seconds, samples, samples * self.program.tokens))
        self._check_log(step, step + length)
        loss = self.log["loss"][step + length - 1]
        meter.update(step + length, f"loss {loss[np.isfinite(loss)].mean():.3f}")
        return now

    def _look(self, step: int, state: State) -> None:
        assert self.watch
        seen = self.watch.look(state.result)
        for name, values in seen.items():
            self.looks[name][self.looked.index(step)] = values
        self.watch.judge(step, self.first, seen)

    def _snapshot(self, step: int, state: State) -> None:
        """The weights as a file, before any later state is saved: who goes on from that finds it."""
        unfinished = self.snapshots[step].with_suffix(".unfinished")
        unfinished.write_bytes(with_sum(save(flatten(state.result))))
        unfinished.replace(self.snapshots[step])

    def _snapshot_of(self, step: int) -> Params:
        """The weights that `_snapshot` wrote. Raises DamagedError if they are not what was written."""
        try:
            return from_safetensors(without_sum(self.snapshots[step].read_bytes()))
        except (OSError, ValueError) as error:
            raise DamagedError(f"{self.name}: the snapshot of step {step} cannot be read ({reason(error)})") from None

    def _check_snapshots(self) -> None:
        """Removes the states that come after a snapshot which cannot be read: it is made again."""
        for step in self.snapshots:
            if step > (self.checkpoints.latest() or 0):
                return
            try:
                self._snapshot_of(step)
            except DamagedError as error:
                self.runner.reporter.warn(f"{error}; going on from before it")
                self.checkpoints.forget(step)

    def _kept(self, state: State) -> dict[str, Any]:
        """What a stopped training goes on from."""
        return {"state": state._asdict(), "log": self.log, "looks": self.looks}

    def _check_log(self, begin: int, end: int) -> None:
        """Reports the runs that diverged in these steps."""
        bad = ~(np.isfinite(self.log["loss"][begin:end]) & np.isfinite(self.log["gradient_norm"][begin:end]))
        for offset in np.flatnonzero(bad.any(axis=1)):
            self._report_broken(bad[offset], begin + int(offset))

    def _report_broken(self, broken: np.ndarray, step: int) -> None:
        """Says once of each run of `broken` [runs] that it diverged at `step`, and stops if none is left."""
        new = [int(run) for run in np.flatnonzero(broken) if run not in self.diverged]
        self.diverged.update(new)
        lines = [f"{self.name}: {self.called[run]} diverged at step {step}: {self._culprit(step, run)}" for run in new]
        if new and len(self.diverged) == len(broken):
            self.checkpoints.wait()
            last = self.checkpoints.latest()
            kept = (
                f"the state of step {last} is kept in {self.checkpoints.folder}" if last else "no state was saved yet"
            )
            raise NoneLeftError(f"{lines[0]}; no run is left; {kept}; lower the stage's learning_rate")
        for line in lines:
            self.runner.reporter.warn(f"{line}; the others go on; lower the stage's learning_rate")

    def _culprit(self, step: int, run: int) -> str:
        """What was not finite first, the parts of the loss before the whole of it."""
        names = [name for name in self.log if name not in NOT_PARTS]
        for name in [*names, "loss", "gradient_norm"]:
            if not np.isfinite(self.log[name][step, run]):
                return f"{name} is not finite"
        return "its weights are not finite"


NOT_PARTS = ("loss", "gradient_norm", "update_norm", "distance")
"""Columns of the log that every objective has."""
