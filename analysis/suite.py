"""The measurements a study makes of every model: a registry and their settings."""

from dataclasses import dataclass, field

from analysis import behaviour, clusters, nullspace
from analysis.clusters import ClustersConfig
from analysis.nullspace import NullspaceConfig
from analysis.rows import Measurement, Result, Subject
from synth.families import split_name
from synth.settings import require


@dataclass(unsafe_hash=True)
class AnalysisConfig:
    """What is measured and on how many prompts."""

    families: tuple[str, ...] | None = None
    """Names of families, `FAMILY@PART` for one of what safety tuning leaves out
    (`synth/families.py`); null is every family that the world can have."""
    prompts: int = 512
    """Held-out prompts of each family."""
    clusters: ClustersConfig = field(default_factory=ClustersConfig)
    nullspace: NullspaceConfig = field(default_factory=NullspaceConfig)

    def __post_init__(self) -> None:
        require(self.prompts >= 2, "prompts", self.prompts, "must be at least 2, for a spread", "set 512")
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


def measurements(config: AnalysisConfig) -> dict[str, Measurement]:
    """Each measurement by name, with its settings filled in."""
    return {
        "behaviour": behaviour.measure,
        "clusters": lambda subject: clusters.measure(subject, config.clusters),
        "nullspace": lambda subject: nullspace.measure(subject, config.nullspace),
    }


def measure(config: AnalysisConfig, subject: Subject) -> list[Result]:
    """All results of one model of one seed."""
    return [result for measurement in measurements(config).values() for result in measurement(subject)]
