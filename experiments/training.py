"""Running a training program to its end: progress, saved states, going on after a stop."""

import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.checkpoint import Checkpoints
from experiments.progress import Reporter
from models.training.loop import Program, Schedule, State, run_chunk, start
from models.transformer import Params

CHUNK = 50
"""Steps in one compiled scan; changes no result, only how often progress is shown."""

LOGGED = ("loss", "gradient_norm")


class DivergedError(Exception):
    """A loss that is not finite; the message is one line for the user."""


class Runner(NamedTuple):
    """How training is run; none of it changes a result."""

    reporter: Reporter
    checkpoint_seconds: float


class Trained(NamedTuple):
    """A finished run."""

    params: Params
    log: dict[str, np.ndarray]
    """[steps, seeds] for each of LOGGED"""


def train(
    runner: Runner,
    name: str,
    program: Program,
    schedule: Schedule,
    params: Params,
    reference: Params,
    keys: jax.Array,
    partial: Path,
) -> Trained:
    """Trains from `params` (leading axis of seeds), or goes on from the last state in `partial`.

    Raises DivergedError at the first loss that is not finite; states saved before it are kept.
    """
    steps, seeds = int(schedule.steps), keys.shape[0]
    # A private copy: the loop gives its buffers away, and `params` may be the reference itself.
    state = start(program, jax.tree.map(jnp.array, params))
    log = {metric: np.zeros((steps, seeds), np.float32) for metric in LOGGED}
    checkpoints = Checkpoints(partial, runner.reporter.warn)
    saved = checkpoints.restore({"state": state._asdict(), "log": log})
    if saved is not None:
        state = State(**jax.tree.map(jnp.asarray, saved["state"]))
        log = {metric: np.array(values) for metric, values in saved["log"].items()}
    with runner.reporter.stage(name, steps) as meter:
        step, last_saved = int(state.step), time.monotonic()
        if step:
            meter.say(f"{name}: going on from step {step}")
        while step < steps:
            length = min(CHUNK, steps - step)
            state, chunk = run_chunk(program, schedule, length, state, reference, keys)
            for metric in LOGGED:
                log[metric][step : step + length] = chunk[metric]
            _check_finite(name, log["loss"], step, length, checkpoints)
            step += length
            meter.update(step, f"loss {log['loss'][step - 1].mean():.3f}")
            if step < steps and time.monotonic() - last_saved >= runner.checkpoint_seconds:
                checkpoints.save(step, {"state": state._asdict(), "log": log})
                last_saved = time.monotonic()
    checkpoints.close()
    params = jax.tree.map(np.asarray, state.params)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise DivergedError(f"{name}: the last step made weights that are not finite; lower the stage's learning_rate")
    return Trained(params, log)


def _check_finite(name: str, loss: np.ndarray, step: int, length: int, checkpoints: Checkpoints) -> None:
    bad = ~np.isfinite(loss[step : step + length])
    if bad.any():
        offset, seed = np.argwhere(bad)[0]
        saved = checkpoints.latest()
        kept = f"the state of step {saved} is kept in {checkpoints.folder}" if saved else "no state was saved yet"
        raise DivergedError(
            f"{name}: the loss is not finite at step {step + offset} of seed {seed}; {kept}; "
            "lower the stage's learning_rate"
        )
