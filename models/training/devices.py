"""Where training runs: runs and examples spread over every device there is."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

RUNS, EXAMPLES = "runs", "examples"
"""Axes of the mesh: whole runs first, for they never have to talk; then the examples of a batch."""


def mesh(runs: int, batch_size: int) -> Mesh | None:
    """The devices as a grid [runs, examples] for `runs` runs with batches of `batch_size`; None for one device.

    As many devices as divide the runs take whole runs, and of the rest as many as divide the
    batch share its examples, so some may stay idle.
    """
    devices = jax.devices()
    across = math.gcd(runs, len(devices))
    within = max(n for n in range(1, len(devices) // across + 1) if batch_size % n == 0)
    if across * within == 1:
        return None
    return Mesh(np.array(devices[: across * within]).reshape(across, within), (RUNS, EXAMPLES))


def spread(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays with a leading axis of runs, each run on its devices of `mesh`; others on all of them."""
    if mesh is None:
        return tree

    def place(x: jax.Array) -> jax.Array:
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(RUNS) if x.ndim else PartitionSpec()))

    return jax.tree.map(place, tree)


def spread_examples(tree: Any, mesh: Mesh | None) -> Any:
    """Inside a run, arrays with a leading axis of examples, each on its device of the run's."""
    if mesh is None:
        return tree
    return jax.tree.map(
        lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(EXAMPLES))), tree
    )
