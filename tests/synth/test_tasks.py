"""Tests of `synth/tasks.py`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth.keys import fold
from synth.settings import SettingError
from synth.tasks import TasksConfig, compose, random_bijections


@pytest.mark.parametrize("identity", [False, True])
def test_every_task_is_a_bijection_and_aliases_repeat_their_twins(identity: bool, key: jax.Array) -> None:
    tables = random_bijections(TasksConfig(count=5, aliases=2, identity=identity), alphabet=9, key=key)
    assert tables.shape == (7, 9)
    assert (np.sort(tables, axis=1) == np.arange(9)).all()
    assert (tables[5:] == tables[:2]).all()
    assert len({tuple(row) for row in tables[:5].tolist()}) == 5
    assert (tables[0].tolist() == list(range(9))) == identity


@pytest.mark.parametrize("aliases", [0, 3])
def test_there_may_be_no_alias_or_one_for_each_task(aliases: int, key: jax.Array) -> None:
    tables = random_bijections(TasksConfig(count=3, aliases=aliases), alphabet=4, key=key)
    assert (tables[3:] == tables[:aliases]).all()
    assert len(tables) == 3 + aliases


@pytest.mark.parametrize("identity", [False, True])
def test_tasks_differ_even_where_there_are_just_enough_permutations(identity: bool, key: jax.Array) -> None:
    config = TasksConfig(count=6, aliases=0, identity=identity)
    config.check_alphabet(3)
    assert len({tuple(row) for row in random_bijections(config, 3, key).tolist()}) == 6


def test_bijections_depend_on_the_key_alone(key: jax.Array) -> None:
    one, two = (random_bijections(TasksConfig(count=4), 6, key) for _ in range(2))
    assert (one == two).all()
    assert (random_bijections(TasksConfig(count=4), 6, fold(key, 1)) != one).any()
    # A task is the same however many there are.
    assert (random_bijections(TasksConfig(count=5), 6, key)[:4] == one[:4]).all()


@pytest.mark.parametrize("written", [[3], [3, 1], [1, 3], [3, 1, 2, 3]])
def test_tasks_apply_in_the_order_written(written: list[int], key: jax.Array) -> None:
    tables = random_bijections(TasksConfig(count=4), alphabet=6, key=key)
    text = [0, 5, 2, 2, 1]
    expected = []
    for letter in text:
        for task in written:
            letter = int(tables[task, letter])
        expected.append(letter)
    assert compose(jnp.asarray(tables), jnp.array(written), jnp.array(text)).tolist() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"composed": 5}, r"composed=5: must be from 1 to 4"),
        ({"composed": 0}, r"composed=0: must be at least 1"),
        ({"count": 0, "aliases": 0}, r"count=0: must be at least 1"),
        ({"count": 3, "aliases": 4}, r"aliases=4: must be from 0 to count=3"),
        ({"aliases": -1}, r"aliases=-1: must be from 0 to count=8"),
        ({"alias_frequency": -0.1}, r"alias_frequency=-0.1: must be a finite number, 0 or more"),
        ({"alias_frequency": float("inf")}, r"alias_frequency=inf: must be a finite number"),
        ({"alias_frequency": float("nan")}, r"alias_frequency=nan: must be a finite number"),
    ],
)
def test_settings_out_of_range_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TasksConfig(**settings)


def test_an_alphabet_with_too_few_bijections_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"count=7: must be at most 3!, the bijections of 3 letters"):
        TasksConfig(count=7).check_alphabet(3)
