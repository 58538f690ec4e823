"""Which combinations of tasks and concept are unsafe (arXiv 2407.10264, sec. 3).

Each concept group has a set of unsafe tasks; the sets are nested, so a task that is unsafe
for a safe-dominant group is unsafe for the others too. A prompt is unsafe if all its tasks
are unsafe for its concept's group, safe if none is, and mixed otherwise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.settings import require, require_positive

SAFE, UNSAFE, MIXED = range(3)
VERDICTS = ("safe", "unsafe", "mixed")


@dataclass(unsafe_hash=True)
class SafetyConfig:
    """Concept groups and the number of unsafe tasks of each (|F^u_A|, |F^u_B|, ...)."""

    unsafe_tasks: tuple[int, ...] = (2, 6)
    """Unsafe tasks of each concept group, from safe-dominant to unsafe-dominant."""
    concepts_per_group: int = 2

    def __post_init__(self) -> None:
        self.unsafe_tasks = tuple(self.unsafe_tasks)
        require_positive(self, "concepts_per_group")
        require(
            len(self.unsafe_tasks) >= 2,
            "unsafe_tasks",
            list(self.unsafe_tasks),
            "must have an entry for each of at least 2 concept groups",
            "for example unsafe_tasks=[2,6]",
        )

    def check_tasks(self, count: int) -> None:
        """Raises SettingError unless every group has an unsafe and a safe one of `count` tasks."""
        for unsafe in self.unsafe_tasks:
            require(
                1 <= unsafe < count,
                "unsafe_tasks",
                list(self.unsafe_tasks),
                f"must lie from 1 to {count - 1}, below tasks.count={count}, so that each group has "
                "unsafe and safe tasks",
                "lower unsafe_tasks or raise tasks.count",
            )


def nested_matrix(config: SafetyConfig, tasks: int, aliases: int) -> np.ndarray:
    """[groups, tasks + aliases] bool, true where the task is unsafe for the group.

    Task t is unsafe for a group with n unsafe tasks if t < n; an alias is as its twin.
    """
    order = np.r_[np.arange(tasks), np.arange(aliases)]
    return order < np.asarray(config.unsafe_tasks)[:, None]


def verdict(matrix: Any, group: Any, tasks: Any) -> Any:
    """SAFE, UNSAFE or MIXED for tasks [..., K] on text of concept group [...]."""
    unsafe = matrix[group[..., None], tasks]
    all_unsafe, any_unsafe = unsafe.all(-1), unsafe.any(-1)
    return any_unsafe * MIXED + all_unsafe * (UNSAFE - MIXED)
