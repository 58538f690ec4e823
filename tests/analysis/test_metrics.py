"""The registry of metrics: that its rows hold together, and that the page of the documentation is what they say."""

import re
from pathlib import Path

import pytest

from analysis.metric import CHANCES, SHARE, Metric, Null, nulls, page, permuted, with_nulls
from analysis.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_what_the_registry_says() -> None:
    assert PAGE.read_text() == page(METRICS), "python -m analysis.metrics > docs/metrics.md"


@pytest.mark.parametrize("name", METRICS)
def test_a_row_says_what_it_must(name: str) -> None:
    row = METRICS[name]
    assert row.label
    assert row.label.count("$") % 2 == 0
    assert row.unit
    assert re.fullmatch(r"[A-Z][^|\n]*[^.]\.", row.sentence)
    assert len(row.sentence) <= 120
    assert bool(row.null.chance) == bool(row.null.mean)
    assert row.null.chance in ("", *CHANCES)
    # Of what a null is the null, it says in its sentence, and it is in the same unit.
    for null in row.null.metrics:
        assert f"`{name}`" in METRICS[null].sentence
        assert METRICS[null].unit == row.unit


def test_a_null_is_of_one_metric_and_has_none_itself() -> None:
    named = [null for row in METRICS.values() for null in row.null.metrics]
    assert len(named) == len(set(named)) == len(nulls(METRICS))
    assert all(METRICS[null].null == Null() for null in named)
    assert all(metric in METRICS for metric in nulls(METRICS).values())
    assert {row.null.chance for row in METRICS.values()} == {"", *CHANCES}


def test_a_row_brings_those_of_its_nulls_and_a_line_of_the_page() -> None:
    made = with_nulls(
        {
            "width": Metric("width", "activation", "This is how wide it is.", permuted("width", low=False)),
            "success": Metric("success", SHARE, "The attack succeeds.", level=0.5),
        }
    )
    assert list(made) == ["width", "success", "width_permuted", "width_permuted_high"]
    assert nulls(made) == {"width_permuted": "width", "width_permuted_high": "width"}
    assert made["width_permuted_high"].sentence == "This is the 97.5 % of `width` by permuted labels."
    lines = [line for line in page(made).splitlines() if line.startswith("| `") and "`metric`" not in line]
    assert lines == [
        "| `width` | This is how wide it is. | activation | `width_permuted`, `width_permuted_high`: permuted labels |",
        "| `success` | The attack succeeds. | share of prompts | 0.5 |",
    ]
