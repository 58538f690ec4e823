"""The measurements a study makes of every model: a registry and their settings."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from analysis import (
    attacks,
    behaviour,
    clusters,
    cones,
    depth,
    directions,
    harmfulness,
    interventions,
    landscape,
    multiples,
    nullspace,
    prefill,
    sensitivity,
    separability,
    shifts,
)
from analysis.attacks import AttacksConfig
from analysis.clusters import ClustersConfig
from analysis.components import ShiftsConfig
from analysis.cone_search import ConesConfig
from analysis.contrast import HarmfulnessConfig
from analysis.depth import DepthConfig
from analysis.edits.landscape import LandscapeConfig
from analysis.edits.settings import InterventionsConfig
from analysis.nullspace import NullspaceConfig
from analysis.prefill import PrefillConfig
from analysis.rows import Result, Subject
from analysis.selection import DirectionsConfig
from analysis.sensitivity import SensitivityConfig
from analysis.separability import SeparabilityConfig
from synth.lookup import split_name
from synth.settings import EXACT, require, require_at_most, require_known

BETWEEN = "paths"
"""What is measured between models (`analysis/paths.py`), by name."""


@dataclass(unsafe_hash=True)
class AnalysisConfig:
    """What is measured and on how many prompts."""

    measurements: tuple[str, ...] = (
        *("behaviour", "clusters", "separability", "nullspace", "sensitivity"),
        *("multiples", "interventions", BETWEEN),
    )
    """What is measured of every model, and, as paths, between models."""
    families: tuple[str, ...] | None = None
    """Names of families, `FAMILY@PART` for one of what safety tuning leaves out
    (`synth.families`); null is every family that the world can have."""
    prompts: int = 512
    """Prompts of each family that are reported on, none of them trained on or chosen by."""
    validation: int = 256
    """Safe and unsafe prompts each, of another side of the world's division, that probes and axes are fitted on."""
    clusters: ClustersConfig = field(default_factory=ClustersConfig)
    separability: SeparabilityConfig = field(default_factory=SeparabilityConfig)
    nullspace: NullspaceConfig = field(default_factory=NullspaceConfig)
    sensitivity: SensitivityConfig = field(default_factory=SensitivityConfig)
    attacks: AttacksConfig = field(default_factory=AttacksConfig)
    interventions: InterventionsConfig = field(default_factory=InterventionsConfig)
    directions: DirectionsConfig = field(default_factory=DirectionsConfig)
    cones: ConesConfig = field(default_factory=ConesConfig)
    harmfulness: HarmfulnessConfig = field(default_factory=HarmfulnessConfig)
    shifts: ShiftsConfig = field(default_factory=ShiftsConfig)
    prefill: PrefillConfig = field(default_factory=PrefillConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    landscape: LandscapeConfig = field(default_factory=LandscapeConfig)

    def __post_init__(self) -> None:
        self.measurements, known = tuple(self.measurements), (*MEASUREMENTS, BETWEEN)
        for name in self.measurements:
            require_known("measurements", name, known)
        require(
            "behaviour" in self.measurements,
            "measurements",
            list(self.measurements),
            "must contain behaviour, which every summary is of",
            "add behaviour",
        )
        require(self.prompts >= 2, "prompts", self.prompts, "must be at least 2, for a spread", "set 512")
        require_at_most("prompts", self.prompts, EXACT)
        require(self.validation >= 2, "validation", self.validation, "must be at least 2, for a spread", "set 256")
        require_at_most("validation", self.validation, EXACT)
        if self.families is None:
            return
        self.families = tuple(self.families)
        for name in self.families:
            split_name(name, "families")
        for name in ("safe", "unsafe"):
            require(
                name in self.families,
                "families",
                list(self.families),
                f"must contain {name}, which the others are compared with",
                f"add {name}",
            )
        self.check_among(self.families, "families")

    def check_among(self, measured: tuple[str, ...], what: str) -> None:
        """Raises SettingError unless each family that is attacked or intervened on is among `measured`, called `what`.

        Where `families` is null those are known with the world alone.
        """
        for setting, names in (
            ("attacks.families", self.attacks.families),
            ("interventions.families", self.interventions.families or ()),
            ("prefill.families", self.prefill.families or ()),
            ("landscape.families", self.landscape.families),
        ):
            for name in names:
                require(
                    name in measured,
                    setting,
                    list(names),
                    f"must be among {what}, {', '.join(measured)}",
                    f"leave {name} out, or name all that are measured in analysis.families",
                )

    @property
    def prompts_before(self) -> int:
        """How many prompts of each family the model before tuning must have seen, for angles to what it held."""
        return max(2 * self.nullspace.angle_prompts, self.attacks.prompts if "attacks" in self.measurements else 0)


class Measurement(NamedTuple):
    """A row of the registry."""

    measure: Callable[..., list[Result]]
    """Gives all results of a Subject and what `settings` name, in their order"""
    settings: tuple[str, ...] = ()
    """Which settings of AnalysisConfig it is given"""
    of_random: bool = True
    """Whether it says something of a model before any training, which no change of weights led to"""

    def given(self, config: AnalysisConfig) -> dict[str, Any]:
        """By name, the settings it is given."""
        return {name: functools.reduce(getattr, name.split("."), config) for name in self.settings}


MEASUREMENTS: dict[str, Measurement] = {
    "behaviour": Measurement(behaviour.measure),
    "clusters": Measurement(clusters.measure, ("clusters",)),
    "separability": Measurement(separability.measure, ("separability",)),
    "nullspace": Measurement(nullspace.measure, ("nullspace",), of_random=False),
    "sensitivity": Measurement(sensitivity.measure, ("sensitivity",)),
    "attacks": Measurement(attacks.measure, ("attacks",), of_random=False),
    "multiples": Measurement(multiples.measure, ("interventions", "separability.ridge"), of_random=False),
    "interventions": Measurement(interventions.measure, ("interventions",), of_random=False),
    "directions": Measurement(directions.measure, ("directions",)),
    "cones": Measurement(cones.measure, ("directions", "cones")),
    "harmfulness": Measurement(harmfulness.measure, ("harmfulness", "directions")),
    "shifts": Measurement(shifts.measure, ("shifts", "directions"), of_random=False),
    "prefill": Measurement(prefill.measure, ("prefill",)),
    "depth": Measurement(depth.measure, ("depth",)),
    "landscape": Measurement(landscape.measure, ("landscape",), of_random=False),
}


def measure(config: AnalysisConfig, subject: Subject, names: Iterable[str] = tuple(MEASUREMENTS)) -> list[Result]:
    """All results of one model of one seed, or those of the measurements `names`.

    The matrices are small: `threadpoolctl.threadpool_limits(1)` around it keeps BLAS's threads from waiting for
    one another. It holds for the whole process, so it is the caller's.
    """
    rows = [MEASUREMENTS[name] for name in names]
    return [result for row in rows for result in row.measure(subject, *row.given(config).values())]
