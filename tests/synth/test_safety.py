"""Tests of `synth/safety.py`: matrices and verdicts against what their rules say, in plain Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.keys import fold
from synth.safety import MIXED, RULES, SAFE, UNSAFE, SafetyConfig, safety_matrix, verdict
from synth.settings import SettingError

Rows = list[list[bool]]

TABLE = ((0, 1, 0, 0, 0), (1, 0, 1, 1, 0), (0, 0, 0, 1, 1))


def judge(rows: Rows, rule: str, present: set[int], tasks: tuple[int, ...]) -> int:
    """The verdict, group by group."""
    found = set()
    for group in present:
        unsafe = [rows[group][task] for task in tasks]
        if rule == "any":
            found.add(UNSAFE if any(unsafe) else SAFE)
        else:
            found.add(UNSAFE if all(unsafe) else MIXED if any(unsafe) else SAFE)
    if not found:
        return SAFE
    return found.pop() if len(found) == 1 else MIXED


def meant(rows: Rows, rule: str) -> Rows:
    """Which tasks a rule makes unsafe for each group, from RULES' words."""
    result = []
    for row in rows:
        unsafe_dominant = sum(row) > len(row) - sum(row)
        changed = []
        for task in range(len(row)):
            if rule == "task_only":
                changed.append(rows[-1][task])
            elif rule == "concept_only":
                changed.append(unsafe_dominant)
            elif rule == "xor":
                changed.append(rows[0][task] != unsafe_dominant)
            else:
                changed.append(row[task])
        result.append(changed)
    return result


def test_nested_counts_give_nested_sets_of_the_lowest_tasks(key: jax.Array) -> None:
    assert safety_matrix(SafetyConfig(unsafe_tasks=(1, 3)), 2, 4, key).tolist() == [
        [True, False, False, False],
        [True, True, True, False],
    ]


def test_sets_are_nested_whatever_the_order_of_the_counts(key: jax.Array) -> None:
    matrix = safety_matrix(SafetyConfig(unsafe_tasks=(4, 1, 3, 3)), 4, 5, key)
    assert matrix.sum(axis=1).tolist() == [4, 1, 3, 3]
    for one, other in itertools.permutations(matrix, 2):
        assert one.sum() > other.sum() or (one <= other).all()


def test_independent_sets_have_the_counts_and_need_not_be_nested(key: jax.Array) -> None:
    config = SafetyConfig(unsafe_tasks=(2, 3, 6), nested=False)
    matrices = [safety_matrix(config, 3, 8, fold(key, i)) for i in range(20)]
    assert all(matrix.sum(axis=1).tolist() == [2, 3, 6] for matrix in matrices)
    nested = [bool((matrix[0] <= matrix[1]).all() and (matrix[1] <= matrix[2]).all()) for matrix in matrices]
    assert sum(nested) < 10
    # Every task is unsafe for some group in some draw, and safe in another.
    shares = np.mean(matrices, axis=0)
    assert ((shares[:2] > 0) & (shares[:2] < 1)).all()
    again = safety_matrix(config, 3, 8, fold(key, 0))
    assert (again == matrices[0]).all()
    assert any((other != again).any() for other in matrices[1:])


def test_groups_with_equal_counts_are_drawn_apart(key: jax.Array) -> None:
    config = SafetyConfig(unsafe_tasks=(4, 4), nested=False)
    matrices = [safety_matrix(config, 2, 8, fold(key, i)) for i in range(10)]
    assert any((matrix[0] != matrix[1]).any() for matrix in matrices)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_on_counts_is_what_its_words_say(rule: str, nested: bool, key: jax.Array) -> None:
    plain = safety_matrix(SafetyConfig(unsafe_tasks=(2, 5, 3), nested=nested), 3, 7, key)
    matrix = safety_matrix(SafetyConfig(unsafe_tasks=(2, 5, 3), nested=nested, rule=rule), 3, 7, key)
    assert matrix.tolist() == meant(plain.tolist(), rule)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_on_a_table_is_what_its_words_say(rule: str, key: jax.Array) -> None:
    matrix = safety_matrix(SafetyConfig(table=TABLE, rule=rule), 3, 5, key)
    assert matrix.dtype == bool
    assert matrix.tolist() == meant([[bool(entry) for entry in row] for row in TABLE], rule)


def test_a_table_may_make_all_tasks_or_none_unsafe(key: jax.Array) -> None:
    # As YAML gives it: a list of lists.
    matrix = safety_matrix(SafetyConfig(table=([0, 0], [1, 1])), 2, 2, key)
    assert matrix.tolist() == [[False, False], [True, True]]


def test_half_unsafe_tasks_are_not_more_unsafe_than_safe_ones(key: jax.Array) -> None:
    assert safety_matrix(SafetyConfig(unsafe_tasks=(2, 3), rule="concept_only"), 2, 4, key).tolist() == [
        [False] * 4,
        [True] * 4,
    ]


