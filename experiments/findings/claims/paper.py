"""A paper: what it claims, and what it has of its own in how that is measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import Measure

DERIVED = "derived"
"""What the claims are corrected together as that a paper does not make itself"""


class Claim(NamedTuple):
    """A statement of a paper, and how to measure it."""

    observation: str
    """What the paper calls the statement that it belongs to"""
    place: str
    """The figure or table that shows it; empty where none does"""
    sentence: str
    measure: Measure
    methods: tuple[str, ...] = ()
    """The models it is about, each judged on its own; those of the paper's conventions if empty"""
    unit: str = "ratio"
    expects: Literal["above", "below", "same"] = "above"
    """Where the effect lies from its control"""
    derived: bool = False
    """Whether the paper observes in another way what is tested here"""
    across: str = ""
    """Of a claim about learning rates, the metric that it reads: it is judged of a cell beside those at lower ones"""

    @property
    def source(self) -> str:
        """Where the paper says it; "cf." where the claim is derived."""
        return "cf. " * self.derived + ", ".join(filter(None, (self.observation, self.place)))

    @property
    def family(self) -> str:
        """The claims that are corrected together: those of one observation, and those that are derived."""
        return DERIVED if self.derived else self.observation


@dataclass(frozen=True)
class Paper:
    """The claims of one paper, which are judged and corrected apart from those of every other.

    Raises ValueError where a claim is about a placebo: nothing would then tell it from its null.
    """

    name: str
    """In settings, files and figures"""
    claims: Mapping[str, Claim]
    """By name, in the order in which they are shown"""
    conventions: Conventions

    def __post_init__(self) -> None:
        for name in self.claims:
            both = [one for one in self.methods(name) if one in self.conventions.placebos]
            if both:
                raise ValueError(
                    f"{self.name}, {name}: {both[0]} is a placebo of the paper; leave it out of one of both"
                )

    def among(self, models: Iterable[str]) -> "Paper":
        """The paper with those of its placebos that are among `models`: of the others a study has nothing to say."""
        there = set(models)
        placebos = tuple(name for name in self.conventions.placebos if name in there)
        return replace(self, conventions=replace(self.conventions, placebos=placebos))

    def methods(self, claim: str) -> tuple[str, ...]:
        """The models that a claim is about."""
        return self.claims[claim].methods or self.conventions.methods

    def models(self, claim: str) -> tuple[str, ...]:
        """The models that a claim is judged of, placebos last."""
        return (*self.methods(claim), *self.conventions.placebos)
