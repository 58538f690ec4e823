"""Prints `docs/metrics.md`."""

from analysis.metric import page
from analysis.metrics import METRICS

if __name__ == "__main__":
    print(page(METRICS), end="")
