"""Tests of training on many devices, run by `test_devices.py` in a process that has eight emulated ones."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.progress import Reporter
from experiments.stages.runs import Runner, Watch
from experiments.stages.training import train
from models.training import devices, tuning
from models.training.devices import mesh, spread
from models.training.loop import Program, Schedule, State, across, run_chunk, seed_keys, start
from models.training.memory import runs_at_once
from models.training.methods import METHODS
from models.training.methods.dpo import DPO
from models.training.optimizer import OptimizerConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig, Params
from synth.world import World
from tests.models.training.programs import regression, zeros

STEPS = 12
PLAIN = OptimizerConfig(warmup=0.25, ema=0.5)

pytestmark = pytest.mark.usefixtures("with_optax")


def several(runs: int) -> tuple[Schedule, Params, jax.Array]:
    schedule = across([Schedule(STEPS, 3e-3 * (1 + run), 1.0 + run) for run in range(runs)], 1)
    return schedule, jax.tree.map(lambda a: a + 0.5, zeros(runs)), seed_keys(jax.random.key(3), runs)


def trained(program: Program, runs: int, grid: jax.sharding.Mesh | None) -> tuple[State, dict[str, np.ndarray]]:
    schedule, params, keys = several(runs)
    placed, state, reference, own = spread((schedule, start(program, params), params, keys), grid)
    state, log = run_chunk(program, placed, STEPS, state, reference, own, grid)
    return state, {name: np.asarray(rows[:STEPS]) for name, rows in log.items()}


def shards(array: jax.Array) -> dict[int, tuple[int, ...]]:
    """The shape of what each device holds."""
    return {shard.device.id: shard.data.shape for shard in array.addressable_shards}


def test_there_are_eight() -> None:
    assert jax.device_count() == 8


@pytest.mark.parametrize(
    ("runs", "batch_size", "shape"),
    [
        (8, 64, (8, 1)),
        (24, 1, (8, 1)),
        (4, 64, (4, 2)),
        (12, 64, (4, 2)),
        (2, 64, (2, 4)),
        (6, 6, (2, 3)),
        (2, 7, (2, 1)),
        (1, 64, (1, 8)),
        (3, 64, (1, 8)),
        (5, 6, (1, 6)),
        (7, 7, (1, 7)),
    ],
)
def test_whole_runs_come_first_and_the_rest_shares_examples(runs: int, batch_size: int, shape: tuple[int, int]) -> None:
    grid = mesh(runs, batch_size)
    assert grid is not None
    assert grid.devices.shape == shape
    assert grid.axis_names == (devices.RUNS, devices.EXAMPLES)
    assert len(set(grid.devices.flat)) == shape[0] * shape[1]


def test_what_cannot_be_divided_stays_on_one_device() -> None:
    assert mesh(3, 1) is None
    assert mesh(1, 11) is None
    assert spread({"a": 1}, None) == {"a": 1}


@pytest.mark.parametrize(
    ("runs", "accumulate", "held"), [(8, 1, (1, 3, 3)), (2, 1, (1, 3, 3)), (2, 2, (1, 3, 3)), (3, 1, (3, 3, 3))]
)
def test_eight_devices_equal_one(runs: int, accumulate: int, held: tuple[int, ...]) -> None:
    """8 runs, one to a device; 2, each with the examples of its batch over 4; 3, each over all 8."""
    program = regression(dataclasses.replace(PLAIN, accumulate=accumulate))
    one, log = trained(program, runs, None)
    many, its_log = trained(program, runs, mesh(runs, program.examples))
    assert shards(many.params["w"]) == dict.fromkeys(range(8), held)
    assert list(shards(one.params["w"]).values()) == [(runs, 3, 3)]
    for name, rows in log.items():
        # A mean over devices is a sum in another order, some roundings (6e-8) of each step;
        # whole runs, which do not talk, were compiled for another shape.
        np.testing.assert_allclose(its_log[name], rows, rtol=5e-6, atol=1e-6, err_msg=name)
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=5e-6, atol=1e-6)


def test_pairs_on_eight_devices_are_tuned_as_on_one(world: World, model: ModelConfig, params: Params) -> None:
    """By DPO, 2 runs, each with the examples of its batch over 4."""
    config = TuningConfig(steps=3, batch_size=8, learning_rate=1e-3)
    program = tuning.program(config, METHODS["dpo"], model, world.config)
    schedule = tuning.schedule(config, METHODS["dpo"], DPO(), world.config)
    runs = across([schedule], 2), jax.tree.map(lambda w: jnp.stack([w, 0.9 * w]), params)

    def tuned(grid: jax.sharding.Mesh | None) -> tuple[State, dict[str, np.ndarray]]:
        schedule, reference, keys = spread((*runs, seed_keys(jax.random.key(3), 2)), grid)
        state, log = run_chunk(program, schedule, 3, spread(start(program, runs[1]), grid), reference, keys, grid)
        return state, {name: np.asarray(rows[:3]) for name, rows in log.items()}

    (one, log), (many, its_log) = tuned(None), tuned(mesh(2, 8))
    assert len(shards(many.params["W_E"])) == 8
    for name, rows in log.items():
        np.testing.assert_allclose(its_log[name], rows, rtol=1e-4, atol=1e-4, err_msg=name)
    # Adam's first steps have the size of the learning rate whatever the gradient's, and its sign where that is noise.
    moved = [
        np.mean(np.abs(np.asarray(ours) - np.asarray(theirs)) > 1e-4)
        for ours, theirs in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True)
    ]
    assert max(moved) < 0.02


def test_the_examples_of_a_batch_lie_on_the_devices_of_their_run() -> None:
    grid = mesh(2, 8)

    def one(x: jax.Array) -> jax.Array:
        return devices.spread_examples({"x": x}, grid)["x"] * 2

    placed = spread(jnp.ones((2, 8, 3)), grid)
    doubled = jax.jit(jax.vmap(one, spmd_axis_name=devices.RUNS))(placed)
    assert shards(doubled) == dict.fromkeys(range(8), (1, 2, 3))


def test_a_device_holds_its_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.memory._memory", lambda: 20)
    # Half of 20 bytes holds one run of 10: 8 runs side by side are one to a device, 7 are all on each.
    assert [runs_at_once(runs, 10) for runs in (1, 2, 3, 7, 8, 9, 16, 24)] == [1, 2, 2, 2, 8, 2, 8, 8]


def test_training_stopped_goes_on_over_all_devices(tmp_path: Path) -> None:
    """The states are of all devices, and the result is that of one."""
    program, reporter, seen = regression(PLAIN), Reporter(), []

    def look(params: Params) -> dict[str, np.ndarray]:
        seen.append(len(shards(params["w"])))
        return {"w": np.asarray(params["w"])[:, 0]}

    def stop(step: int, *_: object) -> None:
        if step == 8:
            raise KeyboardInterrupt

    schedule, params, keys = several(8)
    arguments = (program, schedule, params, params, keys, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(Runner(reporter, 0.0), "on eight", *arguments, Watch(4, look, stop))
    assert next(tmp_path.glob("4")).is_dir()
    done = train(Runner(reporter, 0.0), "on eight", *arguments, Watch(4, look, lambda *_: None))
    assert set(seen) == {1, 8}
    alone, log = trained(program, 8, None)
    for name, array in alone.result.items():
        np.testing.assert_allclose(done.params[name], array, rtol=5e-6, atol=1e-6)
    np.testing.assert_allclose(done.log["loss"], log["loss"], rtol=5e-6, atol=1e-6)
    np.testing.assert_allclose(done.looks["w"][-1], done.params["w"][:, 0])
