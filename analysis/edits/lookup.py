"""Edits by the measurement that tries them."""

from collections.abc import Iterator
from typing import Any

from analysis.edit import Made
from analysis.edits import EDITS
from analysis.rows import Subject


def edits_of(measurement: str, subject: Subject, config: Any) -> Iterator[Made[Any]]:
    """All that a measurement tries of a model that has been tuned, by its settings, in the order of the registry."""
    for kind in EDITS.values():
        if kind.measurement == measurement:
            yield from kind.edits(subject, config)


def modules(measurement: str) -> tuple[str, ...]:
    """Where the edits that a measurement tries are defined: with its own module, what it depends on."""
    return tuple(kind.module for kind in EDITS.values() if kind.measurement == measurement)
