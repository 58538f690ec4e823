"""What tests of whole studies share."""

from collections.abc import Iterator

import pytest

from experiments import figures

FEW = ("tau", "behaviour")


@pytest.fixture(scope="module")
def few_figures() -> Iterator[None]:
    """Studies whose figures are not looked at draw no more than FEW: drawing all takes longer than the rest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in FEW})
        yield
