"""How often the scorecard tells the truth: errors and power of a family of claims, by simulation."""

import numpy as np
import pytest

from experiments.findings.verdicts import NO_EFFECT, OPPOSITE, SUPPORTED
from tests.experiments.test_scorecard import TESTS, simulated

DRAWS = 1000
MARGIN = 0.05


@pytest.mark.parametrize("effect", [0.0, 0.05, 0.1, 0.2])
def test_power(effect: float) -> None:
    """Shares of claims supported, opposite, and without effect, all with this true contrast and a spread of 0.05."""
    for n in (3, 5, 8, 10):
        found = simulated(np.full(TESTS, effect), MARGIN, n, DRAWS)
        verdicts = np.array([[one[0] for one in family] for family in found])
        shares = [f"{name} {np.mean(verdicts == name):6.1%}" for name in (SUPPORTED, OPPOSITE, NO_EFFECT)]
        print(f"contrast {effect:.2f}, spread {MARGIN}, margin {MARGIN}, {TESTS} tests, n = {n:2}: {', '.join(shares)}")
