"""What a sweep costs beside its computations. `make bench` prints; nothing is asserted."""

import dataclasses
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.findings.table import Part, assemble
from experiments.settings.config import load
from experiments.settings.schema import AblationConfig, StudyConfig
from experiments.stages import measure, paths, tune
from experiments.store.artifacts import Store
from experiments.store.manifest import Recipe
from experiments.study.cells import Cell, cells
from experiments.study.forecast import forecast
from experiments.study.output import Output
from experiments.study.plan import Plan, jobs, plan
from tests.experiments.conftest import BY_DEFAULT

ROWS = {"measure": 20_000, "paths": 1_000, "tune": 3}
"""About as many as in the quick study."""


def swept(count: int, setting: str) -> StudyConfig:
    values = tuple(range(count)) if setting == "world.seed" else tuple((1e-3 + 1e-6 * np.arange(count)).tolist())
    return dataclasses.replace(
        load(["study=quick", "worlds=1"]), ablation=AblationConfig(name="bench", setting=setting, values=values)
    )


def planned(config: StudyConfig) -> list[tuple[Cell, Plan]]:
    return [(cell, plan(cell.config)) for cell in cells(config)]


def test_a_plan_of_1000_cells(tmp_path: Path) -> None:
    for setting in ("tuning.learning_rate", "world.seed"):
        config = dataclasses.replace(swept(1000, setting), store_dir=str(tmp_path))
        began = time.perf_counter()
        work = jobs(planned(config))
        ended = time.perf_counter()
        forecast(config)
        shown = time.perf_counter() - ended
        print(
            f"\n1,000 cells over {setting}: {len(work):,} jobs planned in {ended - began:.1f} s, shown in {shown:.1f} s"
        )


def rows(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "family": rng.choice(["safe", "unsafe", "co_task"], count),
            "layer": pd.array(rng.integers(1, 4, count), "Int16"),
            "module": rng.choice(["mlp.post", "W_in"], count),
            "index": pd.array(rng.integers(1, 16, count), "Int32"),
            "intervention": None,
            "metric": rng.choice(["tau", "sine", "complied"], count),
            "value": rng.normal(size=count),
            "n": 512,
            "missing": None,
            "seed": rng.integers(0, 3, count),
        }
    )
    return frame.astype({"intervention": "str", "missing": "str"})


def test_overhead_of_a_cell_with_nothing_to_compute(tmp_path: Path) -> None:
    files = {"measure": measure.TABLE, "paths": paths.TABLE, "tune": tune.DATA_TABLE}
    config = dataclasses.replace(
        swept(100, "tuning.learning_rate"), store_dir=str(tmp_path / "store"), output_dir=str(tmp_path / "out")
    )
    store = Store(tmp_path / "store")

    def fill(recipe: Recipe) -> None:
        def make(folder: Path, partial: Path) -> None:
            if recipe.stage in files:
                share = len(BY_DEFAULT) if recipe.stage == "measure" else 1
                rows(ROWS[recipe.stage] // share).to_parquet(folder / files[recipe.stage], index=False)
            if recipe.stage == "responses":
                rows(1).to_parquet(folder / measure.TABLE, index=False)

        store.fetch(recipe, make)

    for _, needed in planned(config):
        for recipe in needed.recipes:
            fill(recipe)
    began = time.perf_counter()
    found = planned(config)
    missing = [job for job in jobs(found) if not all(store.is_whole(recipe) for recipe in job.recipes)]
    checked = time.perf_counter()
    output = Output(config, found, store)
    output.folder.mkdir(parents=True)
    output.refresh({}, at_once=True)
    ended = time.perf_counter()
    assert not missing
    whole, before, table = (1e3 * span / len(found) for span in (ended - began, checked - began, ended - checked))
    print(f"\na cell: {whole:.1f} ms, of which composed, planned and checked {before:.1f}, in the table {table:.1f}")


def test_a_table_of_10_million_rows(tmp_path: Path) -> None:
    rows(20_000).to_parquet(tmp_path / "part.parquet", index=False)

    def parts() -> Iterator[Part]:
        for cell in range(500):
            common = {"study": "quick", "cell": str(cell), "world": "quick", "model": "quick", "method": "sft"}
            yield Part(tmp_path / "part.parquet", {**common, "learning_rate": 1e-3, "tuning.steps": cell})

    began = time.perf_counter()
    assemble(parts(), {"tuning.steps": [1]}, tmp_path / "all.parquet")
    elapsed = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = (tmp_path / "all.parquet").stat().st_size / 1e6
    print(f"\n10 million rows in {elapsed:.1f} s, {size:.0f} MB, peak memory of the process {peak:.2f} GiB")
