"""Weights by name: flat names, safetensors bytes, single seeds of a stack."""

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from models.transformer import ModelConfig, Params, init
from synth.settings import UserError
from synth.vocab import MARKS, Marks


def flatten(params: Params) -> dict[str, np.ndarray]:
    """Every array under its dotted name, `blocks.0.mlp.W_in`."""
    return {name: np.asarray(leaf) for name, leaf in _leaves(params).items()}


def _leaves(params: Params) -> dict[str, Any]:
    """Every array, or what stands for one, under its dotted name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def unflatten(flat: dict[str, np.ndarray]) -> Params:
    """The nested dictionary of dotted names; undoes `flatten`."""
    params: Params = {}
    for name, array in flat.items():
        *path, last = name.split(".")
        node = params
        for part in path:
            node = node.setdefault(part, {})
        node[last] = array
    return params


class WeightsError(UserError):
    """Weights that are not what was asked for; the message is one line for the user."""


class Described(NamedTuple):
    """What a safetensors file of ours says of the model whose weights it holds."""

    model: ModelConfig
    vocabulary: tuple[str, ...]
    """The name of each token id"""
    marks: Marks
    """Which of them begin, end and fill sequences"""


def to_safetensors(params: Params, described: Described) -> bytes:
    """The weights, one model's or a stack's, as the content of a safetensors file."""
    arrays = {name: np.ascontiguousarray(a) for name, a in flatten(params).items()}
    plain = {part: dataclasses.asdict(getattr(described, part)) for part in ("model", "marks")}
    said = json.dumps({**plain, "vocabulary": described.vocabulary})
    # One entry: safetensors writes several in an order that differs from call to call.
    return safetensors.numpy.save(arrays, {"described": said})


def from_safetensors(content: bytes) -> Params:
    """The weights in the content of a safetensors file, whoever wrote it."""
    return unflatten(safetensors.numpy.load(content))


def described(content: bytes) -> Described:
    """What `to_safetensors` wrote beside the weights. Raises WeightsError if somebody else wrote them."""
    try:
        size = int.from_bytes(content[:8], "little")
        said = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["described"])
        # Files of before do not say the marks, which were a grammar world's.
        marks = Marks(**said["marks"]) if "marks" in said else MARKS
        return Described(ModelConfig(**said["model"]), tuple(said["vocabulary"]), marks)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"no model is described in this safetensors file ({error!r})") from None


def check(model: ModelConfig, vocab_size: int, params: Params) -> None:
    """Raises WeightsError, naming the first array that differs, unless `params` are one `model`'s."""
    shapes = jax.eval_shape(lambda key: init(model, vocab_size, key), jax.random.key(0))
    wanted = {name: array.shape for name, array in _leaves(shapes).items()}
    found = {name: array.shape for name, array in _leaves(params).items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            here, there = (str(list(side[name])) if name in side else "absent" for side in (wanted, found))
            raise WeightsError(f"{name} is {there} in these weights and {here} in the model: another architecture")


def one_seed(params: Params, seed: int) -> Params:
    """The weights of one seed from a stack with a leading axis of seeds."""
    return jax.tree.map(lambda stack: stack[seed], params)
