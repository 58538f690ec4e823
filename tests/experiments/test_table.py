"""Tests of `experiments/findings/table.py`: all rows of all parts, their types, and nothing half written."""

from pathlib import Path

import pandas as pd
import pytest

from experiments.findings.table import COLUMNS, Part, assemble, read, swept


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    """Two cells; the second part has no layer at all, which pandas keeps as a column of nothing."""
    rows = {"metric": ["tau", "tau"], "value": [0.5, float("nan")], "n": [3, 0], "seed": [0, 1]}
    one = pd.DataFrame(rows).assign(layer=pd.array([1, None], "Int16"), family="safe", missing=[None, "no prompts"])
    two = pd.DataFrame(rows).assign(layer=None, family=None)
    found = []
    for cell, frame in (("0.1", one), ("0.2", two)):
        frame.to_parquet(tmp_path / f"{cell}.parquet", index=False)
        common = {"study": "quick", "cell": cell, "world_seed": 0, "method": "sft", "learning_rate": 1e-3}
        found.append(Part(tmp_path / f"{cell}.parquet", {**common, "tuning.steps": 10, "world.safety.rule": "any"}))
    return found


SWEPT = {"tuning.steps": [10, 20], "world.safety.rule": ["any", "all"]}


def test_every_row_of_every_part_in_order_and_with_what_they_share(parts: list[Part], tmp_path: Path) -> None:
    assemble(parts, SWEPT, tmp_path / "all.parquet")
    table = read(tmp_path / "all.parquet")
    assert list(table.columns) == [*COLUMNS, "tuning.steps", "world.safety.rule"]
    assert swept(table) == ["tuning.steps", "world.safety.rule"]
    assert table["cell"].tolist() == ["0.1", "0.1", "0.2", "0.2"]
    assert table["value"].tolist()[0::2] == [0.5, 0.5]
    assert table["value"].isna().tolist() == [False, True, False, True]
    assert table["tuning.steps"].tolist() == [10.0] * 4
    assert table["missing"].fillna("").tolist() == ["", "no prompts", "", ""]
    assert table["layer"].fillna(-1).tolist() == [1, -1, -1, -1]
    assert table["world"].isna().all()


def test_types_do_not_depend_on_what_there_is(parts: list[Part], tmp_path: Path) -> None:
    assemble(parts, SWEPT, tmp_path / "all.parquet")
    assemble([], SWEPT, tmp_path / "none.parquet")
    whole, none = (read(tmp_path / f"{name}.parquet") for name in ("all", "none"))
    assert whole.dtypes.to_dict() == none.dtypes.to_dict()
    assert (str(whole["layer"].dtype), str(whole["index"].dtype), str(whole["family"].dtype)) == (
        "Int16",
        "Int32",
        "str",
    )


def test_a_table_of_before_there_were_positions_is_read(parts: list[Part], tmp_path: Path) -> None:
    assemble(parts, SWEPT, tmp_path / "all.parquet")
    whole = read(tmp_path / "all.parquet")
    whole.drop(columns="position").to_parquet(tmp_path / "before.parquet", index=False)
    pd.testing.assert_frame_equal(read(tmp_path / "before.parquet"), whole)


def test_a_cell_is_read_alone(parts: list[Part], tmp_path: Path) -> None:
    assemble(parts, SWEPT, tmp_path / "all.parquet")
    whole = read(tmp_path / "all.parquet")
    expected = whole[whole["cell"] == "0.2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(read(tmp_path / "all.parquet", "0.2"), expected)


def test_values_of_several_kinds_are_text(parts: list[Part], tmp_path: Path) -> None:
    assemble(parts, {"tuning.steps": [10, True]}, tmp_path / "all.parquet")
    assert read(tmp_path / "all.parquet")["tuning.steps"].tolist() == ["10"] * 4


def test_a_part_that_cannot_be_read_leaves_the_table_before(parts: list[Part], tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    assemble(parts, SWEPT, path)
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        assemble([*parts, Part(tmp_path / "gone.parquet", {})], SWEPT, path)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"0.1.parquet", "0.2.parquet", "all.parquet"}


def test_equal_parts_give_equal_bytes(parts: list[Part], tmp_path: Path) -> None:
    for name in ("one", "two"):
        assemble(parts, SWEPT, tmp_path / f"{name}.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
