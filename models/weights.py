"""Weights by name: flat names, safetensors bytes, single seeds of a stack."""

from typing import Any

import jax
import numpy as np
import safetensors.numpy

from models.transformer import Params


def flatten(params: Params) -> dict[str, np.ndarray]:
    """Every array under its dotted name, `blocks.0.mlp.W_in`."""
    flat: dict[str, np.ndarray] = {}

    def visit(node: Any, prefix: str) -> None:
        for name, child in node.items():
            if isinstance(child, dict):
                visit(child, f"{prefix}{name}.")
            else:
                flat[f"{prefix}{name}"] = np.asarray(child)

    visit(params, "")
    return flat


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


def to_safetensors(params: Params) -> bytes:
    """The weights as the content of a safetensors file."""
    return safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in flatten(params).items()})


def from_safetensors(content: bytes) -> Params:
    """The weights in the content of a safetensors file."""
    return unflatten(safetensors.numpy.load(content))


def one_seed(params: Params, seed: int) -> Params:
    """The weights of one seed from a stack with a leading axis of seeds."""
    return jax.tree.map(lambda stack: stack[seed], params)
