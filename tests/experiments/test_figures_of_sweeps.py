"""Figures of a sweep: means, intervals and nulls by cell, gaps, the axis, and the map of claims."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.figures import ablation, claim_map, draw_all, exhibits, names
from experiments.figures.common import model_looks
from experiments.findings.claims.jain2024 import PAPER
from experiments.findings.outcomes import OUTCOMES, values
from experiments.findings.results import models, select
from experiments.findings.scorecard import scorecard
from experiments.findings.verdicts import UNTESTABLE
from tests.experiments.drawn import figure_of, style
from tests.experiments.made_results import OVERLAP, swept

__all__ = ["style"]


@pytest.fixture(scope="module")
def sweep() -> pd.DataFrame:
    return swept(missing=[(0.5, "dpo")])


def test_an_ablation_shows_means_intervals_and_nulls_by_method(sweep: pd.DataFrame) -> None:
    found = values(sweep)
    for name in ("safe complied", "separation", "probe accuracy", "Lipschitz ratio, safe"):
        rows = found[(found["outcome"] == name) & (found["node"] == "sft")]
        shown = ablation.summary(rows, ["0.0", "0.5", "1.0"], False)
        for cell, one in shown.iterrows():
            numbers = rows[rows["cell"] == cell]["value"].to_numpy()
            low, high = stats.t.interval(0.95, 2, numbers.mean(), stats.sem(numbers))
            assert (one["mean"], one["low"], one["high"]) == pytest.approx((numbers.mean(), low, high))
            assert one["null"] == pytest.approx(rows[rows["cell"] == cell]["null"].mean(), nan_ok=True)
    figure = figure_of(sweep, "separation")
    (axis,) = [axis for axis in figure.axes if axis.get_title(loc="left") == "separation"]
    (bars,) = [one for one in axis.containers if one.get_label() == "sft"]
    shown = ablation.summary(
        found[(found["outcome"] == "separation") & (found["node"] == "sft")], ["0.0", "0.5", "1.0"], False
    )
    assert np.asarray(bars.lines[0].get_ydata()) == pytest.approx(shown["mean"].to_numpy())
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    assert ends == pytest.approx(shown[["low", "high"]].to_numpy())
    labels = axis.get_legend_handles_labels()[1]
    assert set(labels) == {"untouched", "continued", "sft", "dpo"}


def test_a_cell_without_values_leaves_a_gap(sweep: pd.DataFrame) -> None:
    figure = figure_of(sweep, "separation")
    (bars,) = [one for one in figure.axes[0].containers if one.get_label() == "dpo"]
    assert np.isnan(np.asarray(bars.lines[0].get_ydata(), float)).tolist() == [False, True, False]
    shown = next(exhibits(sweep, ["separation"], planned=["0.0", "0.25", "0.5", "1.0"]))
    assert shown.draw
    (bars,) = [one for one in shown.draw().axes[0].containers if one.get_label() == "sft"]
    assert np.isnan(np.asarray(bars.lines[0].get_ydata(), float)).tolist() == [False, True, False, False]


def test_cells_lie_where_their_number_is_or_in_their_order() -> None:
    sizes = figure_of(swept([1024, 16, 128], "tuning.data.size"), "behaviour").axes[0]
    assert sizes.get_xscale() == "log"
    (bars,) = [one for one in sizes.containers if one.get_label() == "sft"]
    x = np.asarray(bars.lines[0].get_xdata(), float)
    assert (np.diff(x) > 0).all()
    assert np.abs(np.log(x / [16, 128, 1024])).max() < 0.1
    assert [label.get_text() for label in sizes.get_xticklabels()] == ["1024", "16", "128"]
    rules = figure_of(swept(["combination", "any"], "world.safety.rule"), "behaviour").axes[0]
    assert rules.get_xscale() == "linear"
    assert [label.get_text() for label in rules.get_xticklabels()] == ["combination", "any"]
    assert rules.get_xlabel() == "rule"


@pytest.mark.parametrize(
    ("steps", "group", "rotation"),
    [
        ([1e-4, 3e-4, 1e-3, 2e-3, 4e-3], "separation", 40.0),
        ([0.0, 0.5, 1.0], "separation", 0.0),
        ([0.0, 0.05, 0.1, 0.2, 0.4], "behaviour", 40.0),
    ],
)
def test_numbers_under_the_axis_do_not_touch(steps: list[float], group: str, rotation: float) -> None:
    figure = figure_of(swept(steps, "tuning.learning_rate"), group)
    figure.canvas.draw()
    for axis in figure.axes:
        labels = sorted(axis.get_xticklabels(), key=lambda one: one.get_window_extent().x1)
        assert {label.get_rotation() for label in labels} == {rotation}
        ends = [label.get_window_extent() for label in labels]
        # Aslant, a line as high as the text must lie between their right ends.
        room = max(label.get_fontsize() for label in labels) / 72 * figure.dpi
        apart = [right.x1 - left.x1 if rotation else right.x0 - left.x1 for left, right in pairwise(ends)]
        assert min(apart) > (room if rotation else 0)


def test_the_claim_map_gives_the_verdict_of_each_cell(sweep: pd.DataFrame) -> None:
    rows = claim_map.rows(sweep, PAPER)
    for cell in ("0.0", "0.5", "1.0"):
        judged = scorecard(select(sweep, cell=cell), PAPER)
        expected = {one.claim: one.verdict for one in judged if one.verdict != UNTESTABLE}
        here = rows[rows["cell"] == cell]
        assert dict(zip(here["claim"], here["verdict"], strict=True)) == expected
        assert set(here[OVERLAP]) == {float(cell)}
    figure = claim_map.draw(rows, PAPER)
    axis = figure.axes[0]
    assert len(axis.patches) == len(rows)
    symbols = [one.get_marker() for one in axis.get_lines() if len(one.get_xdata())]
    for verdict, (_, symbol, _) in claim_map.LOOKS.items():
        assert symbols.count(symbol) == (rows["verdict"] == verdict).sum()
    numbers = {text.get_text() for text in axis.texts}
    assert numbers in (set(), set(map(str, rows["n"].unique())))


def test_a_sweep_has_the_figures_of_a_sweep(sweep: pd.DataFrame, tmp_path: Path) -> None:
    done = draw_all(sweep, tmp_path, only=["behaviour", "claim_map"])
    assert done == ["behaviour", "claim_map"]
    assert {shown.name for shown in exhibits(sweep)} == {*names(sweep=True)} - {"other_families"}
    rows = pd.read_csv(tmp_path / "behaviour.csv")
    assert set(rows["outcome"]) == {name for name, one in OUTCOMES.items() if one.group == "behaviour"}


@pytest.mark.parametrize("rates", [11, 5, 3])
def test_numbers_of_a_logarithmic_axis_do_not_touch(rates: int) -> None:
    order = [f"{rate:g}" for rate in np.geomspace(1e-5, 1e-2, rates)]
    one = values(swept()).query("outcome == 'safe complied'")
    first = one[one["cell"] == one["cell"].iloc[0]]
    rows = pd.concat([first.assign(cell=name, **{OVERLAP: float(name)}) for name in order])
    figure = ablation.draw(rows, model_looks(models(rows)), order)
    figure.canvas.draw()
    (axis,) = (axis for axis in figure.axes if axis.get_visible())
    assert axis.get_xscale() == "log"
    labels = [*axis.get_xticklabels(), *axis.get_xticklabels(minor=True)]
    left, right = axis.get_xlim()
    drawn = [one for one in labels if one.get_text() and left <= one.get_position()[0] <= right]
    assert len(drawn) >= 3
    assert not any("$" in one.get_text() for one in drawn)
    boxes = sorted((one.get_window_extent() for one in drawn), key=lambda box: box.x0)
    if not drawn[0].get_rotation():
        assert all(here.x1 < after.x0 for here, after in pairwise(boxes))
