"""Token ids and their names.

Ids run: special tokens, task tokens (aliases last), letters. The null token is what a
refusal is made of; NO_REPLY is an operator that asks for it, seen only in pretraining.
"""

from dataclasses import dataclass

import numpy as np

PAD, BOS, EOS, SOT, EOT, NULL, NO_REPLY = range(7)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<text>", "<go>", "<null>", "<no-reply>")


@dataclass(frozen=True)
class Vocab:
    """Sizes of the three ranges of ids."""

    tasks: int
    aliases: int
    letters: int

    @property
    def first_task(self) -> int:
        return len(SPECIAL)

    @property
    def first_letter(self) -> int:
        return self.first_task + self.tasks + self.aliases

    @property
    def size(self) -> int:
        return self.first_letter + self.letters

    def names(self) -> list[str]:
        """The name of each id: tasks `t0..`, aliases `t0'..` after their twin, letters `a..`."""
        tasks = [f"t{i}" for i in range(self.tasks)] + [f"t{i}'" for i in range(self.aliases)]
        letters = [chr(ord("a") + i) if self.letters <= 26 else f"x{i}" for i in range(self.letters)]
        return [*SPECIAL, *tasks, *letters]

    def decode(self, tokens: np.ndarray) -> str:
        """Names of `tokens` [T] joined by spaces, padding left out."""
        names = self.names()
        return " ".join(names[int(t)] for t in tokens if t != PAD)
