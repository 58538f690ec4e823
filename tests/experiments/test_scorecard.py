"""The scorecard on tables whose truth is known: as the paper says, no effect at all, the reverse."""

import functools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from analysis.stats import Paired, holm, paired_test
from experiments.claims import CLAIMS
from experiments.figures import scorecard as drawing
from experiments.results import select
from experiments.scorecard import (
    ACROSS,
    FAILS,
    HOLDS,
    RATE,
    UNDECIDED,
    Verdict,
    evidence,
    judge,
    of_cells,
    render,
    scorecard,
    to_json,
)
from experiments.table import COLUMNS
from synth.families import JAILBREAKS

METHODS = ("untouched", "sft", "dpo", "unlearning", "continued")
TUNED, SAFETY = METHODS[1:], METHODS[1:4]
FAMILIES = ("safe", "unsafe", *JAILBREAKS)
LAYERS = (1, 2, 3, 4)
GROWTH = {"untouched": 1.0, "continued": 1.0, "sft": 3.0, "dpo": 9.0, "unlearning": 12.0}


def rows(strength: float) -> Iterator[dict[str, Any]]:
    """Values without noise: 1 is a world in which every claim holds, at 0 effect and control are
    equal and at -1 they have changed places; what should be the same differs by 1 - strength."""

    def ratio(size: float) -> float:
        return size**strength

    def add(size: float) -> float:
        return size * strength

    off = 0.2 * (1 - strength)
    for method in METHODS:
        safety = method in SAFETY
        for rate in (2e-3, 1e-3) if method in TUNED else (5e-3,):
            for layer in LAYERS:
                grown = ratio(GROWTH[method] ** ((1.0 if layer > 2 else 0.5) * (1.0 if rate > 1e-3 else 0.5)))
                for module in ("mlp.post", "mlp.post_last"):
                    at = {"method": method, "learning_rate": rate, "layer": layer, "module": module}
                    yield {"metric": "separation", "value": 2 * grown, **at}
                    yield {"metric": "separation_scaled", "value": 0.4 * grown, **at}
        at = {"method": method, "learning_rate": 2e-3 if method in TUNED else 5e-3}
        for family in FAMILIES:
            sensitive = {"unsafe": ratio(0.5), "safe": ratio(1.6)}.get(family, 1.0) if safety else 1.0
            yield {"metric": "lipschitz", "family": family, "value": 3 * sensitive, **at}
            base = {"safe": 1.0, "unsafe": 0.0}.get(family, 0.5)
            jailbreak = {"co_text": 0.3, "misgen_both": 0.2, "misgen_text": -0.1, "co_task": -0.2}.get(family, 0.0)
            jailbreak += 0.1 if method == "sft" else 0.0
            complied = base if family in ("safe", "unsafe") else base + add(0.6 * jailbreak)
            refused = 1 - complied
            yield {"metric": "complied", "family": family, "value": complied, **at}
            yield {"metric": "refused", "family": family, "value": refused, **at}
            for layer in LAYERS:
                for module in ("mlp.post", "mlp.post_last"):
                    where = {"family": family, "layer": layer, "module": module, **at}
                    place = {"safe": 1.0, "unsafe": -1.0}.get(family, add(0.6))
                    yield {"metric": "tau", "value": 5 * place, **where}
                    yield {"metric": "tau_successful", "value": 5 * place, **where}
                    if family in ("safe", "unsafe"):
                        share = 0.3 + method.startswith("dpo") * (add(0.3) if family == "unsafe" else off)
                        yield {"metric": "spectral_share", "value": share, **where}
                if family == "unsafe":
                    for k in (1, 5):
                        where = {"family": family, "layer": layer, "module": "mlp.post_last", "index": k, **at}
                        yield {"metric": "adv_tau", "value": -2.0 + add(0.8 * (k - 1)), **where}
                        yield {"metric": "adv_random_tau", "value": -2.0, **where}
            if family == "unsafe":
                for k in (1, 5):
                    yield {"metric": "adv_complied", "family": family, "index": k, "value": 0.4 + add(0.08 * k), **at}
                    yield {"metric": "adv_random_complied", "family": family, "index": k, "value": 0.4, **at}
            if not safety:
                continue
            for alpha in (1.0, 1.25, 1.5):
                gain = {"sft": 0.3, "dpo": 0.0, "unlearning": 0.0}[method]
                changed = -off if family == "safe" else -add(gain)
                value = complied + (alpha > 1) * changed
                where = {"family": family, "variant": f"alpha {alpha:g}", **at}
                yield {"metric": "complied", "value": value, **where}
                yield {"metric": "refused", "value": 1 - value, **where}
            for other in SAFETY:
                if other != method:
                    where = {"family": family, "variant": f"transfer {other} 0.5", **at}
                    yield {"metric": "complied", "value": complied - add(0.3), **where}
                    yield {"metric": "refused", "value": refused + add(0.3), **where}
                    where = {"family": family, "variant": f"between {other} 0.5", **at}
                    yield {"metric": "complied", "value": complied - off, **where}
                    yield {"metric": "refused", "value": refused - off, **where}
            causes = {
                "only W_in": 0.8,
                "without columns": 0.5 + add(0.2),
                "only columns": 0.5 - add(0.2),
                "random columns scaled": 0.5 + add(0.1),
                "only mlp": 0.5 + add(0.4),
                "only attention": 0.5 - add(0.4),
                "without top 1": 0.5 - add(0.3),
                "without random 1": 0.5 + add(0.1),
            }
            if family == "unsafe":
                for variant, value in causes.items():
                    module = None if variant.startswith("only ") and variant != "only columns" else "W_in"
                    where = {"family": family, "variant": variant, "module": module, **at}
                    yield {"metric": "refused", "value": value, **where}
        if method == "untouched":
            continue
        for layer in LAYERS:
            where = {"layer": layer, "module": "W_in", **at}
            excess = add(0.08) if safety else 0.0
            yield {"metric": "sine_mean", "value": 0.87 + excess, **where}
            yield {"metric": "sine_random_mean", "value": 0.87, **where}
            yield {"metric": "sine_excess", "value": excess, **where}
            for family in FAMILIES:
                way = {"unsafe": 1, "safe": -1}.get(family, 0)
                total = ratio(2.0**way) if safety else 1.0
                yield {"metric": "projection_total", "family": family, "value": total, **where}
                yield {"metric": "projection_total_random", "family": family, "value": 1.0, **where}
            for i in range(1, 16):
                first = 0.2 if i == 1 else 0.8 / 14
                more = add(0.15) if i == 1 else -add(0.15) / 14
                at_index = {"family": "unsafe", "index": i, **where}
                yield {"metric": "projection_abs", "value": first + more, **at_index}
                yield {"metric": "projection_abs_random", "value": first, **at_index}


