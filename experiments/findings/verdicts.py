"""What a claim's verdict may be, and what is said with it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SUPPORTED, OPPOSITE, NO_EFFECT, UNDECIDED, UNTESTABLE = "supported", "opposite", "no effect", "undecided", "untestable"
UNSPECIFIC, DIFFERS = "unspecific", "differs"
VERDICTS = (SUPPORTED, UNSPECIFIC, OPPOSITE, NO_EFFECT, DIFFERS, UNDECIDED, UNTESTABLE)


@dataclass(frozen=True)
class Judged:
    """What a table says of a claim for one model. Numbers are nan where there are none."""

    method: str
    verdict: str
    effect: float
    """Mean over replicates; the geometric mean where the unit is ratio"""
    control: float
    contrast: float
    """Effect - control; effect / control where the unit is ratio"""
    low: float
    """Of the contrast's 95 % interval, not corrected for the number of claims"""
    high: float
    margin: float
    """A contrast no further from none than this is as good as none"""
    n: int
    """Replicates that have both effect and control"""
    p: float
    """One-sided, that the contrast is not as claimed"""
    p_holm: float
    p_against: float
    """That it is neither of the other sign nor within the margin, the smaller of both"""
    p_against_holm: float
    note: str
    """Why it is untestable or undecided"""


@dataclass(frozen=True)
class Verdict:
    """What a table says of a claim."""

    paper: str
    claim: str
    source: str
    sentence: str
    family: str
    """The claims of the paper that were corrected together"""
    verdict: str
    unit: str
    expects: str
    effect: float
    """This and the following are means over the methods that have numbers, on the unit's scale"""
    control: float
    contrast: float
    low: float
    high: float
    margin: float
    n: int
    """Replicates: worlds, or seeds where there is one world"""
    worlds: int
    world_share: float
    """Of the contrast's variance, the share that lies between worlds; nan without several seeds of several worlds"""
    methods: tuple[Judged, ...]
    placebos: tuple[Judged, ...]
    """The same claim of the paper's placebos"""
    note: str

    @property
    def also(self) -> tuple[str, ...]:
        """The placebos that support it too."""
        return tuple(one.method for one in self.placebos if one.verdict == SUPPORTED)


class Pairs(NamedTuple):
    """Effect and control on the unit's scale, of each replicate; arrays [n]."""

    seed: np.ndarray
    """Ascending"""
    world: np.ndarray
    effect: np.ndarray
    control: np.ndarray

    @property
    def contrast(self) -> np.ndarray:
        return self.effect - self.control

    @property
    def means(self) -> tuple[float, float]:
        """Of effect and control; nan where there are none."""
        return (float(self.effect.mean()), float(self.control.mean())) if len(self.seed) else (np.nan, np.nan)

    def by_world(self) -> "Pairs":
        """The means of each world's seeds; as it is where there is one world."""
        worlds, first, which, sizes = np.unique(self.world, True, True, True)
        if len(worlds) < 2:
            return self
        effect, control = (np.bincount(which, values) / sizes for values in (self.effect, self.control))
        return Pairs(self.seed[first], worlds, effect, control)


NONE = Pairs(*np.zeros((4, 0)))
