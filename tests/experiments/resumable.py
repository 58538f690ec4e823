"""A training stage that is slow on the outside and quick inside, run by `test_training.py` in a process of its own.

Arguments: the store, and the seconds that showing progress takes.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.progress import Meter, Reporter
from experiments.stages.files import save_training
from experiments.store import Artifact, Recipe, Store
from experiments.training import Runner, Watch, train
from models.training.loop import OptimizerConfig, Program, Schedule, Terms, across, seed_keys
from models.transformer import ModelConfig, Params
from models.weights import Described

STEPS = 2000


def loss(params: Params, reference: Params, batch: jax.Array, progress: jax.Array, breaks: jax.Array) -> Terms:
    error = jnp.sum(jnp.square(batch @ params["W_E"] - batch), axis=-1)
    spoilt = jnp.where(progress > breaks, jnp.nan, error)
    return Terms(error + spoilt, {"error": error, "spoilt": spoilt})


def norms(params: Params) -> dict[str, np.ndarray]:
    return {"norm": np.linalg.norm(params["W_E"], axis=(1, 2))[:, None]}


PROGRAM = Program(
    OptimizerConfig(), lambda key, step, hyper: jax.random.normal(jax.random.fold_in(key, step), (4, 8)), loss
)


def run(root: Path, learning_rate: float = 1e-2, breaks: tuple[float, float] = (2.0, 2.0)) -> Artifact:
    """The stage, in a store of its own; a seed's loss is no number once its share `breaks` of the steps is done."""
    reporter = Reporter()
    store = Store(root, reporter.warn)

    def make(folder: Path, partial: Path) -> None:
        keys = seed_keys(jax.random.key(0), 2)
        params = {"W_E": jnp.ones((2, 8, 8)) * 0.1}
        schedule = across([Schedule(STEPS, learning_rate, share) for share in breaks], 1)
        watch = Watch(
            500, lambda params: {"norm": np.linalg.norm(params["W_E"], axis=(1, 2))[:, None]}, lambda *_: None
        )
        done = train(Runner(reporter, 0.0), "slow", PROGRAM, schedule, params, params, keys, partial, watch)
        save_training(folder, done, Described(ModelConfig(), ()), watch.every, ["all"])

    return store.fetch(Recipe("slow", {"learning_rate": learning_rate}, (), "1"), make)


if __name__ == "__main__":
    update, pause = Meter.update, float(sys.argv[2])

    def slow_update(self: Meter, step: int, note: str) -> None:
        print(f"at {step}", flush=True)
        time.sleep(pause)
        update(self, step, note)

    Meter.update = slow_update  # type: ignore[method-assign]
    print(run(Path(sys.argv[1])).path, flush=True)
