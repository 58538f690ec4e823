"""Values of single prompts, of which the results table has the means."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from analysis.separability import COORDINATES
from experiments.settings.names import RANDOM
from experiments.stages.measure import SAMPLES
from experiments.store.manifest import changed

COLUMNS = ["seed", "family", "prompt", "metric", "layer", "module", "index", "value"]
MEASUREMENT = "separability"
"""Whose samples have coordinates"""
PROMPTS = 64
"""Of each family, in a figure"""


def folder(places: Mapping[str, Any], measurement: str) -> Path | None:
    """Where a measurement of a model is, by its entry in models.json; None if it was not made."""
    measured = places.get("measured", {})
    # All of them were one artifact once.
    found = measured if isinstance(measured, str) else measured.get(measurement)
    return None if found is None else Path(found)


def read(measured: Path, metrics: Sequence[str], prompts: int) -> pd.DataFrame:
    """COLUMNS of the first `prompts` of each family, of every seed, from the folder of a measurement.

    Raises OSError where there is no such file, pyarrow.ArrowInvalid where it cannot be read.
    """
    wanted = ds.field("metric").isin(list(metrics)) & (ds.field("prompt") < prompts)
    found = pq.read_table(measured / SAMPLES, columns=COLUMNS, filters=wanted).to_pandas()
    return found.astype({name: str for name in ("family", "metric", "module")})


def coordinates(models: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Where the first PROMPTS of each family lie by `separability.COORDINATES`, of every model: COLUMNS and `node`.

    Of the first seed, of the first world, that all models have. `models` are those of a cell, as an output
    folder's models.json names them; one whose file is not there, or not what was written, is left out, and so is
    RANDOM.
    """
    metrics = sorted({metric for metric, _ in COORDINATES})
    found = [pd.DataFrame(columns=["node", *COLUMNS])]
    for model, places in models.items():
        if model == RANDOM:
            continue
        try:
            measured = folder(places, MEASUREMENT)
            if measured and not changed(measured):
                found.append(read(measured, metrics, PROMPTS).assign(node=model))
        except (OSError, pa.ArrowInvalid):
            continue
    whole = pd.concat(found[1:] or found, ignore_index=True)
    shared = whole.groupby("seed")["node"].nunique()
    return whole[whole["seed"] == shared.idxmax()] if len(shared) else whole
