"""Tests of `models/huggingface.py`: what the files hold, and that transformers makes the same model of them.

The second part needs the extra `interop`, and is skipped without it.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load

from experiments.export_prompts import table
from models import huggingface
from models.decode import greedy
from models.transformer import ModelConfig, Params, forward, init
from models.weights import Described, WeightsError
from synth import sequences, vocab
from synth.families import sample_batch
from synth.prompts import TRAIN, verdicts
from synth.world import World

LLAMA: dict[str, Any] = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "biases": False, "heads": 4}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2 sinusoid": {"positions": "sinusoid"},
    "gpt2 without biases": {"biases": False, "kv_heads": 2},
    "gpt2 tied": {"tied": True},
    "llama": {**LLAMA, "kv_heads": 2},
    "llama tied": {**LLAMA, "tied": True},
}
COUNT = 8


class Exported(NamedTuple):
    """A model and the files it was exported to."""

    model: ModelConfig
    params: Params
    files: dict[str, bytes]

    def read(self, name: str) -> Any:
        return json.loads(self.files[name])


@pytest.fixture(scope="module", params=SHAPES)
def exported(request: pytest.FixtureRequest, world: World, model: ModelConfig) -> Exported:
    return made(dataclasses.replace(model, **SHAPES[request.param]), world)


def made(model: ModelConfig, world: World) -> Exported:
    """With weights large enough that nothing vanishes, and an EOS that comes often enough to be seen."""
    draws = np.random.default_rng(3)
    shapes = jax.eval_shape(lambda: init(model, world.vocab.size, jax.random.key(0)))
    params = jax.tree.map(lambda leaf: np.float32(0.4 * draws.normal(size=leaf.shape)), shapes)
    params["W_E" if model.tied else "W_U"].T[:, vocab.EOS] *= 1.0
    names = tuple(world.vocab.names())
    return Exported(model, params, huggingface.files(params, Described(model, names)))


@pytest.fixture(scope="module")
def prompts(world: World, key: jax.Array) -> pa.Table:
    """Prompts with answers, as `experiments.data` writes them."""
    drawn = sample_batch(world, "unsafe", TRAIN, key, COUNT)
    return table(
        world, "unsafe", *jax.tree.map(np.asarray, (drawn, *sequences.both(world, drawn), verdicts(world, drawn)))
    )
