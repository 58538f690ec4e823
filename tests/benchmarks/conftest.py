"""Benchmarks run as users do: what makes the tests compile quickly is taken back before JAX starts."""

import os
from collections.abc import Iterator

import jax
import pytest

os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace("--xla_cpu_use_fusion_emitters=false", "").strip()


@pytest.fixture(scope="module", autouse=True)
def _as_users_run_it() -> Iterator[None]:
    jax.config.update("jax_disable_most_optimizations", False)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
