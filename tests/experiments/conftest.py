"""What tests of whole studies share."""

from collections.abc import Iterator

import pytest

from experiments import figures

FEW = ("tau", "behaviour")
KEYS = [
    *("node", "seed", "family", "layer", "module", "index", "position"),
    *("intervention", "strength", "other", "step", "metric"),
]
"""Columns that tell the rows of a cell of a table apart"""


@pytest.fixture(scope="module")
def few_figures() -> Iterator[None]:
    """Studies whose figures are not looked at draw no more than FEW: drawing all takes longer than the rest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in FEW})
        yield
