"""Figures as the tests of figures look at them."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments import figures
from experiments.figures import exhibits


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    """The project's style, in every test of a file that imports this."""
    with plt.style.context([figures.STYLE, {"figure.figsize": (5.5, 3)}]):
        yield
    plt.close("all")


def figure_of(table: pd.DataFrame, name: str) -> Figure:
    (shown,) = exhibits(table, [name])
    assert shown.draw
    return shown.draw()
