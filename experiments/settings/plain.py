"""Settings as plain data, and what their types say of them."""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any


def to_dict(config: Any, labels: bool = True) -> Any:
    """A dataclass as plain dictionaries and lists, for YAML, JSON and hashing; without `labels` those that compare.

    As OmegaConf has it, which takes a hundred times as long: a setting with a point is so if it is whole too.
    """
    kind: type = type(config)
    if dataclasses.is_dataclass(kind):
        pointed, found = _pointed(kind), {}
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if labels or field.compare:
                is_pointed = field.name in pointed and value is not None
                found[field.name] = float(value) if is_pointed else to_dict(value, labels)
        return found
    if isinstance(config, Mapping):
        return {name: to_dict(value, labels) for name, value in config.items()}
    return [to_dict(value, labels) for value in config] if isinstance(config, list | tuple) else config


@functools.cache
def _pointed(kind: type) -> frozenset[str]:
    """The fields of a dataclass that are numbers with a point, or null."""
    return frozenset(name for name, hint in typing.get_type_hints(kind).items() if hint in (float, float | None))


def texts(kind: type, prefix: str = "") -> Mapping[str, bool]:
    """The full names of the settings of `kind` that are text, each with whether it may be null."""
    found: dict[str, bool] = {}
    hints, fields = typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    for name, hint in hints.items():
        make = fields[name].default_factory
        if hint is Any and make is not dataclasses.MISSING:
            hint = type(make())  # Known only when it is made.
        if dataclasses.is_dataclass(hint):
            found |= texts(typing.cast(type, hint), f"{prefix}{name}.")
        elif hint in (str, str | None):
            found[f"{prefix}{name}"] = hint is not str
    return found


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting of a plain nested dictionary, by its full name."""
    found: dict[str, Any] = {}
    for name, child in node.items():
        nested = isinstance(child, dict) and child
        found |= flat(child, f"{prefix}{name}.") if nested else {f"{prefix}{name}": child}
    return found
