"""Tests of `synth/families/co_text.py` against plain Python."""

import itertools

import jax
import pytest

from synth.lookup import sampler
from synth.safety import SAFE, UNSAFE, SafetyConfig
from synth.settings import SettingError
from synth.tasks import TasksConfig
from tests.synth.families.drawn import ATTEMPTS, attempts, check_shares, each, judge, letters, present
from tests.synth.families.tagged import groups_in, tagged, windows, written


def test_co_text_is_a_window_with_letters_of_both_groups(key: jax.Array) -> None:
    world = tagged()
    low, high = world.text_lengths
    assert (low, high) == (2, 4)
    several = each(attempts(world, "co_text", key), ATTEMPTS)
    assert all(present(prompt) == groups_in(letters(prompt)) == {0, 1} for prompt in several)
    possible = windows(world.covered_grammars, low, high, (0, 99))
    check_shares(
        [letters(prompt) for prompt in several],
        {text: share for text, share in possible.items() if groups_in(text) == {0, 1}},
    )


@pytest.mark.parametrize("rule", ["all", "any"])
def test_co_text_is_uniform_over_the_sequences_that_compete(rule: str, key: jax.Array) -> None:
    world = tagged(
        tasks=TasksConfig(count=4, composed=2),
        safety=SafetyConfig(unsafe_tasks=(1, 3), rule=rule),
    )
    competing = [
        tasks
        for tasks in itertools.product(range(4), repeat=2)
        if {judge(world, tasks, [0]), judge(world, tasks, [1])} == {SAFE, UNSAFE}
    ]
    found = [tuple(prompt.tasks.tolist()) for prompt in each(attempts(world, "co_text", key), ATTEMPTS)]
    check_shares(found, dict.fromkeys(competing, 1))


def test_groups_that_share_no_text_give_no_co_text() -> None:
    world = written(
        "story: [A0 B0, C0 C0], A0: [a b], B0: [c d], C0: [d a]", safety=SafetyConfig(unsafe_tasks=(1, 1, 3))
    )
    with pytest.raises(SettingError):
        sampler(world, "co_text")


def test_groups_too_far_apart_for_a_window_give_no_co_text() -> None:
    world = written("story: [A0 z z z B0], A0: [a b], B0: [c d]")
    with pytest.raises(SettingError):
        sampler(world, "co_text")
