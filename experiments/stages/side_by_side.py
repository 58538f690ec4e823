"""What is done side by side in this process: jobs, and the seeds of a model that is measured."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

import jax

AT_ONCE = 3
"""Jobs, and of all that measure the seeds, side by side on CPU: the activations of each are in memory."""

stopping = threading.Event()
"""Set to have no further seed, nor chunk of steps, begun in this process."""

_room = threading.Semaphore(AT_ONCE)

T = TypeVar("T")


def at_once() -> int:
    """How many are done side by side here: one where there are devices to be filled, or several to be kept in step."""
    return AT_ONCE if jax.default_backend() == "cpu" and jax.device_count() == 1 else 1


def of_each(function: Callable[[int], T], seeds: Sequence[int]) -> list[T]:
    """`function` of every seed, which no other seed has a part in.

    Alone, a seed leaves cores of a CPU idle: between operations, and in those too small to be
    shared. What all of them run is compiled once even so: JAX has the others wait for it. However many
    threads call this, AT_ONCE seeds are measured in all. Raises CancelledError once `stopping` is set.
    """

    def one(seed: int) -> T:
        with _room:
            if stopping.is_set():
                raise CancelledError(f"seed {seed} was not begun")
            return function(seed)

    with ThreadPoolExecutor(at_once()) as pool:
        return list(pool.map(one, seeds))
