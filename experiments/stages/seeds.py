"""The seeds of a model, measured side by side."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax
from threadpoolctl import threadpool_limits

AT_ONCE = 3
"""Seeds measured side by side on CPU: the activations of each are in memory."""

T = TypeVar("T")


def of_each(function: Callable[[int], T], seeds: Sequence[int]) -> list[T]:
    """`function` of every seed, which no other seed has a part in.

    Alone, a seed leaves cores of a CPU idle: between operations, and in those too small to be
    shared. What all of them run is compiled once even so: JAX has the others wait for it.
    """
    threads = AT_ONCE if jax.default_backend() == "cpu" else 1
    # Matrices are small: BLAS's own threads would wait for one another longer than they compute.
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, seeds))
