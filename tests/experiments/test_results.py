"""Tests of `experiments/findings/results.py`: which cell a command means."""

import pytest

from experiments.findings.results import named_cell
from synth.settings import UserError


@pytest.mark.parametrize(
    ("wanted", "found"), [("0.1", "0.1"), ("1e-1", "1e-1"), ("0.10", "1e-1"), ("5", "5.0"), ("few", "few"), ("", "")]
)
def test_a_cell_is_found_by_its_name_before_its_number(wanted: str, found: str) -> None:
    assert named_cell(["", "1e-1", "0.1", "5.0", "few", "nan"], wanted) == found


def test_what_is_no_cell_is_one_line_with_those_there_are() -> None:
    for wanted in ("0.2", "Few", "NaN"):
        with pytest.raises(UserError, match=rf"^cell={wanted}: there is no such cell; choose from 0.1, few, nan$"):
            named_cell(["", "0.1", "few", "nan"], wanted)
    with pytest.raises(UserError, match="this study is not swept, so leave it out"):
        named_cell([""], "0.1")
