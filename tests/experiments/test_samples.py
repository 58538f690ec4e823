"""Values of single prompts read back from what was measured, of which a figure takes one seed and few prompts."""

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from analysis.separability import COORDINATES
from experiments.findings import samples
from experiments.stages.measure import SAMPLES

FAMILIES = ("safe", "unsafe")


def measured(folder: Path, seeds: tuple[int, ...], prompts: int) -> dict[str, Any]:
    """A model with a coordinate for each prompt, and another measurement, in no order; as models.json names it."""
    axes = [*COORDINATES, ("complied", None)]
    places = itertools.product(seeds, FAMILIES, range(prompts), axes)
    found = [
        (seed, family, prompt, metric, index, 100 * seed + prompt) for seed, family, prompt, (metric, index) in places
    ]
    table = pd.DataFrame(found, columns=["seed", "family", "prompt", "metric", "index", "value"])
    table = table.assign(layer=1, module="mlp.post", intervention=None).astype({"index": "Int32", "family": "category"})
    folder.mkdir()
    table.sample(frac=1, random_state=0).to_parquet(folder / SAMPLES)
    return {"weights": "", "measured": {samples.MEASUREMENT: str(folder)}}


def test_the_first_prompts_of_the_metrics_asked_for_are_read(tmp_path: Path) -> None:
    folder = samples.folder(measured(tmp_path / "sft", (0, 1), 5), samples.MEASUREMENT)
    found = samples.read(folder, ["lda"], 3)
    assert list(found.columns) == samples.COLUMNS
    got = found.sort_values(["seed", "family", "prompt"])[["seed", "family", "prompt", "value"]]
    expected = [(s, f, p, 100 * s + p) for s, f, p in itertools.product((0, 1), FAMILIES, range(3))]
    assert list(got.itertuples(index=False, name=None)) == expected
    with pytest.raises(FileNotFoundError):
        samples.read(tmp_path / "absent", ["lda"], 3)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / SAMPLES).write_bytes(b"PAR1")
    with pytest.raises(pa.ArrowInvalid):
        samples.read(tmp_path / "torn", ["lda"], 3)


def test_coordinates_are_of_a_seed_that_every_model_has(tmp_path: Path) -> None:
    models = {"untouched": measured(tmp_path / "a", (0, 1, 2), 3), "sft": measured(tmp_path / "b", (1, 2), 3)}
    found = samples.coordinates(
        models | {"dpo": {"weights": "", "measured": {samples.MEASUREMENT: str(tmp_path / "absent")}}}
    )
    assert set(found["seed"]) == {1}
    assert found.groupby("node").size().to_dict() == dict.fromkeys(models, len(FAMILIES) * 3 * len(COORDINATES))
    assert samples.coordinates({}).empty
