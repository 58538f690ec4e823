"""Tests of `models/training/memory.py`: what a run is said to take, and how many are trained at once."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from models.training import memory, pretraining
from models.training.loop import Program, Schedule, Terms, across, seed_keys
from models.training.memory import run_bytes, runs_at_once
from models.training.optimizer import OptimizerConfig
from models.training.pretraining import PretrainConfig
from models.transformer import ModelConfig, Params, init
from synth.segments import Batch, Room
from tests.models.training.programs import SIZE, regression, zeros

pytestmark = pytest.mark.usefixtures("with_optax")

MODEL = ModelConfig(layers=4, heads=2, width=16, context=32)
LETTERS = 20


@functools.cache
def weights() -> Params:
    """Of two runs."""
    shapes = jax.eval_shape(lambda: init(MODEL, LETTERS, jax.random.key(0)))
    return jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape), leaf.dtype), shapes)


def taken(batch_size: int, accumulate: int = 1, remat: bool = False) -> tuple[int, int]:
    """What a run of pretraining takes, and its weights alone; its batches are blank."""
    model = dataclasses.replace(MODEL, remat=remat)

    def blank(key: jax.Array, step: jax.Array, hyper: None) -> Batch:
        tokens = jnp.zeros((batch_size, MODEL.context + 1), int)
        return Batch(tokens, tokens, tokens[:, 0], tokens > 0, Room(1))

    def loss(params: Params, reference: Params, batch: Batch, progress: jax.Array, hyper: None) -> Terms:
        return pretraining.loss(PretrainConfig(), model, params, batch, progress)

    program = Program(OptimizerConfig(accumulate=accumulate), blank, loss)
    keys, params = seed_keys(jax.random.key(0), 2), weights()
    own = sum(leaf[0].size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return run_bytes(program, across([Schedule(10, 1e-3, None)], 2), params, params, keys), own


def test_memory_grows_linearly_with_the_batch_and_falls_with_its_parts() -> None:
    sizes = {batch_size: taken(batch_size) for batch_size in (8, 16, 32)}
    (small, weights), (middle, _), (large, _) = sizes.values()
    each = (middle - small) / 8
    assert large - middle == pytest.approx(16 * each, rel=0.01)
    # Every block keeps attention [H, T, T] and some [T, D] and [T, 4 D], of four bytes.
    assert each > 4 * 4 * MODEL.context * (2 * MODEL.context + 8 * MODEL.width)
    # Weights, both moments, reference, gradient and update do not depend on the batch.
    assert 6 * weights < small - 8 * each < 9 * weights
    assert taken(32, accumulate=4)[0] == pytest.approx(small, rel=0.01)


def test_memory_falls_with_blocks_computed_twice() -> None:
    plain, again = (taken(32, remat=remat) for remat in (False, True))
    weights = plain[1]
    assert again[1] == weights
    assert again[0] - 7 * weights < 0.3 * (plain[0] - 7 * weights)


def test_a_small_run_by_hand_however_many_there_are() -> None:
    """Weights, two moments, reference, gradient and update, and what the backward pass reads again."""

    def one(ema: float, runs: int) -> int:
        params, keys = zeros(runs), seed_keys(jax.random.key(0), runs)
        program = regression(OptimizerConfig(ema=ema))
        return run_bytes(program, across([Schedule(5, 0.1, 1.0)], runs), params, params, keys)

    weights, inputs = 4 * (SIZE * SIZE + SIZE), 4 * 8 * SIZE
    assert 6 * weights + 2 * inputs <= one(0.0, 2) <= 9 * weights + 4 * inputs
    assert one(0.5, 2) - one(0.0, 2) == weights
    assert one(0.0, 1) == one(0.0, 2) == one(0.0, 5)


@pytest.mark.parametrize(
    ("runs", "bytes_each", "together"),
    [(1, 10, 1), (5, 10, 5), (6, 10, 3), (9, 10, 5), (10, 10, 5), (11, 10, 4), (3, 50, 1), (3, 51, 1), (3, 10**9, 1)],
)
def test_runs_go_together_or_in_the_fewest_equal_shares_that_fit(
    runs: int, bytes_each: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_memory", lambda: 100)
    assert runs_at_once(runs, bytes_each) == together


def test_the_memory_of_a_device_is_its_own_or_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def __init__(self, stats: dict[str, int] | None) -> None:
            self.stats = stats

        def memory_stats(self) -> dict[str, int] | None:
            return self.stats

    machine = memory._memory()
    assert machine > 2**27
    monkeypatch.setattr(jax, "devices", lambda: [Device(None), Device(None)])
    assert memory._memory() == machine // 2
    monkeypatch.setattr(jax, "devices", lambda: [Device({"bytes_limit": 300}), Device({"bytes_limit": 200})])
    assert memory._memory() == 200


def in_groups(root: Path, lines: str, limits: dict[str, str]) -> Path:
    """A made-up machine: what `proc` says of the process's control groups, and the files of these."""
    for name, text in {
        "proc/self/cgroup": lines,
        **{f"sys/fs/cgroup/{name}": said for name, said in limits.items()},
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


TWO_GIB = 2**31
PHYSICAL = memory.host_memory("nowhere", {})


@pytest.mark.parametrize(
    ("lines", "limits", "expected"),
    [
        ("0::/job\n", {"job/memory.max": f"{TWO_GIB}\n"}, TWO_GIB),
        ("0::/job/step\n", {"job/memory.max": f"{TWO_GIB}\n", "job/step/memory.max": "max\n"}, TWO_GIB),
        ("0::/of/the/host\n", {"memory.max": f"{TWO_GIB}\n"}, TWO_GIB),
        ("0::/job\n", {"job/memory.max": "max\n"}, PHYSICAL),
        ("0::/job\n", {}, PHYSICAL),
        ("5:cpu:/job\n4:memory:/job\n", {"memory/job/memory.limit_in_bytes": f"{TWO_GIB}\n"}, TWO_GIB),
        # Version 1 without a limit says the largest number that it can.
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, PHYSICAL),
    ],
)
def test_a_container_or_job_has_the_memory_that_its_groups_leave(
    lines: str, limits: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert memory.host_memory(str(in_groups(tmp_path, lines, limits)), {}) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_MEM_PER_NODE": "2048"}, TWO_GIB),
        ({"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"}, TWO_GIB),
        ({"SLURM_MEM_PER_NODE": "0"}, PHYSICAL),
        ({"SLURM_MEM_PER_NODE": "many"}, PHYSICAL),
    ],
)
def test_a_job_of_slurm_has_the_memory_it_asked_for(environment: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert memory.host_memory(str(tmp_path), environment) == expected
