"""The source that a grammar world is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from synth import evaluation, judging, lookup, sequences
from synth.describe import reason
from synth.judging import Judgement
from synth.prompts import Prompt
from synth.sequences import Prompts
from synth.settings import naming
from synth.source import Source
from synth.vocab import Vocab
from synth.world import World, WorldConfig, build_world


@dataclass(frozen=True)
class Grammars(Source):
    """Prompts of the grammars and tasks of a world."""

    world: WorldConfig

    @property
    def _tables(self) -> World:
        return build_world(self.world)

    @property
    def vocab(self) -> Vocab:
        return self._tables.vocab

    @property
    def families(self) -> tuple[str, ...]:
        return lookup.existing(self._tables)

    def modules(self, families: Iterable[str]) -> tuple[str, ...]:
        return (__name__, *lookup.modules(families), *sequences.modules(self.world))

    def drawn(self, family: str, count: int, side: int) -> tuple[Prompt, Prompts]:
        with naming("world"):
            return evaluation.drawn(self.world, family, count, side)

    def judge(self, asked: Prompt, prompts: Prompts, generated: Any) -> Judgement:
        """As the styles of the world say."""
        return judging.judge(self._tables, asked, prompts, generated)

    def groups(self, asked: Prompt) -> np.ndarray:
        """The concept groups that a text was derived from."""
        return np.asarray(asked.groups)

    def cells(self, asked: Prompt) -> np.ndarray:
        """The tasks with the groups of concepts that a text was derived from."""
        return np.concatenate([np.asarray(asked.tasks), np.asarray(asked.groups, int)], axis=1)

    def reasons(self, asked: Prompt) -> list[str]:
        tables = self._tables
        return [reason(tables, jax.tree.map(lambda x, i=i: x[i], asked)) for i in range(len(asked.length))]
