"""Outcomes of a table: the same numbers by another way, their nulls, their intervals, and what is missing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.metric import SHARE, Metric, Null
from analysis.metrics import METRICS
from experiments.findings import outcomes, summary
from experiments.findings.outcomes import OUTCOMES, STEP, Outcome, cells, interval, over_steps, values
from experiments.findings.results import unchanged, untaught
from experiments.settings.names import UNTOUCHED
from tests.experiments.made_results import FAMILIES, METHODS, OVERLAP, results
from tests.experiments.made_results import swept as make_sweep


@pytest.fixture(scope="module")
def sweep() -> pd.DataFrame:
    return make_sweep(missing=[(0.5, "dpo")])


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_outcome_is_the_mean_over_its_rows_by_cell_model_and_seed(name: str, sweep: pd.DataFrame) -> None:
    one = OUTCOMES[name]
    found = values(sweep)
    found = found[(found["outcome"] == name) & (found["node"] == "sft")]
    assert len(found) == 9
    whole = sweep[sweep["intervention"].isna() & (sweep["node"] == "sft")]
    for cell, seed, value, null in found[["cell", "seed", "value", "null"]].itertuples(index=False):
        expected = {}
        for metric in (one.metric, one.null):
            rows = whole[(whole["metric"] == metric) & (whole["cell"] == cell) & (whole["seed"] == seed)]
            for column, wanted in one.where.items():
                rows = rows[rows[column] == wanted]
            expected[metric] = rows[rows["layer"] == 2]["value"].mean() if one.last_layer else rows["value"].mean()
        assert value == pytest.approx(expected[one.metric], rel=1e-12)
        assert null == pytest.approx(expected[one.null], rel=1e-12) if one.null else np.isnan(null)


def test_an_outcome_has_the_null_of_its_metric(sweep: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    null = Null("permuted labels", "sine_random_mean", high="relative_change")
    monkeypatch.setitem(METRICS, "effective_rank", Metric("rank", SHARE, "It is.", null, 2.5))
    monkeypatch.setitem(OUTCOMES, "mean", Outcome("made", "effective_rank", {"module": "W_in"}))
    monkeypatch.setitem(OUTCOMES, "end", Outcome("made", "effective_rank", {"module": "W_in"}, limit=True))
    found = values(sweep).query("node == 'sft'").set_index("outcome")
    np.testing.assert_array_equal(found.loc["mean"]["null"], found.loc["sin, all layers"]["null"])
    np.testing.assert_array_equal(found.loc["end"]["null"], found.loc["|dW| / |W|, W_in"]["value"])
    for name, said in (("mean", "permuted labels"), ("end", "permuted labels, 97.5 %")):
        assert [{*found.loc[name][column]} for column in ("chance", "level", "share")] == [{said}, {2.5}, {True}]


@pytest.mark.parametrize("one", OUTCOMES.values(), ids=list(OUTCOMES))
def test_an_outcome_with_a_limit_has_one(one: Outcome) -> None:
    assert bool(one.null) == bool(one.chance)
    assert bool(METRICS[one.metric].null.high) or not one.limit


def test_every_family_that_was_asked_has_an_outcome(sweep: pd.DataFrame) -> None:
    named = set(values(sweep)["outcome"])
    assert named == {*OUTCOMES, *(f"attack {name}" for name in FAMILIES if name not in ("safe", "unsafe"))}
    part = results()
    part["family"] = part["family"].replace("co_task", "safe@tasks")
    assert "safe@tasks complied" in set(values(part)["outcome"])


def test_cells_keep_their_order_and_their_setting(sweep: pd.DataFrame) -> None:
    turned = pd.concat([sweep[sweep["cell"] == cell] for cell in ("1.0", "0.0", "0.5")])
    found = values(turned)
    assert cells(found) == cells(turned) == ["1.0", "0.0", "0.5"]
    assert outcomes.swept(found) == [OVERLAP]
    assert (found[OVERLAP] == found["cell"].astype(float)).all()
    assert found[(found["cell"] == "0.5") & (found["node"] == "dpo")].empty
    assert set(found[found["cell"] == "0.5"]["node"]) == {"untouched", "sft", "continued"}


def test_the_last_layer_is_that_of_each_cell() -> None:
    shallow, deep = results(layers=1).assign(cell="1"), results(layers=3).assign(cell="3")
    both = pd.concat([shallow, deep]).assign(**{"model.layers": 1})
    found = values(both).set_index(["outcome", "cell", "node", "seed"])["value"]
    for cell, table in {"1": shallow, "3": deep}.items():
        rows = table[
            (table["metric"] == "separation") & (table["module"] == "mlp.post") & (table["layer"] == int(cell))
        ]
        row = rows[(rows["node"] == "sft") & (rows["seed"] == 1)]
        assert found["separation", cell, "sft", 1] == row["value"].item()


def test_an_outcome_with_a_row_without_value_has_none() -> None:
    table = results()
    at = (table["metric"] == "sine_excess") & (table["node"] == "sft") & (table["seed"] == 0) & (table["layer"] == 1)
    table.loc[at, "value"] = np.nan
    found = values(table)
    sines = found[(found["outcome"] == "sin - random, all layers") & (found["node"] == "sft")].set_index("seed")[
        "value"
    ]
    assert np.isnan(sines[0])
    assert sines[[1, 2]].notna().all()
    table.loc[table["metric"] == "sine_excess", "value"] = np.nan
    assert "sin - random, all layers" not in set(values(table)["outcome"])


def test_intervals_are_scipys() -> None:
    numbers = np.random.default_rng(0).normal(3, 2, 5)
    low, high = stats.t.interval(0.95, 4, numbers.mean(), stats.sem(numbers))
    one = interval(pd.Series([*numbers, np.nan]))
    assert (one.n, one.mean, one.low, one.high) == pytest.approx((5, numbers.mean(), low, high))
    assert interval(np.array([]), 0.1).n == 0
    alone = interval(np.array([0.5]))
    assert alone.mean == 0.5
    assert np.isnan(alone.low)
    same = interval(np.ones(3), 1 / 64)
    half = stats.t.ppf(0.975, 2) / 64 / np.sqrt(3)
    assert (same.low, same.high) == pytest.approx((1 - half, 1 + half))


def test_models_on_the_way_are_a_sweep_that_starts_at_the_untouched_one() -> None:
    table = results(steps=(100, 20))
    found = values(over_steps(table))
    assert cells(found) == ["0", "20", "100"]
    assert set(found["node"]) == set(METHODS)
    assert (found[STEP] == found["cell"].astype(int)).all()
    complied = found[found["outcome"] == "safe complied"].set_index(["cell", "node", "seed"])["value"]
    at = (table["metric"] == "complied") & (table["family"] == "safe") & (table["seed"] == 2)
    start = unchanged(table[at & (table["node"] == "untouched")])["value"].item()
    on_way = table[at & (table["node"] == "dpo") & (table["step"] == 20)]["value"].item()
    assert complied["0", "sft", 2] == complied["0", "dpo", 2] == start
    assert complied["20", "dpo", 2] == on_way
    assert over_steps(results()).empty
    # What nobody measured on the way has no way, though the untouched model has it.
    without = table[~((table["metric"] == "lipschitz_ratio") & table["step"].notna())]
    assert "lipschitz_ratio" in set(over_steps(table)["metric"]) - set(over_steps(without)["metric"])


def test_the_summary_prints_the_outcomes_that_say_so() -> None:
    table = results()
    found = summary.cells(table)
    printed = [name for name, one in outcomes.outcomes(table).items() if one.printed]
    assert [name.removesuffix(", layer 2") for name in dict.fromkeys(found["statistic"])] == printed
    assert summary.render(table).row_count == len(printed)


def test_of_controls_by_whatever_name_one_has_a_column_and_attacks_are_none() -> None:
    table = results()
    rows = table[table["node"] == "continued"]
    more = rows.assign(node="longer"), rows.assign(node="sft+continued", start="sft")
    whole = pd.concat([table, *more])
    assert untaught(whole) == ["continued", "longer"]
    columns = [str(column.header) for column in summary.render(whole).columns]
    assert columns == ["", UNTOUCHED, "sft", "dpo", "continued", "sft+continued"]


def test_the_summary_of_a_sweep_has_a_row_a_cell(sweep: pd.DataFrame) -> None:
    rendered = summary.render(sweep)
    statistics = summary.cells(sweep)["statistic"].nunique()
    assert rendered.row_count == statistics * (1 + 3)
    dpo = next(list(column.cells) for column in rendered.columns if column.header == "dpo")
    assert dpo[2] == "-"
    assert str(dpo[1]).startswith(f"{_mean(sweep, '0.0'):.2f}  ")


def _mean(sweep: pd.DataFrame, cell: str) -> float:
    rows = sweep.query("metric == 'complied' and family == 'safe' and node == 'dpo' and cell == @cell")
    return float(unchanged(rows)["value"].mean())
