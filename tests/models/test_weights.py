"""Tests of `models/weights.py`."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load, save

from models.transformer import ModelConfig, Params
from models.weights import (
    Described,
    WeightsError,
    check,
    described,
    flatten,
    from_safetensors,
    one_seed,
    to_safetensors,
)
from synth.vocab import MARKS, Marks
from synth.world import World

OURS = Described(ModelConfig(layers=2, heads=2, width=8, kv_heads=1, norm="rms"), ("<pad>", "a"), Marks(1, 1, 0))


def test_safetensors_round_trip_is_exact(params: Params) -> None:
    content = to_safetensors(params, OURS)
    assert described(content) == OURS
    assert "blocks.0.mlp.W_in" in load(content)
    back = from_safetensors(content)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert all((flatten(params)[name] == array).all() for name, array in flatten(back).items())


def test_a_transposed_view_is_stored_as_it_reads() -> None:
    matrix = np.arange(6.0).reshape(2, 3).T
    assert (from_safetensors(to_safetensors({"a": {"w": matrix}}, OURS))["a"]["w"] == matrix).all()


def test_one_seed_takes_one_model_from_a_stack(params: Params) -> None:
    stack = jax.tree.map(lambda a: np.stack([a, a + 1]), params)
    assert (flatten(one_seed(stack, 1))["W_E"] == np.asarray(params["W_E"]) + 1).all()


def test_a_file_of_somebody_elses_has_weights_and_no_description() -> None:
    content = save({"a.w": np.ones(3, np.float32)})
    assert (from_safetensors(content)["a"]["w"] == 1).all()
    with pytest.raises(WeightsError, match="no model is described"):
        described(content)
    with pytest.raises(WeightsError, match="no model is described"):
        described(b"not safetensors at all")


def test_a_file_that_does_not_say_what_ends_a_response_is_of_a_grammar_world(params: Params) -> None:
    content = to_safetensors(params, OURS._replace(marks=MARKS))
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    said = json.loads(head["__metadata__"]["described"])
    assert said.pop("marks") == {"bos": 1, "eos": 2, "pad": 0}
    older = json.dumps({"__metadata__": {"described": json.dumps(said)}}).encode()
    assert described(len(older).to_bytes(8, "little") + older) == OURS._replace(marks=MARKS)


def test_the_first_array_of_another_architecture_is_named(world: World, model: ModelConfig, params: Params) -> None:
    check(model, world.vocab.size, params)
    wider = dataclasses.replace(model, mlp_ratio=2)
    with pytest.raises(WeightsError, match=r"blocks\.0\.mlp\.W_in is \[8, 32\] in these weights and \[8, 16\] in the"):
        check(wider, world.vocab.size, params)
    with pytest.raises(WeightsError, match=r"W_pos is .* in these weights and absent in the model"):
        check(dataclasses.replace(model, positions="rotary"), world.vocab.size, params)
