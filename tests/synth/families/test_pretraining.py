"""Tests of `synth/families/pretraining.py` against plain Python."""

import itertools

import jax
import numpy as np
import pytest

from synth.coverage import CoverageConfig
from synth.derive import NO_CONCEPT
from synth.safety import SafetyConfig
from synth.tasks import TasksConfig
from synth.world import TextConfig, WorldConfig, build_world
from tests.synth.families.drawn import ATTEMPTS, SMALL, attempts, check_shares, each, letters, present
from tests.synth.families.tagged import COVERAGE, groups_in, tagged, tags, windows


def test_pretraining_covers_what_tuning_leaves_out(key: jax.Array) -> None:
    prompts = attempts(tagged(coverage=COVERAGE), "pretraining", key)
    found = set().union(*(tags(prompt) for prompt in each(prompts, ATTEMPTS)))
    assert found == set(itertools.product(range(2), range(4), range(2)))
    check_shares(prompts.concept.tolist(), dict.fromkeys(range(4), 1))
    check_shares(prompts.grammar.tolist(), dict.fromkeys(range(2), 1))


@pytest.mark.parametrize("frequency", [0.0, 1.0, 3.0])
def test_aliases_are_as_frequent_in_pretraining_as_asked_for(frequency: float, key: jax.Array) -> None:
    tasks = TasksConfig(count=4, aliases=2, alias_frequency=frequency)
    world = build_world(WorldConfig(grammar=SMALL, tasks=tasks, safety=SafetyConfig(unsafe_tasks=(1, 3))))
    found = attempts(world, "pretraining", key).tasks.ravel().tolist()
    check_shares(found, {task: 1.0 if task < 4 else frequency for task in range(6)})
    share = 2 * frequency / (4 + 2 * frequency)
    mean = float(np.mean(np.array(found) >= 4))
    assert abs(mean - share) <= 5 * (share * (1 - share) / len(found)) ** 0.5


def test_cropped_pretraining_is_a_window_of_a_story(key: jax.Array) -> None:
    world = tagged(text=TextConfig(length=(3, 5), cropped_from=(6, 10)))
    prompts = attempts(world, "pretraining", key)
    check_shares(prompts.length.tolist(), dict.fromkeys((3, 4, 5), 1))
    assert (prompts.concept == NO_CONCEPT).all()
    several = each(prompts, ATTEMPTS)
    assert all(present(prompt) == groups_in(letters(prompt)) for prompt in several)
    assert {len(present(prompt)) for prompt in several} == {1, 2}
    assert all({grammar for grammar, _, _ in tags(prompt)} == {int(prompt.grammar)} for prompt in several)
    check_shares([letters(prompt) for prompt in several], windows(world.grammars, 3, 5, (6, 10)))


def test_a_window_may_hold_letters_of_no_group(key: jax.Array) -> None:
    world = tagged(text=TextConfig(length=(1, 2), cropped_from=(6, 10)), coverage=CoverageConfig())
    empty = [prompt for prompt in each(attempts(world, "pretraining", key), ATTEMPTS) if letters(prompt) == (16,)]
    assert empty
    assert all(present(prompt) == set() for prompt in empty)
