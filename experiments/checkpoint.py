"""Training states on disk, so that a stage that was stopped goes on from the last one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints:
    """The last two training states of a stage, in `folder`. Each is there whole or not at all."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder, self.warn = folder.resolve(), warn
        self.manager = ocp.CheckpointManager(
            self.folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        )

    def save(self, step: int, tree: Any) -> None:
        """Keeps `tree` (arrays) as the state after `step` steps."""
        self.manager.save(step, args=ocp.args.StandardSave(jax.tree.map(np.array, tree)))

    def restore(self, like: Any) -> Any | None:
        """The latest state that can be read, shaped like `like`; None if there is none."""
        template = jax.tree.map(np.asarray, like)
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                return self.manager.restore(step, args=ocp.args.StandardRestore(template))
            except Exception as error:  # whatever orbax meets in a broken file
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self.warn(f"the state of step {step} cannot be read ({reason[:120]}); falling back")
                shutil.rmtree(self.folder / str(step), ignore_errors=True)
                self.manager.reload()
        return None

    def latest(self) -> int | None:
        """The step of the latest state, None if there is none."""
        step: int | None = self.manager.latest_step()
        return step

    def close(self) -> None:
        self.manager.close()
