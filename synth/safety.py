"""Which combinations of tasks and concept are unsafe (arXiv 2407.10264, sec. 3).

A matrix says for each concept group which tasks are unsafe; a rule says what that makes of a
prompt with several tasks. In the paper the sets of unsafe tasks are nested, and a prompt is
unsafe if all its tasks are unsafe for its text's group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from synth.keys import fold
from synth.settings import require

SAFE, UNSAFE, MIXED = range(3)
VERDICTS = ("safe", "unsafe", "mixed")

RULES = {
    "all": "unsafe if all tasks are unsafe for the text's group, safe if none is, else mixed",
    "any": "unsafe if any task is unsafe for the text's group",
    "task_only": "as all, with the last group's unsafe tasks for every group: the concept does not matter",
    "concept_only": "as all, with every task unsafe for a group that has more unsafe than safe ones, "
    "and none for the others: the tasks do not matter",
    "xor": "as all, with the first group's unsafe tasks, exchanged with its safe ones for a group that has more "
    "unsafe than safe tasks: neither the task nor the concept tells",
}


@dataclass(unsafe_hash=True)
class SafetyConfig:
    """The unsafe tasks of each concept group and the rule."""

    unsafe_tasks: tuple[int, ...] = (2, 6)
    """Unsafe tasks of each concept group, from safe-dominant to unsafe-dominant (|F^u_A|, |F^u_B|)."""
    nested: bool = True
    """Whether a group's unsafe tasks are unsafe for every group with more of them (F^u_A in F^u_B);
    if not, each group's are drawn independently."""
    table: tuple[Any, ...] | None = None
    """The matrix itself, a row for each group and a 0 or 1 for each task, in place of the counts."""
    rule: str = "all"
    """One of `all`, `any`, `task_only`, `concept_only`, `xor`."""

    def __post_init__(self) -> None:
        self.unsafe_tasks = tuple(self.unsafe_tasks)
        require(self.rule in RULES, "rule", self.rule, f"must be one of {', '.join(RULES)}", "set all, as in the paper")
        if self.table is not None:
            rows = [row if isinstance(row, list | tuple) else [row] for row in self.table]
            for entry in (entry for row in rows for entry in row):
                require(entry in (0, 1), "table", entry, "must be 0 (safe) or 1 (unsafe)", "write rows like [0,1,1]")
            self.table = tuple(tuple(row) for row in rows)


def safety_matrix(config: SafetyConfig, groups: int, tasks: int, key: jax.Array) -> np.ndarray:
    """[groups, tasks] bool, true where a task is unsafe for a group; rules but `any` are worked in.

    Raises SettingError where counts, table, rule and number of groups do not fit.
    """
    matrix = _counted(config, groups, tasks, key) if config.table is None else _tabled(config.table, groups, tasks)
    most = matrix.sum(axis=1) * 2 > tasks
    if config.rule in ("concept_only", "xor"):
        name = "unsafe_tasks" if config.table is None else "table"
        require(
            0 < most.sum() < groups,
            name,
            matrix.sum(axis=1).tolist(),
            f"rule={config.rule} needs a group with more unsafe than safe of {tasks} tasks, and one without",
            f"for example unsafe_tasks={[1] * (groups - 1) + [max(2, tasks - 1)]} of {max(3, tasks)} tasks",
        )
    if config.rule == "task_only":
        matrix = np.repeat(matrix[-1:], groups, axis=0)
    if config.rule == "concept_only":
        matrix = np.repeat(most[:, None], tasks, axis=1)
    if config.rule == "xor":
        matrix = matrix[:1] ^ most[:, None]
    return matrix


def _counted(config: SafetyConfig, groups: int, tasks: int, key: jax.Array) -> np.ndarray:
    counts = config.unsafe_tasks
    require(
        len(counts) == groups,
        "unsafe_tasks",
        list(counts),
        f"must have an entry for each of the {groups} concept groups",
        f"for example unsafe_tasks={[1] * (groups - 1) + [max(1, tasks - 1)]}",
    )
    for count in counts:
        require(
            1 <= count < tasks,
            "unsafe_tasks",
            list(counts),
            f"must lie from 1 to {tasks - 1}, below tasks.count={tasks}, so that each group has unsafe and safe tasks",
            "lower unsafe_tasks, raise tasks.count, or write the table",
        )
    order = np.tile(np.arange(tasks), (groups, 1))
    if not config.nested:
        data = [np.asarray(jax.random.key_data(fold(key, "unsafe", group))) for group in range(groups)]
        order = np.stack([np.random.default_rng(seed).permutation(tasks) for seed in data])
    return order < np.array(counts)[:, None]


def _tabled(table: Sequence[Sequence[int]], groups: int, tasks: int) -> np.ndarray:
    shape = [len(row) for row in table]
    require(
        shape == [tasks] * groups,
        "table",
        f"{len(shape)} rows of {sorted(set(shape))}",
        f"must have a row for each of {groups} groups and an entry for each of {tasks} tasks",
        "correct the table, grammar.groups or tasks.count",
    )
    return np.array(table, bool)


def verdict(matrix: Any, rule: str, groups: Any, tasks: Any) -> Any:
    """SAFE, UNSAFE or MIXED; works on NumPy and JAX arrays alike.

    `matrix` [G, T]; `groups` [..., G] bool, the groups that parts of the text were derived
    from; `tasks` [..., K]. Text of several groups is mixed if they differ in verdict, and
    text of no group is safe.
    """
    unsafe = matrix.T[tasks]  # [..., K, G]
    some, every = unsafe.any(-2), unsafe.all(-2)
    if rule == "any":
        every = some
    any_unsafe, any_safe = (groups & some).any(-1), (groups & ~every).any(-1)
    unsafe_only = any_unsafe & ~any_safe
    return any_unsafe.astype("int32") * MIXED + unsafe_only.astype("int32") * (UNSAFE - MIXED)
