"""Tests of `models/weights.py`."""

import jax
import numpy as np
from safetensors.numpy import load

from models.transformer import Params
from models.weights import flatten, from_safetensors, one_seed, to_safetensors


def test_safetensors_round_trip_is_exact(params: Params) -> None:
    content = to_safetensors(params)
    assert "blocks.0.mlp.W_in" in load(content)
    back = from_safetensors(content)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert all((flatten(params)[name] == array).all() for name, array in flatten(back).items())


def test_a_transposed_view_is_stored_as_it_reads() -> None:
    matrix = np.arange(6.0).reshape(2, 3).T
    assert (from_safetensors(to_safetensors({"a": {"w": matrix}}))["a"]["w"] == matrix).all()


def test_one_seed_takes_one_model_from_a_stack(params: Params) -> None:
    stack = jax.tree.map(lambda a: np.stack([a, a + 1]), params)
    assert (flatten(one_seed(stack, 1))["W_E"] == np.asarray(params["W_E"]) + 1).all()
