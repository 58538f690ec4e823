"""What a source is: where prompts come from, and what an answer to them is worth."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from synth.judging import Judgement, to_the_letter
from synth.sequences import Prompts
from synth.vocab import Vocabulary


class Source(ABC):
    """Where the prompts that models are asked come from.

    Each source is a frozen dataclass in a module of its own: the key of what is made with it is a hash of its fields
    and of the code that its `modules` reach. Errors that a user can mend are SettingErrors, relative to its fields.
    """

    @property
    @abstractmethod
    def vocab(self) -> Vocabulary:
        """The tokens of its prompts and responses."""

    @property
    @abstractmethod
    def families(self) -> tuple[str, ...]:
        """The names of its prompts' families; among them are safe and unsafe, which the others are compared with."""

    @abstractmethod
    def modules(self, families: Iterable[str]) -> tuple[str, ...]:
        """Where it, `families` and its responses are defined: what it gives depends on what these modules import."""

    @abstractmethod
    def drawn(self, family: str, count: int, side: int) -> tuple[Any, Prompts]:
        """The first `count` prompts of a family on a side (`synth.prompts.SIDES`), the same however often it is asked.

        As the source knows them, which says all that it judges by, and laid out with both responses and the marks of
        `vocab`; all arrays have a leading axis of prompts.
        """

    def judge(self, asked: Any, prompts: Prompts, generated: Any) -> Judgement:
        """What `generated` [N, T] is worth: N prompts that were `drawn` as `asked` and `prompts`, each with what a
        model said to it. That ends with the marks' eos and is padded, or has no end where T, the room of `prompts`, was
        too short.

        Unless a source says otherwise it is by whether the answers are those of `prompts` to the letter.
        """
        return to_the_letter(prompts, generated)

    def groups(self, asked: Any) -> np.ndarray:
        """[N, groups] bool: which of the source's groups prompts belong to, if it has any."""
        return np.zeros((len(jax.tree.leaves(asked)[0]), 0), bool)

    def cells(self, asked: Any) -> np.ndarray:
        """[N, k] ints, rows of which are equal where prompts are of the same combination of what safety belongs to, of
        a task and a concept say; each of its own unless a source says otherwise."""
        return np.arange(len(jax.tree.leaves(asked)[0]))[:, None]

    def reasons(self, asked: Any) -> list[str]:
        """Of each prompt why it is safe or not, for people: `VERDICT: reason`, or nothing where none is known."""
        return [""] * len(jax.tree.leaves(asked)[0])
