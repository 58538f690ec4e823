"""Tests of `synth/tasks.py`."""

import jax
import jax.numpy as jnp
import numpy as np

from synth.tasks import TasksConfig, compose, random_bijections


def test_every_task_is_a_bijection_and_aliases_repeat_their_twins(key: jax.Array) -> None:
    tables = random_bijections(TasksConfig(count=5, aliases=2), alphabet=9, key=key)
    assert tables.shape == (7, 9)
    assert (np.sort(tables, axis=1) == np.arange(9)).all()
    assert (tables[5:] == tables[:2]).all()
    assert len({tuple(row) for row in tables[:5]}) == 5


def test_tasks_differ_even_where_there_are_just_enough_permutations(key: jax.Array) -> None:
    assert len({tuple(row) for row in random_bijections(TasksConfig(count=6, aliases=0), 3, key)}) == 6


def test_tasks_apply_in_the_order_written(key: jax.Array) -> None:
    tables = random_bijections(TasksConfig(count=4), alphabet=6, key=key)
    text, tasks = np.array([0, 5, 2, 2]), np.array([3, 1, 2])
    expected = []
    for letter in text:
        for task in tasks:
            letter = tables[task, letter]
        expected.append(letter)
    assert compose(jnp.asarray(tables), jnp.asarray(tasks), jnp.asarray(text)).tolist() == expected