def test_under_xor_neither_the_task_nor_the_group_tells(key: jax.Array) -> None:
    matrix = safety_matrix(SafetyConfig(unsafe_tasks=(2, 3), rule="xor"), 2, 4, key)
    assert (matrix[0] != matrix[1]).all()
    assert matrix.any(axis=1).all()
    assert not matrix.all(axis=1).any()


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"rule=most: must be one of all, any, task_only, concept_only, xor"):
        SafetyConfig(rule="most")


@pytest.mark.parametrize(("table", "entry"), [(((0, 2), (1, 0)), "2"), ((0, 7), "7"), (((0, "x"),), "x")])
def test_an_entry_of_the_table_other_than_0_and_1_is_an_error(table: tuple[object, ...], entry: str) -> None:
    with pytest.raises(SettingError, match=rf"table={entry}: must be 0 \(safe\) or 1 \(unsafe\)"):
        SafetyConfig(table=table)


@pytest.mark.parametrize("table", [(), ((0, 1),), ((0, 1), (1, 0), (1, 1)), ((0, 1), (1,)), (0, 1), ((0, 1, 1),) * 2])
def test_a_table_of_another_shape_is_an_error(table: tuple[object, ...], key: jax.Array) -> None:
    with pytest.raises(SettingError, match=r"table=\d rows of .*: must have a row for each of 2 groups and an entry"):
        safety_matrix(SafetyConfig(table=table), 2, 2, key)


@pytest.mark.parametrize("unsafe_tasks", [(0, 3), (2, 4), (2, 9), (-1, 2)])
def test_every_group_needs_safe_and_unsafe_tasks(unsafe_tasks: tuple[int, int], key: jax.Array) -> None:
    with pytest.raises(SettingError, match=r"unsafe_tasks=.*must lie from 1 to 3"):
        safety_matrix(SafetyConfig(unsafe_tasks=unsafe_tasks), 2, 4, key)


@pytest.mark.parametrize("unsafe_tasks", [(2,), (2, 2, 3)])
def test_every_group_needs_a_count(unsafe_tasks: tuple[int, ...], key: jax.Array) -> None:
    with pytest.raises(SettingError, match=r"unsafe_tasks=.*must have an entry for each of the 2 concept groups"):
        safety_matrix(SafetyConfig(unsafe_tasks=unsafe_tasks), 2, 4, key)


@pytest.mark.parametrize("rule", ["concept_only", "xor"])
@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"unsafe_tasks": (1, 2)}, "unsafe_tasks=[1, 2]"),
        ({"unsafe_tasks": (3, 3)}, "unsafe_tasks=[3, 3]"),
        ({"table": ((1, 1, 1, 0), (0, 1, 1, 1))}, "table=[3, 3]"),
    ],
)
def test_rules_that_tell_groups_apart_need_both_kinds_of_group(
    rule: str, config: dict[str, tuple[int, ...]], name: str, key: jax.Array
) -> None:
    with pytest.raises(SettingError) as caught:
        safety_matrix(SafetyConfig(**config, rule=rule), 2, 4, key)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{name}: rule={rule} needs a group with more unsafe than safe of 4 tasks")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("composed", [1, 2, 3])
def test_every_verdict_is_that_of_a_loop(rule: str, composed: int, key: jax.Array) -> None:
    matrix = safety_matrix(SafetyConfig(unsafe_tasks=(1, 2, 3), rule=rule), 3, 4, key)
    prompts = list(
        itertools.product(itertools.product([False, True], repeat=3), itertools.product(range(4), repeat=composed))
    )
    expected = [
        judge(matrix.tolist(), rule, {g for g, there in enumerate(groups) if there}, tasks) for groups, tasks in prompts
    ]
    groups, tasks = np.array([p[0] for p in prompts]), np.array([p[1] for p in prompts])
    assert verdict(matrix, rule, groups, tasks).tolist() == expected
    assert verdict(jnp.asarray(matrix), rule, jnp.asarray(groups), jnp.asarray(tasks)).tolist() == expected


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_verdicts_by_random_matrices_are_those_of_a_loop(data: st.DataObject) -> None:
    groups, tasks = data.draw(st.integers(1, 4), "groups"), data.draw(st.integers(1, 5), "tasks")
    row = st.lists(st.booleans(), min_size=tasks, max_size=tasks)
    rows = data.draw(st.lists(row, min_size=groups, max_size=groups), "matrix")
    rule = data.draw(st.sampled_from(sorted(RULES)), "rule")
    present = data.draw(st.sets(st.integers(0, groups - 1)), "present")
    written = tuple(data.draw(st.lists(st.integers(0, tasks - 1), min_size=1, max_size=4), "written"))
    held = np.array([group in present for group in range(groups)])
    assert verdict(np.array(rows), rule, held, np.array(written)) == judge(rows, rule, present, written)


def test_text_of_several_groups_is_mixed_where_they_differ_and_of_none_safe() -> None:
    matrix = np.array([[False, True], [True, True]])
    both, none = np.array([True, True]), np.array([False, False])
    assert verdict(matrix, "all", both, np.array([0, 0])) == MIXED
    assert verdict(matrix, "all", both, np.array([1, 1])) == UNSAFE
    assert verdict(matrix, "all", none, np.array([1, 1])) == SAFE