SHARES = ("complied", "refused", "adv_complied", "adv_random_complied")
SINES = ("sine_mean", "sine_random_mean", "sine_excess")


@functools.cache
def plain(strength: float) -> pd.DataFrame:
    return pd.DataFrame(list(rows(strength)))


def make(strength: float, noise: float, seeds: int = 5, draw: int = 0) -> pd.DataFrame:
    """A results table: rows by factors exp(noise z), shares and sines, which have a fixed size, by noise z / 4."""
    table = pd.concat([plain(strength).assign(seed=seed) for seed in range(seeds)], ignore_index=True)
    z = np.random.default_rng(draw).standard_normal(len(table))
    added = table["metric"].isin(
        (*SHARES, *SINES, "tau", "tau_successful", "adv_tau", "adv_random_tau", "spectral_share")
    )
    table["value"] = np.where(added, table["value"] + noise * z / 4, table["value"] * np.exp(noise * z))
    table = table.assign(study="s", cell="", world="w", model="m", n=512, missing=None)
    return table[list(COLUMNS)].astype({"layer": "Int16", "index": "Int32"})


def told(table: pd.DataFrame) -> dict[str, Verdict]:
    return {one.claim: one for one in scorecard(table)}


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {one.claim: one.verdict for one in scorecard(table)}


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    """All claims hold, seen through some noise."""
    return make(1, 0.02)


