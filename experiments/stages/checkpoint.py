"""Training states on disk, so that a stage that was stopped goes on from the last one."""

import hashlib
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import load, save

from experiments.store.files import remove
from synth.settings import StoppedError

# Orbax tells of a failure at length; here it is one line.
logging.getLogger("absl").setLevel(logging.CRITICAL)

CONTENT = "content"
"""The name under which orbax keeps what is packed."""


class MismatchError(StoppedError):
    """A state of something else than what is to go on; the message is one line for the user."""


class Checkpoints:
    """The last two training states of a stage, in `folder`. Each is there whole or not at all.

    States are written in the background. One that cannot be written is a warning: training
    holds all it needs in memory, and the states before it stay.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder, self.warn = folder.resolve(), warn
        self.manager = self._open()
        self.writing: int | None = None

    def _open(self) -> ocp.CheckpointManager:
        """A manager of the states there are; what is half written is removed, for it takes space."""
        for unfinished in self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}"):
            remove(unfinished)
        return ocp.CheckpointManager(self.folder, options=ocp.CheckpointManagerOptions(max_to_keep=2))

    def save(self, step: int, tree: Any) -> None:
        """Keeps `tree` (arrays) as the state after `step` steps; returns once it is copied."""
        self.wait()
        self.writing = step
        try:
            with _uninterrupted():
                self.manager.save(step, args=ocp.args.StandardSave({CONTENT: _packed(tree)}))
        except Exception as error:  # whatever orbax and its writers raise
            self._give_up(error)

    def wait(self) -> None:
        """Returns once the state last given to `save` is written, or has failed to be."""
        if self.writing is None:
            return
        try:
            self.manager.wait_until_finished()
        except Exception as error:  # as in save
            self._give_up(error)
        self.writing = None

    def _give_up(self, error: Exception) -> None:
        self.warn(f"the state of step {self.writing} could not be saved ({reason(error)}); training goes on")
        self.writing = None
        # A manager that failed once does not go on.
        with suppress(Exception):
            self.manager.close()
        self.manager = self._open()

    def restore(self, like: Any) -> Any | None:
        """The latest state that can be read, with the structure of `like`; None if there is none.

        Raises MismatchError if it holds arrays of other names or shapes than `like`.
        """
        wanted = _flat(like)
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                found = _unpacked(self.manager.restore(step, args=ocp.args.StandardRestore())[CONTENT])
            except Exception as error:  # whatever orbax meets in a broken file
                self.warn(f"the state of step {step} cannot be read ({reason(error)}); falling back")
                remove(self.folder / str(step))
                self.manager.reload()
                continue
            self._compare(step, found, wanted)
            return jax.tree.unflatten(jax.tree.structure(like), [np.array(found[name]) for name in wanted])
        return None

    def _compare(self, step: int, found: dict[str, Any], wanted: dict[str, np.ndarray]) -> None:
        shapes, expected = ({name: np.shape(a) for name, a in tree.items()} for tree in (found, wanted))
        for name in [*expected, *sorted(shapes)]:
            if shapes.get(name) != expected.get(name):
                there, here = (str(side.get(name, "absent")) for side in (shapes, expected))
                raise MismatchError(
                    f"the state of step {step} in {self.folder} is of other settings: {name} is {there} there and "
                    f"{here} here; train elsewhere or remove the folder"
                )

    def forget(self, step: int) -> None:
        """Removes the states of `step` and of all later steps."""
        for later in self.manager.all_steps():
            if later >= step:
                remove(self.folder / str(later))
        self.manager.reload()

    def latest(self) -> int | None:
        """The step of the latest state, None if there is none."""
        step: int | None = self.manager.latest_step()
        return step

    def close(self) -> None:
        """Waits for what is being written."""
        self.wait()
        self.manager.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the block to end: a process interrupted while orbax starts its threads would never exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def with_sum(content: bytes) -> bytes:
    """`content` followed by its SHA-256."""
    return content + hashlib.sha256(content).digest()


def without_sum(whole: bytes) -> bytes:
    """The content of `with_sum`. Raises ValueError if it is not what was written."""
    size = hashlib.sha256().digest_size
    if hashlib.sha256(whole[:-size]).digest() != whole[-size:]:
        raise ValueError("it is not what was written")
    return whole[:-size]


def _packed(tree: Any) -> np.ndarray:
    """A copy of the arrays of `tree` as one array of bytes, with a checksum: orbax takes changed bytes for a state."""
    return np.frombuffer(with_sum(save(_flat(tree))), np.uint8)


def _unpacked(packed: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of `_packed`, by their path. Raises ValueError if they are not what was written."""
    return load(without_sum(packed.tobytes()))


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of `tree` by their path in it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    number = re.search(r"os_error_code=.(\d+)", str(error))
    return os.strerror(int(number[1])) if number else (str(error).splitlines() or [type(error).__name__])[0][:120]
