"""Token ids and their names.

Ids run: special tokens, task tokens (aliases last), letters. The null token is what a
refusal is made of; NO_REPLY is an operator that asks for it, seen only in pretraining.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax
import numpy as np

from synth.settings import require

PAD, BOS, EOS, SOT, EOT, NULL, NO_REPLY = range(7)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<text>", "<go>", "<null>", "<no-reply>")


@jax.tree_util.register_static
@dataclass(frozen=True)
class Marks:
    """The ids that sequences of any source have: numbers of the program, not of the data."""

    bos: int
    """Begins a sequence"""
    eos: int
    """Ends a response"""
    pad: int
    """Fills what is behind the end"""


MARKS = Marks(BOS, EOS, PAD)
"""Those of grammar worlds"""


class Vocabulary(ABC):
    """The tokens of a source."""

    @property
    @abstractmethod
    def marks(self) -> Marks:
        """The ids of those that begin, end and fill sequences."""

    @abstractmethod
    def names(self) -> list[str]:
        """The name of each id."""

    def decode(self, tokens: np.ndarray) -> str:
        """Names of `tokens` [T] joined by spaces, padding left out."""
        names = self.names()
        return " ".join(names[int(t)] for t in tokens if t != self.marks.pad)


@dataclass(frozen=True)
class Vocab(Vocabulary):
    """Those of a grammar world, in three ranges: special tokens, tasks, letters."""

    tasks: tuple[str, ...]
    """Tasks, then aliases"""
    letters: tuple[str, ...]

    def __post_init__(self) -> None:
        names = self.names()
        for letter in self.letters:
            require(names.count(letter) == 1, "source", letter, "is a letter and another token's name", "rename it")

    @property
    def marks(self) -> Marks:
        return MARKS

    @property
    def first_task(self) -> int:
        return len(SPECIAL)

    @property
    def first_letter(self) -> int:
        return self.first_task + len(self.tasks)

    @property
    def size(self) -> int:
        return self.first_letter + len(self.letters)

    def names(self) -> list[str]:
        return [*SPECIAL, *self.tasks, *self.letters]


def task_names(tasks: int, aliases: int) -> tuple[str, ...]:
    """Tasks `t0..`, then aliases `t0'..` after their twin."""
    return (*(f"t{i}" for i in range(tasks)), *(f"t{i}'" for i in range(aliases)))
