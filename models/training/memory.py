"""How many runs can be trained side by side in the memory there is."""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from models.training.loop import Program, Schedule, mean_loss, start
from models.transformer import Params

SHARE = 0.5
"""Of a device's memory that runs may take; the rest is for the program and for what was not counted."""


def run_bytes(program: Program, schedule: Schedule, params: Params, reference: Params, keys: jax.Array) -> int:
    """Memory of one run in bytes, of arguments with a leading axis of runs.

    What a run holds from step to step (weights, optimizer, reference), gradient and update, and
    what the forward pass leaves for the backward one.
    """

    def one(*of_all: Any) -> Any:
        schedule, params, reference, key = jax.tree.map(lambda x: x[0] if x.ndim else x, of_all)
        whole = program.batch(key, jax.numpy.int32(0), schedule.hyper)
        part = jax.tree.map(lambda x: x[: x.shape[0] // program.optimizer.accumulate], whole)
        _, left = jax.vjp(lambda p: mean_loss(program, schedule, jax.numpy.float32(0), p, reference, part), params)
        state = start(program, jax.tree.map(lambda x: x[None], params))
        return left, state, reference, params, params

    return _bytes(jax.eval_shape(one, schedule, params, reference, keys))


def runs_at_once(runs: int, bytes_each: int) -> int:
    """How many of `runs` to train together: all, or the fewest equal shares of them that fit in SHARE.

    A function of the machine's whole memory, not of what is free: a stopped training goes on
    with the same shares.
    """
    fits = SHARE * _memory() // bytes_each
    for shares in range(1, runs):
        together = math.ceil(runs / shares)
        last = runs % together or together
        if max(map(_on_one_device, (together, last))) <= fits:
            return together
    return 1


def _on_one_device(runs: int) -> int:
    """How many of `runs` one device holds where `devices.mesh` puts them."""
    return runs // math.gcd(runs, jax.device_count())


def _memory() -> int:
    """Bytes of memory of a device, or of its share of the machine's where devices have none of their own."""
    stats = [device.memory_stats() for device in jax.devices()]
    if all(stats):
        return min(each["bytes_limit"] for each in stats if each)
    return host_memory() // len(stats)


def host_memory(root: str = "/", environment: Mapping[str, str] = os.environ) -> int:
    """Bytes of memory that this process may have: the machine's, or less in a container or in a job of a cluster.

    Of the control groups of Linux (version 1 and 2, those above the process's own too) and of Slurm, the least limit
    counts. `root` is where `proc` and `sys` are.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_of_groups(root), *_of_slurm(environment)])


def _of_groups(root: str) -> Iterator[int]:
    try:
        lines = _text(root, "proc/self/cgroup").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            home, file = "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            home, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # Within a container the path is that of the host and may not be there: then the container's own is on top.
        names = path.strip("/").split("/")
        for above in range(len(names) + 1):
            try:
                said = _text(root, home, *names[:above], file).strip()
            except OSError:
                continue
            if said.isdigit() and int(said) > 0:  # "max" is no limit.
                yield int(said)


def _text(*path: str) -> str:
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def _of_slurm(environment: Mapping[str, str]) -> Iterator[int]:
    """In mebibytes; 0 is all of the node."""

    def number(name: str) -> int:
        said = environment.get(name, "")
        return int(said) if said.isdigit() else 0

    of_node = number("SLURM_MEM_PER_NODE")
    of_cpus = number("SLURM_MEM_PER_CPU") * number("SLURM_CPUS_ON_NODE")
    yield from (2**20 * limit for limit in (of_node, of_cpus) if limit)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
