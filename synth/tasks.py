"""Operators: each task is a bijection of the alphabet, another one in each grammar; some have an alias."""

import math
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
    alias_frequency: float = 1.0
    """How often an alias occurs in pretraining, as a multiple of how often a task does."""
    identity: bool = False
    """Whether task 0 leaves the text as it is."""
    composed: int = 2
    """Tasks in one prompt, applied in the order written."""

    def __post_init__(self) -> None:
        require_positive(self, "count", "composed", most=2**10)
        require(self.composed <= 4, "composed", self.composed, "must be from 1 to 4", "set composed to 2")
        require(
            0 <= self.aliases <= self.count,
            "aliases",
            self.aliases,
            f"must be from 0 to count={self.count}, one task each",
            "lower aliases or raise count",
        )
        require(
            0 <= self.alias_frequency < math.inf,
            "alias_frequency",
            self.alias_frequency,
            "must be a finite number, 0 or more",
            "set 1 for as often as a task",
        )

    def check_alphabet(self, letters: int) -> None:
        """Raises SettingError unless `letters` letters have enough bijections."""
        require(
            math.factorial(letters) >= self.count,
            "count",
            self.count,
            f"must be at most {letters}!, the bijections of {letters} letters",
            "lower tasks.count or raise grammar.alphabet",
        )


def random_bijections(config: TasksConfig, alphabet: int, key: jax.Array) -> np.ndarray:
    """[count + aliases, alphabet]: row t is the permutation of task t; aliases repeat rows 0, 1, ...

    Tasks differ from one another: a permutation that is taken already is drawn again.
    """
    rows = [tuple(range(alphabet))] if config.identity else []
    for task in range(len(rows), config.count):
        rng = np.random.default_rng(np.asarray(jax.random.key_data(fold(key, "task", task))))
        row = tuple(rng.permutation(alphabet).tolist())
        while row in rows:
            row = tuple(rng.permutation(alphabet).tolist())
        rows.append(row)
    tasks = np.array(rows, np.int32)
    return np.concatenate([tasks, tasks[: config.aliases]])


def compose(bijections: jax.Array, tasks: jax.Array, text: jax.Array) -> jax.Array:
    """f_last(...f_first(text)) letter by letter.

    `bijections` [tasks, letters] of one grammar; tasks [K]; text [L] of letters -> [L].
    """
    for position in range(tasks.shape[0]):
        text = bijections[tasks[position]][text]
    return text
