"""What the tests of objectives are given."""

import jax
import pytest

from models.training.method import labelled_pairs
from models.transformer import Params
from synth.keys import fold
from synth.sequences import Pair
from synth.tuning_data import TuningData
from synth.world import World


@pytest.fixture(scope="package")
def pair(world: World, key: jax.Array) -> Pair:
    return jax.jit(lambda k: labelled_pairs(world, TuningData(0, 0.5, 0.0), k, 0, 8))(fold(key, "pair"))


@pytest.fixture(scope="package")
def reference(params: Params, key: jax.Array) -> Params:
    return jax.tree.map(lambda a: a * 0.9, params)
