"""The results table: put together from what was measured, a part at a time, and read again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.store.files import unique

COLUMNS = {
    "study": pa.string(),
    "cell": pa.string(),
    "world": pa.string(),
    "world_seed": pa.int64(),
    "model": pa.string(),
    "node": pa.string(),
    "start": pa.string(),
    "method": pa.string(),
    "learning_rate": pa.float64(),
    "seed": pa.int64(),
    "family": pa.string(),
    "layer": pa.int16(),
    "module": pa.string(),
    "index": pa.int32(),
    "position": pa.int16(),
    "intervention": pa.string(),
    "strength": pa.float64(),
    "other": pa.string(),
    "step": pa.int32(),
    "metric": pa.string(),
    "value": pa.float64(),
    "n": pa.int64(),
    "missing": pa.string(),
}
"""What every table has; a column for each setting of an ablation comes behind."""

NULLABLE = {"layer": "Int16", "index": "Int32", "position": "Int16", "step": "Int32"}
"""What pandas calls whole numbers that may be missing."""

AT_ONCE = 2**18
"""Rows written together, beside which little else is in memory."""


class Part(NamedTuple):
    """Rows of one artifact, and what all of them have in common."""

    path: Path
    common: Mapping[str, Any]
    """By column; the file's own columns come before"""


def assemble(parts: Iterable[Part], swept: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Writes the table of all `parts`, whole or not at all, to `path`.

    `swept` has the values of each setting that is swept: its column holds numbers if all of them
    are, else text.
    """
    kinds = {name: pa.float64() if all(map(_is_number, values)) else pa.string() for name, values in swept.items()}
    schema = _schema({**COLUMNS, **kinds})
    unfinished = unique(path)
    try:
        # Readers are to see text as text, which an Arrow schema in the file would call categories.
        with pq.ParquetWriter(unfinished, schema, store_schema=False, compression="zstd") as writer:
            waiting: list[pa.Table] = []
            for part in parts:
                waiting.append(_rows(part, schema))
                if sum(map(len, waiting)) >= AT_ONCE:
                    writer.write_table(_joined(waiting, schema))
                    waiting = []
            writer.write_table(_joined(waiting, schema))
            writer.add_key_value_metadata(schema.metadata)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *tables])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _schema(kinds: Mapping[str, pa.DataType]) -> pa.Schema:
    """With what pandas needs to read columns as the types that they were written with."""
    empty = pa.table({name: pa.array([], kind) for name, kind in kinds.items()}).to_pandas()
    return pa.schema(kinds.items(), metadata=pa.Schema.from_pandas(empty.astype(NULLABLE)).metadata)


def _rows(part: Part, schema: pa.Schema) -> pa.Table:
    found = pq.read_table(part.path)
    columns = []
    for field in schema:
        if field.name in found.column_names:
            columns.append(found[field.name].cast(field.type))
        else:
            value = part.common.get(field.name)
            if value is not None and pa.types.is_string(field.type):
                value = str(value)
            columns.append(pa.repeat(pa.scalar(value, field.type), len(found)))
    return pa.table(columns, schema=schema)


def read(path: Path, cell: str | None = None) -> pd.DataFrame:
    """The table, or one cell of it; a column of later than it was written has no values."""
    found = pd.read_parquet(path, filters=None if cell is None else [("cell", "==", cell)])
    if "node" in found and "position" not in found:
        found["position"] = pd.Series(pd.NA, found.index, NULLABLE["position"])
        found = found[[*(name for name in COLUMNS if name in found), *swept(found)]]
    return found


def swept(table: pd.DataFrame) -> list[str]:
    """The columns of settings that an ablation sweeps."""
    return [name for name in table.columns if name not in COLUMNS]
