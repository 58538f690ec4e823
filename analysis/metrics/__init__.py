"""The metrics that a study writes, a row each in the files here, and the metrics that are their nulls.

No measurement reads this, so that other words about a metric measure nothing anew. `python -m analysis.metrics` prints
`docs/metrics.md`.
"""

from analysis.metric import Metric, with_nulls
from analysis.metrics import activations, cones, directions, hidden, landscape, models, tokens, weights

METRICS: dict[str, Metric] = with_nulls(
    {
        **models.ROWS,
        **activations.ROWS,
        **weights.ROWS,
        **directions.ROWS,
        **cones.ROWS,
        **hidden.ROWS,
        **tokens.ROWS,
        **landscape.ROWS,
    }
)
