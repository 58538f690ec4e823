"""A training stage that is slow on the outside and quick inside, run by `test_training.py` in a process of its own.

Arguments: the store, and the seconds that showing progress takes.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.progress import Meter, Reporter
from experiments.stages.files import save_training
from experiments.store import Artifact, Recipe, Store
from experiments.training import Runner, train
from models.training.loop import OptimizerConfig, Program, Schedule, seed_keys
from models.transformer import Params

STEPS = 2000


def loss(params: Params, reference: Params, batch: jax.Array, progress: jax.Array, breaks: jax.Array) -> jax.Array:
    spoil = jnp.where(progress > breaks, jnp.nan, 1.0)
    return spoil * jnp.sum(jnp.square(batch @ params["W_E"] - batch), axis=-1)


PROGRAM = Program(
    OptimizerConfig(), lambda key, step, hyper: jax.random.normal(jax.random.fold_in(key, step), (4, 8)), loss
)


def run(root: Path, learning_rate: float = 1e-2, breaks: float = 2.0) -> Artifact:
    """The stage, in a store of its own; the loss is no number once more than `breaks` of the steps are done."""
    reporter = Reporter()
    store = Store(root, reporter.warn)

    def make(folder: Path, partial: Path) -> None:
        keys = seed_keys(jax.random.key(0), 2)
        params = {"W_E": jnp.ones((2, 8, 8)) * 0.1}
        schedule = Schedule(jnp.int32(STEPS), jnp.float32(learning_rate), jnp.float32(breaks))
        save_training(folder, train(Runner(reporter, 0.0), "slow", PROGRAM, schedule, params, {}, keys, partial))

    return store.fetch(Recipe("slow", {"learning_rate": learning_rate}, (), "1"), make)


if __name__ == "__main__":
    update, pause = Meter.update, float(sys.argv[2])

    def slow_update(self: Meter, step: int, note: str) -> None:
        print(f"at {step}", flush=True)
        time.sleep(pause)
        update(self, step, note)

    Meter.update = slow_update  # type: ignore[method-assign]
    print(run(Path(sys.argv[1])).path, flush=True)
