"""How fast the parts of `study=quick` are on this machine. `make bench` prints; nothing is asserted."""

import jax
import pytest

from experiments.settings.config import load
from experiments.settings.schema import StudyConfig
from models.training import pretraining, tuning
from models.training.loop import seed_keys
from models.training.methods import METHODS
from models.transformer import Params, init
from synth.world import build_world
from tests.benchmarks.timing import ceiling, step_seconds


@pytest.fixture(scope="module")
def config() -> StudyConfig:
    return load(["study=quick"])


@pytest.fixture(scope="module")
def params(config: StudyConfig) -> Params:
    size = build_world(config.world).vocab.size
    return jax.vmap(lambda key: init(config.model, size, key))(seed_keys(jax.random.key(0), config.seeds))


def test_training_steps(config: StudyConfig, params: Params) -> None:
    peak = ceiling()
    weights = sum(leaf.size for leaf in jax.tree.leaves(params)) / config.seeds
    positions = config.pretrain.batch_size * (build_world(config.world).sequence_length - 1) * config.seeds
    print(f"\nmatrix product ceiling: {peak:.0f} GFLOP/s; {config.seeds} seeds of {weights:,.0f} weights")
    program = pretraining.program(config.pretrain, config.model, config.world)
    schedule = pretraining.schedule(config.pretrain, config.world)._replace(steps=1000)
    elapsed = step_seconds(program, schedule, params, params)
    share = 6 * weights * positions / elapsed / 1e9 / peak
    print(f"pretrain step: {1e3 * elapsed:6.1f} ms, {share:.0%} of the ceiling at 6 FLOP a weight and position")
    for name, method in METHODS.items():
        program = tuning.program(config.tuning, method, config.model, config.world)
        traced = tuning.schedule(config.tuning, method, getattr(config.method, name), config.world)
        print(f"tune {name} step: {1e3 * step_seconds(program, traced, params, params):6.1f} ms")
