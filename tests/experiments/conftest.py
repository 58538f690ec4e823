"""What tests of whole studies share."""

from collections.abc import Iterator

import pytest

from analysis.suite import MEASUREMENTS, AnalysisConfig
from experiments import figures

FEW = ("tau",)
KEYS = [
    *("node", "seed", "family", "layer", "module", "index", "position"),
    *("intervention", "strength", "other", "step", "metric"),
]
"""Columns that tell the rows of a cell of a table apart"""
BY_DEFAULT = {name: MEASUREMENTS[name] for name in AnalysisConfig().measurements if name in MEASUREMENTS}
"""Rows of what every study measures of a model"""
FEW_FAMILIES = ("analysis.families=[safe,unsafe]", "world.tasks.aliases=0", "world.coverage.productions=1")
"""Settings of studies whose families are not looked at: what draws each that a world can have is compiled anew"""


@pytest.fixture(scope="module")
def few_figures() -> Iterator[None]:
    """Studies whose figures are not looked at draw no more than FEW, as PNG: drawing all takes longer than the rest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "IMAGES", ("png",))
        patched.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in FEW})
        yield
