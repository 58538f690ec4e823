"""What training runs are: with what they are trained, what is seen of them, what is left of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from experiments.progress import Reporter
from models.transformer import Params
from synth.settings import StoppedError


class DivergedError(StoppedError):
    """Training that cannot go on; the message is one line for the user."""


class NoneLeftError(DivergedError):
    """Every run that trained side by side has diverged."""


class Runner(NamedTuple):
    """How training is run; none of it changes a result beyond rounding."""

    reporter: Reporter
    checkpoint_seconds: float
    runs_at_once: int | None = None
    """Runs trained side by side; None for as many as fit in memory"""
    jobs_at_once: int = 1
    """How many jobs have the memory in common"""


class Watch(NamedTuple):
    """Looking at the models before training, every so often, and at its end."""

    every: int
    """Steps between two looks; 0 for the two ends alone"""
    look: Callable[[Params], dict[str, np.ndarray]]
    """Weights with a leading axis of runs -> numbers by name, each with a leading axis of runs"""
    judge: Callable[[int, int, dict[str, np.ndarray]], None]
    """(step, number of the first run, numbers): may warn, or raise to stop"""


class Chunk(NamedTuple):
    """Steps that were timed together."""

    first_run: int
    step: int
    """The last of them"""
    seconds: float
    """Of one step; the first one's are mostly compilation"""
    samples_per_second: float
    tokens_per_second: float


class Trained(NamedTuple):
    """Finished runs."""

    params: Params
    """With a leading axis of runs; NaN where a run diverged"""
    log: dict[str, np.ndarray]
    """[steps, runs] each: loss, its parts, norms"""
    looks: dict[str, np.ndarray]
    """[len(look_steps), runs, ...] each"""
    speed: list[Chunk]
    """Of this process alone"""
    snapshots: dict[int, Params]
    """By step, the weights on the way, with a leading axis of runs"""

    def of(self, runs: slice) -> "Trained":
        """Some of the runs; speed stays that of all."""
        one = jax.tree.map(lambda x: x[runs], self.params)
        log, looks = ({name: x[:, runs] for name, x in seen.items()} for seen in (self.log, self.looks))
        snapshots = {step: jax.tree.map(lambda x: x[runs], params) for step, params in self.snapshots.items()}
        return Trained(one, log, looks, self.speed, snapshots)


def look_steps(steps: int, every: int) -> list[int]:
    """After how many steps the models are looked at."""
    return [*range(0, steps, every or steps), steps]


def finite_runs(params: Params) -> np.ndarray:
    """[runs] bool: whether all weights of a run are finite."""
    leaves = [np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(axis=1) for leaf in jax.tree.leaves(params)]
    return np.all(leaves, axis=0)
