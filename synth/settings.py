"""What users are told of what they can mend: one line with name, value, bound and fix."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class UserError(ValueError):
    """Something that a user can mend; the message is one line for them."""

    status = 2
    """Of a command that ends by it"""


class StoppedError(UserError):
    """What stops a command whose settings are good."""

    status = 1


class SettingError(UserError):
    """A setting that cannot be used. `name` is relative to the dataclass that found it."""

    def __init__(self, name: str, value: object, bound: str, fix: str) -> None:
        self.name, self.value, self.bound, self.fix = name, value, bound, fix
        super().__init__(f"{name}={value}: {bound}; {fix}")

    def within(self, group: str) -> "SettingError":
        """The same error with the name seen from one level further out, `group.name`."""
        return SettingError(f"{group}.{self.name}", self.value, self.bound, self.fix)


@contextmanager
def naming(group: str) -> Iterator[None]:
    """A SettingError raised inside names its setting `group.name`."""
    try:
        yield
    except SettingError as error:
        raise error.within(group) from None


def require(ok: bool, name: str, value: object, bound: str, fix: str) -> None:
    """Raises SettingError unless `ok`. `bound` says what must hold, `fix` what to change."""
    if not ok:
        raise SettingError(name, value, bound, fix)


EXACT = 2**24
"""Up to here float32, in which compiled programs count steps, prompts and shares of them, holds every whole number."""


def require_positive(config: object, *names: str, most: int = EXACT) -> None:
    """Raises SettingError for the first of the integer fields `names` that is below 1 or above `most`."""
    for name in names:
        value = getattr(config, name)
        require(value >= 1, name, value, "must be at least 1", f"set {name} to 1 or more")
        require_at_most(name, value, most)


def require_at_most(name: str, value: int, most: int) -> None:
    """Raises SettingError unless the whole number `value` is at most `most`."""
    require(value <= most, name, value, f"must be at most {most}", f"lower {name}")


def require_name(name: str, value: object) -> None:
    """Raises SettingError unless the text `value` can be part of a folder's name, and is no path."""
    text = str(value)
    ok = not text.startswith(".") and not any(c in "/\\" or not c.isprintable() for c in text) and len(text) <= 100
    require(ok, name, repr(text), "must be a name and no path, of at most 100 characters", "leave out / and \\")


def require_above_zero(config: object, *names: str) -> None:
    """Raises SettingError for the first of the fields `names` that is not a finite number above 0.

    A field that holds an array, as inside a compiled program, was checked when it was a number.
    """
    for name in names:
        value = getattr(config, name)
        require(
            not isinstance(value, int | float) or 0 < value < math.inf,
            name,
            value,
            "must be a finite number above 0",
            f"set {name} above 0",
        )


def require_among(config: object, name: str, allowed: Iterable[str]) -> None:
    """Raises SettingError unless the field `name` is one of `allowed`."""
    value, names = getattr(config, name), list(allowed)
    require(value in names, name, value, f"must be one of {', '.join(names)}", f"set {name} to {names[0]}")


def require_known(setting: str, name: Any, known: Iterable[str]) -> None:
    """Raises SettingError unless `name`, a value of `setting`, is one of `known`."""
    names = list(known)
    require(name in names, setting, name, f"must be among {', '.join(names)}", "choose from these")


def require_seed(config: Any) -> None:
    """Raises SettingError unless the field `seed` can be a random key's."""
    require(0 <= config.seed < 2**32, "seed", config.seed, "must be from 0 to 2^32 - 1", "set seed to 0")


def pair(config: object, name: str) -> tuple[Any, Any]:
    """The field `name` as (first, second). Raises SettingError unless it has two entries."""
    value = tuple(getattr(config, name))
    require(len(value) == 2, name, list(value), "must have two entries", f"write {name}=[first,second]")
    return value[0], value[1]


def bounds(name: str, value: object) -> tuple[int, int]:
    """`value` as (low, high). Raises SettingError unless 1 <= low <= high."""
    entries = tuple(value) if isinstance(value, list | tuple) else (value,)
    ok = len(entries) == 2 and all(isinstance(entry, int) for entry in entries) and 1 <= entries[0] <= entries[1]
    require(ok, name, list(entries), "must be [low, high] with 1 <= low <= high", "for example [2,3]")
    return entries[0], entries[1]


def require_share(config: object, *names: str) -> None:
    """Raises SettingError for the first of the fields `names` that is not in [0, 1]."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value <= 1, name, value, "must be a share from 0 to 1", f"set {name} in [0, 1]")
