"""Timing, shared by the benchmarks."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.training.loop import Program, Schedule, across, run_chunk, seed_keys, start
from models.transformer import Params

STEPS = 20


def seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """The fastest of some calls, the first one for compilation not counted."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times)


def ceiling() -> float:
    """GFLOP/s of a large float32 matrix product."""
    matrix = jnp.ones((2048, 2048))
    product = jax.jit(lambda a: a @ a)
    return 2 * 2048**3 / seconds(lambda: product(matrix)) / 1e9


def step_seconds(program: Program, schedule: Schedule, params: Params, reference: Params) -> float:
    """`schedule` of one run, for all of the runs that `params` hold."""
    keys = seed_keys(jax.random.key(1), params["W_E"].shape[0])
    runs = across([schedule], keys.shape[0])

    def chunk() -> Any:
        return run_chunk(program, runs, STEPS, start(program, params), reference, keys)

    return seconds(chunk) / STEPS
