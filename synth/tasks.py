"""Operators: each task is a bijection of the alphabet, some with an alias that does the same."""

import itertools
from dataclasses import dataclass

import jax
import numpy as np

from synth.keys import fold
from synth.settings import require, require_positive


@dataclass(unsafe_hash=True)
class TasksConfig:
    """How many operators there are and how many a prompt composes."""

    count: int = 8
    """Tasks that safety tuning may use."""
    aliases: int = 2
    """Task tokens held out of safety tuning; alias i does what task i does (the paper's T_OOD)."""
    composed: int = 2
    """Tasks in one prompt, applied in the order written."""

    def __post_init__(self) -> None:
        require_positive(self, "count", "composed")
        require(self.composed <= 8, "composed", self.composed, "must be at most 8", "set composed to 2")
        require(
            0 <= self.aliases <= self.count,
            "aliases",
            self.aliases,
            f"must be from 0 to count={self.count}, one task each",
            "lower aliases or raise count",
        )


def random_bijections(config: TasksConfig, alphabet: int, key: jax.Array) -> np.ndarray:
    """[count + aliases, alphabet]: row t is the permutation of task t; aliases repeat rows 0, 1, ...

    Tasks differ from one another: a permutation that is taken already is drawn again.
    """
    rows: list[tuple[int, ...]] = []
    for task in range(config.count):
        attempts = (jax.random.permutation(fold(key, "task", task, i), alphabet) for i in itertools.count())
        rows.append(next(row for row in (tuple(a.tolist()) for a in attempts) if row not in rows))
    tasks = np.array(rows, np.int32)
    return np.concatenate([tasks, tasks[: config.aliases]])


def compose(bijections: jax.Array, tasks: jax.Array, text: jax.Array) -> jax.Array:
    """f_last(...f_first(text)) letter by letter; tasks [K], text [L] of letters -> [L]."""
    for position in range(tasks.shape[0]):
        text = bijections[tasks[position]][text]
    return text
