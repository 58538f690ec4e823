"""Stages ask a source for prompts, and what they keep is of that source alone."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from experiments.settings.config import load
from experiments.stages.prompts import drawn, together
from experiments.study.plan import plan
from synth import evaluation
from synth.grammar_source import Grammars
from synth.prompts import TEST, VALIDATION
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.source import Source
from synth.vocab import Marks, Vocab
from synth.world import World, WorldConfig
from tests.experiments.test_study import TINY


class Other(Grammars):
    """The same prompts, judged by what this module says."""

    def modules(self, families: Iterable[str]) -> tuple[str, ...]:
        return (__name__, *super().modules(families))


class Marked(Vocab):
    @property
    def marks(self) -> Marks:
        return Marks(bos=1, eos=2, pad=3)


@dataclass(frozen=True)
class Misread(Source):
    """Says other marks than it lays out with, and nothing that it need not say."""

    world: WorldConfig
    families: tuple[str, ...] = ("safe", "unsafe")

    @property
    def vocab(self) -> Vocab:
        return Marked(("t0",), ("a",))

    def modules(self, families: Iterable[str]) -> tuple[str, ...]:
        return (__name__,)

    def drawn(self, family: str, count: int, side: int) -> tuple[Any, Prompts]:
        return evaluation.drawn(self.world, family, count, side)


def test_measurements_of_another_source_have_other_keys() -> None:
    needed = plan(load([*TINY]))
    assert needed.paths
    source = needed.paths.source
    assert isinstance(source, Grammars)
    other = Other(source.world)
    for one in needed.measured["sft"]:
        assert one.asked.source == source
        assert replace(one, asked=replace(one.asked, source=other)).recipe.key != one.recipe.key
    assert replace(needed.paths, source=other).recipe.key != needed.paths.recipe.key


def test_a_world_gives_the_prompts_that_training_looks_at(world: World) -> None:
    source = Grammars(world.config)
    assert source.vocab == world.vocab
    assert {"safe", "unsafe", "co_task"} < set(source.families)
    for side in (VALIDATION, TEST):
        asked, prompts = drawn(source, "co_text", 5, side)
        assert prompts is evaluation.drawn(world.config, "co_text", 5, side)[1]
        np.testing.assert_array_equal(source.groups(asked), asked.groups)
        both = together(source, ("co_text",), 5, side)["co_text"]
        np.testing.assert_array_equal(both.refusing.tokens, prompts.refusing.tokens)


def test_what_cannot_be_drawn_names_the_setting(world: World) -> None:
    with pytest.raises(SettingError, match=r"^world\.styles\.refuse=none: must be among "):
        drawn(Grammars(replace(world.config, styles=replace(world.config.styles, refuse="none"))), "safe", 1)


def test_sequences_with_other_marks_than_their_vocabulary_are_refused(world: World) -> None:
    message = r"^safe of Misread.*: laid out with .*pad=0.*, must be .*pad=3.*; give these to `lay_out`$"
    with pytest.raises(ValueError, match=message):
        drawn(Misread(world.config), "safe", 2)


def test_a_source_need_not_say_groups_nor_reasons_nor_how_it_judges(world: World) -> None:
    source = Misread(world.config)
    asked, prompts = source.drawn("safe", 6, TEST)
    assert source.groups(asked).shape == (6, 0)
    assert source.reasons(asked) == [""] * 6
    assert source.judge(asked, prompts, prompts.refusing.tokens).refused.all()
    assert not source.judge(asked, prompts, prompts.refusing.tokens).complied.any()
