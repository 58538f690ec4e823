"""The seeds of a model, measured side by side, also beside those of other models."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

import jax

AT_ONCE = 3
"""Seeds measured side by side on CPU, of all models together: the activations of each are in memory."""

stopping = threading.Event()
"""Set to have no further seed begun in this process."""

_room = threading.Semaphore(AT_ONCE)

T = TypeVar("T")


def at_once() -> int:
    """How many seeds are measured side by side here."""
    return AT_ONCE if jax.default_backend() == "cpu" else 1


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
