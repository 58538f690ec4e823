"""The scales on which effects are compared with their controls."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Unit(NamedTuple):
    """How an effect is compared with its control: on a scale on which the contrast is a difference."""

    scale: Callable[[np.ndarray], np.ndarray]
    back: Callable[[float], float]
    """From a difference on that scale to the contrast shown"""
    margin: float
    """On that scale: contrasts no larger are as good as none"""
    form: str
    """How a contrast is written"""
    resolution: float = 0.0
    """Least spread over replicates that is believed, where values are known in steps"""


UNITS = {
    # Sizes of activations and of gradients differ between seeds by factors.
    "ratio": Unit(
        lambda values: np.log(np.where(values > 0, values, np.nan)),
        lambda value: float(np.exp(value)),
        float(np.log(1.1)),
        ".3g",
    ),
    # Of prompts, so that it is known to one prompt only; a part is of anything else.
    "share": Unit(lambda values: values, float, 0.05, "+.2f"),
    "part": Unit(lambda values: values, float, 0.05, "+.2f"),
    # Of which 0.2 is called a small effect (Cohen 1988).
    "deviations": Unit(lambda values: values, float, 0.2, "+.2f"),
    # Of log-odds: the margin of a ratio of odds.
    "nats": Unit(lambda values: values, float, float(np.log(1.1)), "+.2f"),
    "sine": Unit(lambda values: values, float, 0.01, "+.3f"),
    # Of ranks, in which one exchange of neighbours among seven makes 0.036.
    "rank": Unit(lambda values: values, float, 0.1, "+.2f", 0.036),
}
