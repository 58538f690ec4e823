"""What an output folder holds, read."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import yaml

from experiments.findings.seal import CELLS, CLAIMS, ENVIRONMENT, MODELS, RESULTS, SETTINGS
from experiments.findings.table import NULLABLE

NEEDED = [
    *("cell", "world_seed", "node", "start", "method", "seed", "family", "layer", "module", "position"),
    *("intervention", "strength", "other", "step", "metric", "value", "n"),
]


NO_ENVIRONMENT: dict[str, Any] = {
    "python": "",
    "platform": "",
    "device": {},
    "libraries": {},
    "git": {"commit": None, "dirty": False},
}
"""What `provenance.environment` would have recorded."""

CELL = ("cell", "settings", "status", "error")
"""The keys of an entry of cells.json"""


class CellState(NamedTuple):
    """How far one cell of a study is; without an ablation there is one, without a name."""

    name: str
    settings: dict[str, Any]
    """The swept settings, by full name"""
    status: str
    """One of done, failed and pending"""
    error: str | None

    @property
    def label(self) -> str:
        """How people read its name."""
        return self.name or "the study"


class Study(NamedTuple):
    """A study's output folder. Parts without a file are empty."""

    name: str
    settings: dict[str, Any]
    cells: list[CellState]
    table: pd.DataFrame
    """Columns NEEDED of the results: the rows that are not about one singular vector or neuron of many"""
    verdicts: list[dict[str, Any]]
    """As `scorecard.to_json` writes them, with their cell"""
    models: dict[str, dict[str, dict[str, Any]]]
    """By cell and model, the folders `weights` and `measured`, of the first world where there are several"""
    environment: dict[str, Any]
    nodes: list[str]
    """The models in the order of the table"""
    seeds: list[int]
    """All that have rows"""

    @property
    def ablation(self) -> bool:
        """Whether there is more to tell apart than one cell without a name."""
        return len(self.cells) > 1 or any(cell.name for cell in self.cells)


def read(folder: Path) -> Study:
    """Raises FileNotFoundError where there are no settings: such a folder is no study's."""
    settings = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    table = _table(folder / RESULTS)
    cells = [CellState(*(one[key] for key in CELL)) for one in _json(folder / CELLS, [])]
    names = table["cell"].unique().tolist() or [""]
    return Study(
        name=str(settings["study"]),
        settings=settings,
        cells=cells or [CellState(name, {}, "done", None) for name in names],
        table=table,
        verdicts=_json(folder / CLAIMS, []),
        models=_json(folder / MODELS, {}),
        environment=NO_ENVIRONMENT | _json(folder / ENVIRONMENT, {}),
        nodes=table["node"].unique().tolist(),
        seeds=sorted(map(int, table["seed"].unique())),
    )


def _json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else otherwise


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=object) for name in NEEDED})
    rows = pq.read_table(path, columns=NEEDED, filters=ds.field("index").is_null()).to_pandas()
    return rows.astype({name: kind for name, kind in NULLABLE.items() if name in rows})
