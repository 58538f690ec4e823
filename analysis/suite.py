"""The measurements a study makes of every model: a registry and their settings."""

from dataclasses import dataclass, field

from analysis import behaviour, clusters, nullspace
from analysis.clusters import ClustersConfig
from analysis.nullspace import NullspaceConfig
from analysis.rows import Measurement, Row, Subject
from synth.prompts import FAMILIES
from synth.settings import require


@dataclass(unsafe_hash=True)
class AnalysisConfig:
    """What is measured and on how many prompts."""

    families: tuple[str, ...] = tuple(FAMILIES)
    prompts: int = 512
    """Held-out prompts of each family."""
    clusters: ClustersConfig = field(default_factory=ClustersConfig)
    nullspace: NullspaceConfig = field(default_factory=NullspaceConfig)

    def __post_init__(self) -> None:
        self.families = tuple(self.families)
        require(self.prompts >= 2, "prompts", self.prompts, "must be at least 2, for a spread", "set 512")
        for family in self.families:
            require(family in FAMILIES, "families", family, f"must be among {', '.join(FAMILIES)}", "drop it")
        for family in ("safe", "unsafe"):
            require(
                family in self.families,
                "families",
                list(self.families),
                f"must contain {family}, which the others are compared with",
                f"add {family}",
            )


def measurements(config: AnalysisConfig) -> dict[str, Measurement]:
    """Each measurement by name, with its settings filled in."""
    return {
        "behaviour": behaviour.measure,
        "clusters": lambda subject: clusters.measure(subject, config.clusters),
        "nullspace": lambda subject: nullspace.measure(subject, config.nullspace),
    }


def measure(config: AnalysisConfig, subject: Subject) -> list[Row]:
    """All rows of one model of one seed."""
    return [row for measurement in measurements(config).values() for row in measurement(subject)]
