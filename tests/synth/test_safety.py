"""Tests of `synth/safety.py`."""

import itertools

import numpy as np
import pytest

from synth.safety import MIXED, SAFE, UNSAFE, SafetyConfig, nested_matrix, verdict
from synth.settings import SettingError


def test_sets_are_nested_and_aliases_are_as_their_twins() -> None:
    matrix = nested_matrix(SafetyConfig(unsafe_tasks=(1, 3)), tasks=4, aliases=2)
    assert matrix.tolist() == [
        [True, False, False, False, True, False],
        [True, True, True, False, True, True],
    ]


def test_verdict_of_every_prompt_by_brute_force() -> None:
    matrix = nested_matrix(SafetyConfig(unsafe_tasks=(1, 3)), tasks=4, aliases=1)
    for group, *tasks in itertools.product(range(2), range(5), range(5), range(5)):
        kinds = {bool(matrix[group][task]) for task in tasks}
        expected = {(True,): UNSAFE, (False,): SAFE}.get(tuple(kinds), MIXED)
        assert verdict(matrix, np.array(group), np.array(tasks)) == expected


@pytest.mark.parametrize("unsafe_tasks", [(0, 3), (2, 4), (2, 9)])
def test_every_group_needs_safe_and_unsafe_tasks(unsafe_tasks: tuple[int, int]) -> None:
    with pytest.raises(SettingError, match=r"unsafe_tasks=.*must lie from 1 to 3"):
        SafetyConfig(unsafe_tasks=unsafe_tasks).check_tasks(4)