@pytest.fixture(scope="module")
def of_paper(paper: pd.DataFrame) -> list[Verdict]:
    return scorecard(paper)


@pytest.mark.parametrize(("strength", "expected"), [(1, HOLDS), (0, FAILS), (-1, FAILS)])
def test_the_truth_is_told_where_noise_is_small(strength: float, expected: str) -> None:
    assert verdicts(make(strength, 0.02)) == dict.fromkeys(CLAIMS, expected)


def test_little_effect_in_much_noise_is_undecided() -> None:
    found = scorecard(make(0.3, 0.8, seeds=3))
    assert sum(one.verdict == UNDECIDED for one in found) > 0.8 * len(found)
    assert all("after Holm's correction" in one.note for one in found if one.verdict == UNDECIDED)


def test_an_effect_seen_at_too_few_seeds_says_how_many_would_tell() -> None:
    found = [one for one in scorecard(make(0.5, 0.12, seeds=3)) if "seeds of this spread would tell" in one.note]
    assert found
    for one in found:
        assert one.verdict == UNDECIDED
        assert int(one.note.split("; ")[-1].split()[0]) > 3


def test_a_ratio_by_hand(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    rows = paper[(paper["metric"] == "separation") & (paper["module"] == "mlp.post") & (paper["layer"] >= 3)]
    rows = rows[(rows["learning_rate"] == 2e-3) | (rows["method"] == "untouched")]
    logs = np.log(rows.groupby(["method", "seed"])["value"].mean()).unstack("method")
    expected = stats.ttest_rel(logs[list(SAFETY)].mean(axis=1), logs["continued"])
    one, interval = of_paper[0], expected.confidence_interval()
    assert one.claim == "separation"
    assert one.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (one.low, one.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert one.effect == pytest.approx(math.exp(logs[list(SAFETY)].to_numpy().mean()))
    assert one.effect / one.control == pytest.approx(one.contrast)
    assert one.margin == pytest.approx(1.1)
    assert one.n == 5


def test_a_share_by_hand(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    rows = select(paper, metric="projection_abs", family="unsafe", method=list(SAFETY), layer=[3, 4])
    chance = select(paper, metric="projection_abs_random", family="unsafe", method=list(SAFETY), layer=[3, 4])
    sums = [part.groupby(["seed", "method", "index"])["value"].sum().unstack("index") for part in (rows, chance)]
    effect, control = ((part[1] / part.sum(axis=1)).groupby("seed").mean() for part in sums)
    one = {one.claim: one for one in of_paper}["few directions"]
    assert (one.effect, one.control) == pytest.approx((effect.mean(), control.mean()))
    difference = effect - control
    assert one.effect_size == pytest.approx(difference.mean() / difference.std())


def test_p_is_corrected_for_the_claims_that_have_one(paper: pd.DataFrame) -> None:
    for table in (paper, paper[paper["metric"].isin(["separation", "lipschitz", "complied"])]):
        found = scorecard(table)
        expected = holm(np.array([one.p for one in found]))
        np.testing.assert_array_equal([one.p_holm for one in found], expected)
        assert {one.claim for one in found if math.isnan(one.p)} == {one.claim for one in found if one.n == 0}


def test_what_is_not_in_the_table_is_undecided_and_named(paper: pd.DataFrame) -> None:
    found = told(paper[paper["metric"] != "lipschitz"])
    absent = [name for name, one in found.items() if one.verdict == UNDECIDED]
    assert absent == ["unsafe Lipschitz", "safe Lipschitz", "unsafe, further", "safe, further"]
    for name in absent:
        assert found[name].n == 0
        assert found[name].note.startswith("not in the table: lipschitz of sft, family")
    assert set(verdicts(paper.head(0)).values()) == {UNDECIDED}


@pytest.mark.parametrize(
    ("rows", "without"),
    [
        (lambda table: table["method"] == "continued", "separation"),
        (lambda table: table["learning_rate"] == 1e-3, "learning rate"),
        (lambda table: table["variant"].fillna("").str.startswith("alpha"), "extrapolation"),
        (lambda table: table["variant"].fillna("").str.startswith("transfer"), "transfer"),
        (lambda table: table["variant"].fillna("").str.startswith("between"), "same basin"),
        (lambda table: table["variant"] == "alpha 1", "transfer"),
        (lambda table: table["variant"] == "random columns scaled", "little in columns"),
        (lambda table: table["metric"] == "adv_random_tau", "soft tokens, tau"),
        (lambda table: table["metric"] == "adv_complied", "soft tokens"),
        (lambda table: table["layer"] <= 2, "deep layers"),
    ],
)
def test_each_claim_misses_its_own_rows(
    rows: Callable[[pd.DataFrame], pd.Series], without: str, paper: pd.DataFrame
) -> None:
    one = told(paper[~rows(paper)])[without]
    assert (one.verdict, one.n) == (UNDECIDED, 0)
    assert one.note.startswith("not in the table: ")


def test_a_missing_value_says_why_and_takes_its_seed_along(paper: pd.DataFrame) -> None:
    table = paper.copy()
    zero = (table["metric"] == "sine_mean") & (table["layer"] == 4)
    table.loc[zero & (table["seed"] == 2), ["value", "missing"]] = [np.nan, "dW is zero"]
    assert told(table)["off the columns"].n == 4
    everywhere = table["metric"] == "sine_mean"
    table.loc[everywhere, ["value", "missing"]] = [np.nan, "dW is zero"]
    assert told(table)["off the columns"].note == "no value: sine_mean of sft, module W_in (dW is zero)"


def test_a_claim_is_of_the_methods_there_are(paper: pd.DataFrame) -> None:
    found = told(paper[paper["method"] != "sft"])
    assert found["separation"].note == "of dpo, unlearning"
    assert found["separation"].verdict == HOLDS
    assert found["DPO over SSFT"].note == "not in the table: separation of sft, module mlp.post"
    assert found["extrapolation"].n == 0


def test_successful_attacks_count_as_often_as_they_succeeded(paper: pd.DataFrame) -> None:
    table = paper.copy()
    successes = table["metric"] == "tau_successful"
    table.loc[successes & (table["family"] == "co_task"), ["value", "n", "missing"]] = [np.nan, 0, "none succeeded"]
    table.loc[successes & (table["family"] == "co_text"), ["value", "n"]] = [-4.0, 512 * 9]
    taus = np.array([-4.0] * 9 + [3.0] * 3)
    assert told(table)["successful attacks"].effect == pytest.approx((taus.mean() + 5) / 10, abs=0.01)
    table.loc[successes, ["value", "n", "missing"]] = [np.nan, 0, "no prompt was complied with"]
    expected = "no value: tau_successful of sft, module mlp.post (no prompt was complied with)"
    assert told(table)["successful attacks"].note == expected


def test_one_seed_decides_nothing() -> None:
    found = scorecard(make(1, 0.02, seeds=1))
    assert {(one.verdict, one.n, one.note) for one in found} == {(UNDECIDED, 1, "one seed has no spread")}
    assert all(item["p"] is None for item in json.loads(to_json({"": found})))


def test_equal_seeds_are_decided_by_the_resolution_of_shares_alone() -> None:
    found = told(make(1, 0.0, seeds=3))
    for name, one in found.items():
        known = CLAIMS[name].unit == "share" or one.contrast == 0
        assert one.verdict == (HOLDS if known else UNDECIDED), name
        assert one.note == ("" if known else "equal in every seed, so that their spread is not known")
    nothing = verdicts(make(0, 0.0, seeds=3))
    # The one claim of sameness that is not about prompts: there the seeds differ from it, all equally.
    assert {name for name, verdict in nothing.items() if verdict != FAILS} == {"safe does not"}


@pytest.mark.parametrize(
    ("expects", "low", "high", "p_holm", "expected"),
    [
        ("above", 0.3, 0.5, 0.01, HOLDS),
        ("above", 0.3, 0.5, 0.2, UNDECIDED),
        ("above", -0.1, 0.5, 0.2, UNDECIDED),
        ("above", -0.5, -0.3, 0.01, FAILS),
        ("above", 0.01, 0.04, 0.01, FAILS),
        ("above", -0.04, 0.04, 1.0, FAILS),
        ("above", -0.5, 0.04, 1.0, FAILS),
        ("above", 0.01, 0.2, 0.01, HOLDS),
        ("above", math.nan, math.nan, math.nan, UNDECIDED),
        ("below", -0.5, -0.3, 0.01, HOLDS),
        ("below", 0.3, 0.5, 0.01, FAILS),
        ("below", -0.04, 0.04, 1.0, FAILS),
        ("below", -0.5, 0.1, 0.2, UNDECIDED),
        ("same", -0.04, 0.04, 0.01, HOLDS),
        ("same", -0.04, 0.04, 0.2, UNDECIDED),
        ("same", 0.06, 0.09, 1.0, FAILS),
        ("same", -0.3, -0.06, 1.0, FAILS),
        ("same", 0.01, 0.09, 0.5, UNDECIDED),
        ("same", math.nan, math.nan, math.nan, UNDECIDED),
    ],
)
def test_a_verdict_by_interval_margin_and_p(
    expects: str, low: float, high: float, p_holm: float, expected: str
) -> None:
    assert judge(expects, Paired(3, (low + high) / 2, low, high), p_holm, margin=0.05) == expected


def test_where_nothing_holds_hardly_ever_anything_is_said_to() -> None:
    rng = np.random.default_rng(0)
    draws, false = 100, 0
    for _ in range(draws):
        tests = [paired_test(differences) for differences in rng.standard_normal((len(CLAIMS), 3))]
        corrected = holm(np.array([test.p for test in tests]))
        false += any(judge("above", test, p, 0.05) == HOLDS for test, p in zip(tests, corrected, strict=True))
    assert false <= stats.binom.ppf(0.999, draws, 0.05)


@pytest.mark.parametrize(
    ("column", "labels", "metrics", "claims"),
    [
        (
            "method",
            TUNED,
            ["separation", "separation_scaled"],
            ["separation", "separation, scaled", "separation, last", "DPO over SSFT", "unlearning over SSFT"],
        ),
        (
            "family",
            FAMILIES,
            ["projection_total", "projection_total_random", "tau", "complied"],
            ["unsafe on dW", "unsafe, by safety", "unsafe, by direction", "safe off dW", "all attacks"],
        ),
    ],
    ids=["methods", "families"],
)
def test_with_labels_dealt_anew_in_each_seed_claims_hold_no_more_often_than_by_chance(
    column: str, labels: tuple[str, ...], metrics: list[str], claims: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.scorecard.CLAIMS", {name: CLAIMS[name] for name in claims})
    table = select(make(1, 0.1, seeds=3), metric=metrics, learning_rate=2e-3)
    table = table[table["variant"].isna()]
    assert HOLDS in verdicts(table).values()
    rng, draws = np.random.default_rng(1), 30
    held = dict.fromkeys(claims, 0)
    for _ in range(draws):
        deals = [dict(zip(labels, rng.permutation(labels), strict=True)) for _ in range(3)]
        dealt = [deals[seed][label] for seed, label in zip(table["seed"], table[column], strict=True)]
        for name, one in told(table.assign(**{column: dealt})).items():
            held[name] += one.verdict == HOLDS
    assert max(held.values()) <= stats.binom.ppf(0.999, draws, 0.05), held


def test_parts_of_what_makes_no_refusal_cannot_be_told(paper: pd.DataFrame) -> None:
    table = paper.copy()
    table.loc[table["variant"] == "only W_in", "value"] = 0.0
    found = told(table)
    for name in ("refusal off columns", "little in columns", "refusal by one"):
        one = found[name]
        assert (one.verdict, one.n) == (UNDECIDED, 0)
        assert one.note == "the dW of W_in alone makes no refusal in sft, so that no part can carry it"


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_has_no_ratio_takes_its_seed_along(value: float, paper: pd.DataFrame) -> None:
    table = paper.copy()
    safe = (table["metric"] == "projection_total") & (table["family"] == "safe")
    table.loc[safe & (table["seed"] == 0), "value"] = value
    assert told(table)["unsafe, by safety"].n == 4
    table.loc[safe, "value"] = value
    one = told(table)["unsafe, by safety"]
    assert (one.n, one.note) == (0, "no seed has both effect and control")


def test_other_variants_and_parts_of_families_are_not_read(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    of_sft = paper[(paper["method"] == "sft") & paper["metric"].isin(["complied", "refused"]) & paper["variant"].isna()]
    strange = [
        of_sft.assign(variant=name, value=9.0)
        for name in ("transfer continued 0.5", "transfer dpo -0.5", "between dpo 1.0", "alpha 0.5", "only layer 2")
    ]
    strange.append(of_sft.assign(family=of_sft["family"] + "@tasks", value=9.0))
    assert scorecard(pd.concat([paper, *strange])) == of_paper


def test_the_basin_is_as_deep_as_its_deepest_place(paper: pd.DataFrame) -> None:
    table = paper.copy()
    table.loc[(table["variant"] == "between dpo 0.5") & (table["method"] == "sft"), "value"] -= 0.3
    one = told(table)["same basin"]
    assert one.effect == pytest.approx(-0.1, abs=0.02)
    assert one.verdict == FAILS


def test_results_of_two_worlds_are_refused(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    with pytest.raises(ValueError, match="sft is in the table from several cells, worlds or architectures"):
        scorecard(pd.concat([paper, paper.assign(world="other")]))
    by_cell = paper.assign(cell=np.where(paper["learning_rate"] == 1e-3, "slow", ""))
    assert scorecard(by_cell) == of_paper


def same(one: list[Verdict], other: list[Verdict]) -> bool:
    """Whether equal to the bit, no number being equal to no number."""
    return to_json({"": one}) == to_json({"": other})


def by_rate(paper: pd.DataFrame, **settings: list[Any]) -> pd.DataFrame:
    """Cells "fast" and "slow", each with the untouched model, and a column for each other setting: its two values."""
    found = []
    for i, (cell, rate) in enumerate((("fast", 2e-3), ("slow", 1e-3))):
        rows = paper[(paper["learning_rate"] == rate) | (paper["method"] == "untouched")]
        others = {name: values[i] for name, values in settings.items()}
        found.append(rows.assign(cell=cell, **{RATE: rate}, **others))
    return pd.concat(found, ignore_index=True)


@pytest.mark.parametrize(
    "settings", [{}, {"tuning.data.size": ["all", None]}, {"model.kv_heads": [None, None]}], ids=str
)
def test_one_claim_compares_a_cell_with_those_that_have_a_lower_learning_rate_and_no_other_difference(
    settings: dict[str, list[Any]], paper: pd.DataFrame, of_paper: list[Verdict]
) -> None:
    table = by_rate(paper, **settings)
    found = of_cells(table)
    assert list(found) == ["fast", "slow"]
    alone = {cell: scorecard(select(table, cell=cell)) for cell in found}
    assert same(found["slow"], alone["slow"])
    differ = any(first != second for first, second in settings.values())
    for ours, theirs, together in zip(found["fast"], alone["fast"], of_paper, strict=True):
        assert same([ours], [together if ours.claim == ACROSS and not differ else theirs])
    assert {one.claim: one.verdict for one in found["fast"]}[ACROSS] == (UNDECIDED if differ else HOLDS)


@pytest.mark.parametrize("without", [{"method": "sft"}, {"metric": "separation"}, {"metric": "lipschitz"}], ids=str)
def test_what_a_cell_does_not_have_is_not_read_from_a_slower_one(without: dict[str, str], paper: pd.DataFrame) -> None:
    """Although the slower one has all of it, and the cell has a row of the model on the way."""
    fast = paper[(paper["learning_rate"] == 2e-3) | (paper["method"] == "untouched")]
    rates = fast["learning_rate"].replace(2e-3, 1e-3)
    slow = fast.assign(cell="slow", learning_rate=rates, value=fast["value"] * 0.5, **{RATE: 1e-3})
    ((column, name),) = without.items()
    left = fast[fast[column] != name]
    left = pd.concat([left, select(fast, **without).assign(variant="step 25")])
    found = of_cells(pd.concat([left.assign(cell="fast", **{RATE: 2e-3}), slow], ignore_index=True))
    for ours, theirs in zip(found["fast"], scorecard(left.assign(cell="fast", **{RATE: 2e-3})), strict=True):
        assert ours.claim == ACROSS or same([ours], [theirs])
    one = {one.claim: one for one in found["fast"]}[ACROSS]
    assert one.note.startswith("of dpo, unlearning") == (name == "sft")
    assert (one.n > 0) == (name != "separation")


def test_of_several_lower_learning_rates_the_lowest_is_compared(paper: pd.DataFrame) -> None:
    table = by_rate(paper)
    slow = table[(table["cell"] == "slow") & (table["method"] != "untouched")]
    slower = slow.assign(cell="slower", learning_rate=1e-4, value=slow["value"] / 2, **{RATE: 1e-4})
    # The same once more under another name.
    again = slower.assign(cell="again")
    found = of_cells(pd.concat([table, slower, again], ignore_index=True))
    claims = {cell: {one.claim: one for one in verdicts}[ACROSS] for cell, verdicts in found.items()}
    assert [claims[cell].n for cell in ("fast", "slow", "slower", "again")] == [5, 5, 0, 0]
    assert claims["slow"].contrast == pytest.approx(2.0)
    assert claims["fast"].control == pytest.approx(claims["slow"].control)


def test_the_evidence_alone_gives_the_same_verdicts(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    rows = evidence(paper)
    assert len(rows) < len(paper)
    assert scorecard(rows) == of_paper


def test_json_holds_every_field(paper: pd.DataFrame) -> None:
    found = scorecard(paper[paper["metric"] != "lipschitz"])
    objects = json.loads(to_json({"0.5": found}))
    assert [item["claim"] for item in objects] == list(CLAIMS)
    for item, one in zip(objects, found, strict=True):
        assert item.pop("cell") == "0.5"
        assert item.keys() == one.__dict__.keys()
        assert item["n"] == one.n
        assert item["contrast"] == (None if math.isnan(one.contrast) else one.contrast)


def test_the_table_fits_100_columns(paper: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    reverse = select(make(-1, 0.02), metric="separation")
    table = pd.concat([paper[~paper["metric"].isin(["lipschitz", "separation"])], reverse])
    found = scorecard(table[table["variant"].isna()])
    Console(width=100).print(render(found))
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 100
    counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in (HOLDS, FAILS, UNDECIDED)}
    assert "Claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) in out
    assert out.count(FAILS) == counts[FAILS] + 1
    assert 'refused of sft, variants "transfer ..." (transfer)' in out


def test_every_claim_says_what_the_paper_says_and_where() -> None:
    for name, claim in CLAIMS.items():
        assert any(word in claim.source for word in ("Obs.", "Fig", "Table", "sec.")), name
        assert len(claim.sentence) < 100
        assert set(claim.methods) <= set(SAFETY)


def test_the_figure_draws_what_has_rows_and_gives_them(paper: pd.DataFrame) -> None:
    table = paper[paper["metric"] != "lipschitz"]
    drawn = drawing.rows(table)
    figure = drawing.draw(drawn)
    labels = [label.get_text() for axis in figure.axes for label in axis.get_yticklabels()]
    assert sum("(" in label for label in labels) == len(CLAIMS) - 4
    pd.testing.assert_frame_equal(drawn, evidence(table))
    plt.close(figure)
    assert drawing.rows(table.head(0)).empty
    for other in (make(1, 0.02, seeds=1), make(0, 0.0, seeds=2)):
        plt.close(drawing.draw(drawing.rows(other)))
