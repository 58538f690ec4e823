"""The scorecard on tables whose truth is known: as the paper says, no effect at all, the reverse."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from analysis.stats import holm
from experiments.figures import scorecard as drawing
from experiments.findings import scorecard as findings
from experiments.findings.claims.jain2024 import PAPER
from experiments.findings.claims.paper import DERIVED, Claim
from experiments.findings.claims.units import UNITS
from experiments.findings.judging import LEVEL, Compared, judge, weigh
from experiments.findings.printed import render
from experiments.findings.results import select, unchanged
from experiments.findings.scorecard import RATE, agreed, to_json
from experiments.findings.table import NULLABLE
from experiments.findings.verdicts import (
    DIFFERS,
    NO_EFFECT,
    OPPOSITE,
    SUPPORTED,
    UNDECIDED,
    UNSPECIFIC,
    UNTESTABLE,
    VERDICTS,
    Pairs,
    Verdict,
)
from tests.experiments.made_claims import PLACEBOS, RANKS, SAFETY, TUNED, make

CLAIMS = PAPER.claims
(ACROSS,) = (name for name, claim in CLAIMS.items() if claim.across)
scorecard, evidence = (partial(one, paper=PAPER) for one in (findings.scorecard, findings.evidence))
of_cells = partial(findings.of_cells, papers=[PAPER])
SAME = tuple(name for name, claim in CLAIMS.items() if claim.expects == "same")


def told(table: pd.DataFrame) -> dict[str, Verdict]:
    return {one.claim: one for one in scorecard(table)}


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {one.claim: one.verdict for one in scorecard(table)}


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    """All claims hold, seen through some noise."""
    return make(1, 0.01)


@pytest.fixture(scope="module")
def of_paper(paper: pd.DataFrame) -> list[Verdict]:
    return scorecard(paper)


def test_where_all_holds_all_is_supported_and_by_no_placebo_but_of_sameness(of_paper: list[Verdict]) -> None:
    found = {one.claim: one.verdict for one in of_paper}
    # That nothing changed is what a placebo shows too.
    unspecific = {"safe does not", "safe does not, window"}
    assert {name for name, verdict in found.items() if verdict == UNSPECIFIC} == unspecific
    assert {verdict for name, verdict in found.items() if name not in unspecific} == {SUPPORTED}
    assert {one.claim for one in of_paper if one.also} == unspecific


@pytest.mark.parametrize(("strength", "expected"), [(0, NO_EFFECT), (-1, OPPOSITE)])
def test_no_effect_and_the_reverse_are_told_apart(strength: float, expected: str) -> None:
    for name, verdict in verdicts(make(strength, 0.01)).items():
        if name in RANKS and strength == 0:
            assert verdict != SUPPORTED, name
        else:
            assert verdict == (OPPOSITE if name in SAME else expected), name


def test_little_effect_in_much_noise_is_undecided() -> None:
    found = [one for one in scorecard(make(0.3, 0.8, seeds=3)) if one.n]
    assert sum(one.verdict == UNDECIDED for one in found) > 0.8 * len(found)
    assert all(one.note for one in found if one.verdict == UNDECIDED)


def test_an_effect_seen_at_too_few_replicates_says_how_many_would_tell() -> None:
    notes = [each.note for one in scorecard(make(0.3, 0.1, seeds=3)) for each in one.methods]
    needed = [note for note in notes if "replicates of this spread would tell" in note]
    assert needed
    assert all(int(note.split("; ")[-1].split()[0]) > 3 for note in needed)


def test_a_ratio_by_hand(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    rows = paper[(paper["metric"] == "separation") & (paper["module"] == "mlp.post") & (paper["layer"] >= 3)]
    rows = rows[((rows["learning_rate"] == 2e-3) | (rows["node"] == "untouched")) & rows["intervention"].isna()]
    logs = np.log(rows.groupby(["node", "seed"])["value"].mean()).unstack("node")
    one = of_paper[0]
    assert one.claim == "separation"
    for each in one.methods:
        expected = stats.ttest_rel(logs[each.method], logs["untouched"], alternative="greater")
        assert each.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert each.effect == pytest.approx(math.exp(logs[each.method].mean()))
        assert each.n == 6
    pooled = stats.ttest_rel(logs[list(SAFETY)].mean(axis=1), logs["untouched"]).confidence_interval()
    assert (one.low, one.high) == pytest.approx((math.exp(pooled.low), math.exp(pooled.high)))
    assert one.effect / one.control == pytest.approx(one.contrast)
    assert one.margin == pytest.approx(1.1)


def test_a_share_by_hand(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    rows = select(paper, metric="projection_abs", family="unsafe", node="sft", layer=[3, 4])
    chance = select(paper, metric="projection_abs_random", family="unsafe", node="sft", layer=[3, 4])
    sums = [part.groupby(["seed", "index"])["value"].sum().unstack("index") for part in (rows, chance)]
    effect, control = (part[1] / part.sum(axis=1) for part in sums)
    one = {one.claim: one for one in of_paper}["few directions"].methods[0]
    assert (one.method, one.effect, one.control) == ("sft", pytest.approx(effect.mean()), pytest.approx(control.mean()))
    assert one.p == pytest.approx(stats.ttest_rel(effect, control, alternative="greater").pvalue)


def test_p_is_corrected_within_a_family_over_claims_and_methods(of_paper: list[Verdict]) -> None:
    for family in {one.family for one in of_paper}:
        of_family = [each for one in of_paper if one.family == family for each in one.methods]
        np.testing.assert_array_equal([one.p_holm for one in of_family], holm(np.array([one.p for one in of_family])))
        against = holm(np.array([one.p_against for one in of_family]))
        np.testing.assert_array_equal([one.p_against_holm for one in of_family], against)


def test_every_observation_is_a_family_and_what_is_derived_is_one_of_its_own() -> None:
    found = {name: claim.family for name, claim in CLAIMS.items()}
    assert list(dict.fromkeys(family for family in found.values() if family != DERIVED)) == [
        "Obs. 1", "Obs. 2", "Obs. 3", "Obs. 4", "Obs. 5", "sec. 5", "app. C",
    ]  # fmt: skip
    assert all((found[name] == DERIVED) == claim.source.startswith("cf. ") for name, claim in CLAIMS.items())
    assert (CLAIMS["separation, last"].source, CLAIMS["off, by energy"].source) == ("cf. Obs. 1, Fig. 3", "cf. Obs. 2")


def test_what_is_not_in_the_table_is_untestable_and_named(paper: pd.DataFrame) -> None:
    found = told(paper[~paper["metric"].str.startswith("lipschitz")])
    absent = {name for name, one in found.items() if one.verdict == UNTESTABLE}
    expected = {"unsafe Lipschitz", "safe Lipschitz", "unsafe, placebos", "safe, placebos", "successful, Lipschitz"}
    assert absent == expected | {"alpha, Lipschitz"}
    for name in absent:
        assert found[name].n == 0
        assert found[name].note.startswith("not in the table: lipschitz")
    assert set(verdicts(paper.head(0)).values()) == {UNTESTABLE}


def at_alpha(table: pd.DataFrame, alpha: float) -> pd.Series:
    return (table["intervention"] == "alpha") & (table["strength"] == alpha)


@pytest.mark.parametrize(
    ("rows", "without"),
    [
        (lambda table: table["node"] == "untouched", "separation"),
        (lambda table: table["node"] == "irrelevant", "off, by safety"),
        (lambda table: table["learning_rate"] == 1e-3, "learning rate"),
        (lambda table: table["intervention"] == "alpha", "extrapolation"),
        (lambda table: table["intervention"] == "transfer", "transfer"),
        (lambda table: table["intervention"] == "between", "same basin"),
        (lambda table: at_alpha(table, 1), "transfer"),
        (lambda table: at_alpha(table, 0), "refusal off columns"),
        (lambda table: table["intervention"] == "random columns scaled", "little in columns"),
        (lambda table: table["metric"] == "adv_random_tau", "soft tokens, tau"),
        (lambda table: table["metric"] == "adv_complied", "soft tokens"),
        (lambda table: table["layer"] <= 2, "deep layers"),
    ],
)
def test_each_claim_misses_its_own_rows(
    rows: Callable[[pd.DataFrame], pd.Series], without: str, paper: pd.DataFrame
) -> None:
    one = told(paper[~rows(paper)])[without]
    assert (one.verdict, one.n) == (UNTESTABLE, 0)
    assert one.note.startswith("not in the table: ")


def test_a_missing_value_says_why_and_takes_its_seed_along(paper: pd.DataFrame) -> None:
    table = paper.copy()
    zero = (table["metric"] == "sine_mean") & (table["layer"] == 4)
    table.loc[zero & (table["seed"] == 2), ["value", "missing"]] = [np.nan, "dW is zero"]
    assert told(table)["off the columns"].n == 5
    everywhere = table["metric"] == "sine_mean"
    table.loc[everywhere, ["value", "missing"]] = [np.nan, "dW is zero"]
    assert told(table)["off the columns"].note == "no value: sine_mean of sft, module W_in (dW is zero)"


def test_a_claim_is_of_the_methods_there_are(paper: pd.DataFrame) -> None:
    found = told(paper[paper["node"] != "sft"])
    assert found["separation"].verdict == SUPPORTED
    assert found["separation"].note.startswith("of dpo, unlearning; sft untestable: not in the table")
    assert found["DPO over SSFT"].note == "not in the table: separation of sft, module mlp.post"
    assert found["extrapolation"].n == 0


def test_methods_that_are_decided_in_different_ways_differ(paper: pd.DataFrame) -> None:
    table = paper.copy()
    of_sft = (table["metric"] == "lipschitz") & (table["node"] == "sft") & (table["family"] == "safe")
    table.loc[of_sft, "value"] /= 4
    one = told(table)["safe Lipschitz"]
    assert [each.verdict for each in one.methods] == [OPPOSITE, SUPPORTED, SUPPORTED]
    assert (one.verdict, one.note) == (DIFFERS, "sft opposite, dpo supported, unlearning supported")


@pytest.mark.parametrize(
    ("of_methods", "expected"),
    [
        ([SUPPORTED] * 3, SUPPORTED),
        ([SUPPORTED, UNDECIDED, SUPPORTED], UNDECIDED),
        ([SUPPORTED, UNTESTABLE], SUPPORTED),
        ([SUPPORTED, NO_EFFECT], DIFFERS),
        ([OPPOSITE, NO_EFFECT, UNDECIDED], DIFFERS),
        ([UNTESTABLE, UNTESTABLE], UNTESTABLE),
    ],
)
def test_a_verdict_is_what_all_methods_agree_on(of_methods: list[str], expected: str, of_paper: list[Verdict]) -> None:
    any_one = of_paper[0].methods[0]
    assert agreed([replace(any_one, verdict=verdict) for verdict in of_methods]) == expected


def test_a_claim_that_a_placebo_shows_too_is_not_supported(paper: pd.DataFrame) -> None:
    table = paper.copy()
    shown = table["metric"].isin(["separation_scaled"]) & (table["module"] == "mlp.post_last")
    table.loc[shown & (table["node"] == "refuse_all"), "value"] *= 5
    found = told(table)
    assert (found["separation, last"].verdict, found["separation, last"].also) == (UNSPECIFIC, ("refuse_all",))
    assert all(each.verdict == SUPPORTED for each in found["separation, last"].methods)
    assert found["separation, scaled"].verdict == SUPPORTED


def test_successful_attacks_count_as_often_as_they_succeeded(paper: pd.DataFrame) -> None:
    table = paper.copy()
    successes = table["metric"] == "tau_successful"
    table.loc[successes & table["family"].isin(["co_task", "co_text"]), "value"] = -4.0
    table.loc[successes & (table["family"] == "co_task"), ["value", "n", "missing"]] = [np.nan, 0, "none succeeded"]
    table.loc[successes & (table["family"] == "co_text"), "n"] = 512 * 9
    others = select(table[successes & table["family"].str.startswith("misgen")], node="sft", module="mlp.post")
    taus = np.array([-4.0] * 9 + [others["value"].mean()] * 3)
    effect = told(table)["successful attacks"].methods[0].effect
    assert effect == pytest.approx((taus.mean() + 5) / 10, abs=0.02)
    table.loc[successes, ["value", "n", "missing"]] = [np.nan, 0, "no prompt was complied with"]
    expected = "no value: tau_successful of sft, module mlp.post (no prompt was complied with)"
    assert told(table)["successful attacks"].note == expected


def test_one_seed_decides_nothing() -> None:
    found = [one for one in scorecard(make(1, 0.02, seeds=1)) if one.verdict != UNTESTABLE]
    assert {(one.verdict, one.n, one.note) for one in found} == {(UNDECIDED, 1, "one replicate has no spread")}
    assert all(each["p"] is None for item in json.loads(to_json({"": found})) for each in item["methods"])


def test_equal_seeds_are_decided_by_the_resolution_of_shares_and_ranks_alone() -> None:
    for name, one in told(make(1, 0.0, seeds=4)).items():
        known = CLAIMS[name].unit in ("share", "rank") or one.contrast == pytest.approx(0, abs=1e-12)
        for each in one.methods:
            assert each.verdict == (SUPPORTED if known else UNDECIDED), name
            assert each.note == ("" if known else "equal in every replicate, so that their spread is not known")


PART = Claim("sec. 5", "", "", lambda results, method: (pd.Series(), 0.0), unit="part")


def differences(mean: float, spread: float, n: int = 6) -> Compared:
    """Pairs whose contrast has this mean and standard deviation."""
    z = np.linspace(-1, 1, n)
    contrast = mean + spread * z / np.std(z, ddof=1)
    return Compared(Pairs(np.arange(n), np.zeros(n), 0.5 + contrast, np.full(n, 0.5)))


@pytest.mark.parametrize(
    ("expects", "mean", "spread", "expected"),
    [
        ("above", 0.3, 0.05, SUPPORTED),
        ("above", 0.3, 0.5, UNDECIDED),
        ("above", -0.3, 0.05, OPPOSITE),
        ("above", 0.02, 0.01, NO_EFFECT),  # As claimed, told from 0, and within the margin.
        ("above", -0.02, 0.01, NO_EFFECT),
        ("above", 0.0, 0.01, NO_EFFECT),
        ("above", 0.06, 0.005, SUPPORTED),
        ("below", -0.3, 0.05, SUPPORTED),
        ("below", 0.3, 0.05, OPPOSITE),
        ("below", -0.02, 0.01, NO_EFFECT),
        ("same", 0.0, 0.01, SUPPORTED),
        ("same", 0.0, 0.2, UNDECIDED),
        ("same", 0.1, 0.01, OPPOSITE),
        ("same", -0.1, 0.01, OPPOSITE),
        ("same", 0.05, 0.01, UNDECIDED),
    ],
)
def test_a_verdict_by_mean_spread_and_margin(expects: Any, mean: float, spread: float, expected: str) -> None:
    claim = PART._replace(expects=expects)
    assert judge([(expects, weigh(claim, differences(mean, spread)))])[0][0] == expected


@pytest.mark.parametrize(
    ("expects", "effect", "control", "why"),
    [
        ("above", 0.0, 0.01, "floor: effect and control are both at 0%"),
        ("below", 0.0, 0.0, "floor: effect and control are both at 0%"),
        ("below", 0.3, 0.01, "floor: the control is at 1% already"),
        ("above", 0.5, 0.99, "ceiling: the control is at 99% already"),
        ("above", 1.0, 1.0, "ceiling: effect and control are both at 100%"),
    ],
)
def test_shares_at_the_end_of_what_can_be_measured_are_untestable(
    expects: Any, effect: float, control: float, why: str
) -> None:
    claim = PART._replace(unit="share", expects=expects)
    z = 0.001 * np.array([-1, 1, -1, 1, 0, 0.0])
    pairs = Pairs(np.arange(6), np.zeros(6), effect + z, np.full(6, control))
    weighed = weigh(claim, Compared(pairs, resolution=1 / 512))
    assert weighed.untestable == why
    assert judge([(expects, weighed)])[0][0] == UNTESTABLE


def test_near_an_end_the_margin_is_half_of_what_can_be_attained() -> None:
    claim = PART._replace(unit="share", expects="below")
    for control, margin in ((0.04, 0.02), (0.1, 0.05), (0.6, 0.05)):
        pairs = Pairs(np.arange(6), np.zeros(6), np.full(6, control / 2), np.full(6, control))
        assert weigh(claim, Compared(pairs, resolution=1 / 512)).margin == pytest.approx(margin)


CORNERS = {"none": (0.0,), "margin": (0.05,), "mixed": (0.0, 0.05), "half": (0.0, 0.025, 0.05), "far": (0.0, 0.5)}
TESTS = 18
"""As many as an observation's family has"""


def simulated(true: np.ndarray, spread: float, n: int, draws: int) -> list[list[tuple[str, float, float]]]:
    """What `judge` makes of families of directional tests with contrasts of these true means."""
    rng = np.random.default_rng(n)
    drawn = true + spread * rng.standard_normal((draws, n, len(true)))
    mean, error = drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / np.sqrt(n)
    above, inside, outside = (stats.t.sf(x / error, n - 1) for x in (mean, 0.05 - mean, 0.05 + mean))
    equal = np.maximum(inside, outside)
    blank = weigh(PART, differences(0.0, 0.1))
    return [
        judge([("above", blank._replace(claimed=a, contrary=1 - a, equal=e)) for a, e in zip(*family, strict=True)])
        for family in zip(above, equal, strict=True)
    ]


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("truths", CORNERS.values(), ids=CORNERS)
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_both_errors_of_a_family_are_at_most_one_in_twenty(n: int, truths: tuple[float, ...], spread: float) -> None:
    """2,000 families, with effects where errors are likeliest: none at all, and at the margin."""
    true, false_for, false_against, draws = np.resize(truths, TESTS), 0, 0, 2000
    for found in simulated(true, spread, n, draws):
        verdict = np.array([one[0] for one in found])
        false_for += bool(((verdict == SUPPORTED) & (true <= 0)).any())
        too_little = ((verdict == OPPOSITE) & (true >= 0)) | ((verdict == NO_EFFECT) & (true >= 0.05))
        false_against += bool(too_little.any())
    most = stats.binom.ppf(0.999, draws, LEVEL)
    assert (false_for <= most, false_against <= most) == (True, True), (false_for, false_against)


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.04, 0.2])
def test_the_simulation_tests_what_the_scorecard_tests(mean: float) -> None:
    one = weigh(PART, differences(mean, 0.1))
    contrast = differences(mean, 0.1).pairs.contrast
    assert one.claimed == pytest.approx(stats.ttest_1samp(contrast, 0, alternative="greater").pvalue)
    assert one.contrary == pytest.approx(1 - one.claimed)
    ends = [stats.ttest_1samp(contrast, end, alternative=to).pvalue for end, to in ((-0.05, "greater"), (0.05, "less"))]
    assert one.equal == pytest.approx(max(ends))


def test_with_labels_dealt_anew_in_each_seed_claims_are_supported_no_more_often_than_by_chance() -> None:
    claims = ("separation", "separation, scaled", "DPO over SSFT", "unlearning over SSFT")
    few = replace(PAPER, claims={name: CLAIMS[name] for name in claims})
    table = select(make(1, 0.1, seeds=5), metric=["separation", "separation_scaled"], learning_rate=2e-3)
    table = table[table["intervention"].isna()]
    assert SUPPORTED in {one.verdict for one in findings.scorecard(table, few)}
    rng, draws = np.random.default_rng(1), 40
    held = 0
    for _ in range(draws):
        deals = [dict(zip(TUNED, rng.permutation(TUNED), strict=True)) for _ in range(5)]
        dealt = [deals[seed][label] for seed, label in zip(table["seed"], table["node"], strict=True)]
        found = findings.scorecard(table.assign(node=dealt), few)
        held += any(each.verdict == SUPPORTED for one in found for each in one.methods)
    assert held <= stats.binom.ppf(0.999, draws, LEVEL), held


def test_worlds_are_the_unit_where_there_are_several() -> None:
    one_each = make(1, 0.05, seeds=6, worlds=True)
    found, same_numbers = scorecard(one_each), scorecard(one_each.assign(world_seed=0))
    assert [one.n for one in found if one.n] == [one.n for one in same_numbers if one.n]
    # Two seeds a world: their mean counts once, and the variance is told apart.
    paired = one_each.assign(world_seed=one_each["seed"] // 2)
    one, by_seed = told(paired)["separation"], told(one_each)["separation"]
    assert (one.n, one.worlds, by_seed.n, by_seed.worlds) == (3, 3, 6, 6)
    assert one.contrast == pytest.approx(by_seed.contrast)
    assert 0 <= one.world_share <= 1
    assert math.isnan(by_seed.world_share)


def test_parts_of_what_carries_no_refusal_cannot_be_told(paper: pd.DataFrame) -> None:
    table = paper.copy()
    whole = (table["intervention"] == "only") & (table["module"] == "W_in")
    table.loc[whole & (table["metric"] == "log_odds"), "value"] = 20.0
    found = told(table)
    for name in ("refusal off columns", "little in columns", "refusal by one"):
        one = found[name]
        assert (one.verdict, one.n) == (UNTESTABLE, 0)
        assert one.note.startswith("the dW of W_in alone moves the log-odds of sft by ")


def test_parts_are_told_by_graded_outcomes_where_exact_refusal_is_at_its_floor(paper: pd.DataFrame) -> None:
    table = paper.copy()
    changed = table["intervention"].fillna("").str.contains("columns|top|random")
    assert not (changed & (table["metric"] == "refused")).any()  # It is not read at all.
    assert told(table)["refusal off columns"].verdict == SUPPORTED


def test_extrapolation_is_compared_where_it_destroyed_no_model(paper: pd.DataFrame) -> None:
    table = paper.copy()
    beyond = (table["intervention"] == "alpha") & (table["strength"] > 1) & (table["metric"] == "complied")
    table.loc[beyond & (table["node"] == "dpo"), "value"] = 0.0
    one = told(table)["extrapolation, SSFT"]
    assert [each.verdict for each in one.methods] == [UNTESTABLE, SUPPORTED]
    assert "sft or dpo complies with fewer than 90% of the safe prompts" in one.methods[0].note
    assert told(table)["extrapolation"].verdict == SUPPORTED


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_has_no_ratio_takes_its_seed_along(value: float, paper: pd.DataFrame) -> None:
    table = paper.copy()
    safe = (table["metric"] == "projection_total") & (table["family"] == "safe")
    table.loc[safe & (table["seed"] == 0), "value"] = value
    assert told(table)["unsafe, by safety"].n == 5
    table.loc[safe, "value"] = value
    one = told(table)["unsafe, by safety"]
    assert (one.verdict, one.n, one.note) == (UNTESTABLE, 0, "no seed has both effect and control")


def test_other_interventions_snapshots_and_parts_of_families_are_not_read(
    paper: pd.DataFrame, of_paper: list[Verdict]
) -> None:
    of_sft = unchanged(select(paper, node="sft", metric=["complied", "refused"]))
    how: tuple[dict[str, Any], ...] = (
        {"intervention": "transfer", "other": "dpo", "strength": -0.5},
        {"intervention": "between", "other": "dpo", "strength": 1.0},
        {"intervention": "alpha", "strength": 0.5},
        {"intervention": "alpha", "strength": 1.25, "step": 3},
        {"intervention": "only", "layer": 2},
        {"step": 3},
    )
    strange = [of_sft.assign(**one, value=9.0).astype(NULLABLE) for one in how]
    strange.append(of_sft.assign(family=of_sft["family"] + "@tasks", value=9.0))
    assert same(scorecard(pd.concat([paper, *strange])), of_paper)


def test_the_basin_is_as_deep_as_its_deepest_place(paper: pd.DataFrame) -> None:
    table = paper.copy()
    to_dpo = (table["intervention"] == "between") & (table["other"] == "dpo")
    table.loc[to_dpo & (table["node"] == "sft"), "value"] -= 0.3
    one = told(table)["same basin"]
    assert one.methods[0].effect == pytest.approx(-0.3, abs=0.02)
    assert one.methods[0].verdict == OPPOSITE


def test_results_of_two_worlds_are_refused(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    with pytest.raises(ValueError, match="sft is in the table from several cells, worlds or architectures"):
        scorecard(pd.concat([paper, paper.assign(world="other")]))
    by_cell = paper.assign(cell=np.where(paper["learning_rate"] == 1e-3, "slow", ""))
    assert same(scorecard(by_cell), of_paper)


def same(one: list[Verdict], other: list[Verdict]) -> bool:
    """Whether equal to the bit, no number being equal to no number."""
    return to_json({"": one}) == to_json({"": other})


def by_rate(paper: pd.DataFrame, **settings: list[Any]) -> pd.DataFrame:
    """Cells "fast" and "slow", each with the untouched model, and a column for each other setting: its two values."""
    found = []
    for i, (cell, rate) in enumerate((("fast", 2e-3), ("slow", 1e-3))):
        rows = paper[(paper["learning_rate"] == rate) | (paper["node"] == "untouched")]
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
    assert {one.claim: one.verdict for one in found["fast"]}[ACROSS] == (UNTESTABLE if differ else SUPPORTED)


@pytest.mark.parametrize("rate", [1e-4, 1.5e-3, 1e-2])
def test_a_model_with_a_learning_rate_of_its_own_changes_no_verdict(rate: float, paper: pd.DataFrame) -> None:
    table = by_rate(paper)
    own = select(table, node="sft").assign(node="x", learning_rate=rate)
    with_own = of_cells(pd.concat([table, own], ignore_index=True))
    for cell, verdicts in of_cells(table).items():
        assert same(with_own[cell], verdicts)


@pytest.mark.parametrize("without", [{"node": "sft"}, {"metric": "separation"}, {"metric": "lipschitz"}], ids=str)
def test_what_a_cell_does_not_have_is_not_read_from_a_slower_one(without: dict[str, str], paper: pd.DataFrame) -> None:
    """Although the slower one has all of it, and the cell has a row of the model on the way."""
    fast = paper[(paper["learning_rate"] == 2e-3) | (paper["node"] == "untouched")]
    rates = fast["learning_rate"].replace(2e-3, 1e-3)
    slow = fast.assign(cell="slow", learning_rate=rates, value=fast["value"].abs() ** 0.5, **{RATE: 1e-3})
    ((column, name),) = without.items()
    left = fast[fast[column] != name]
    left = pd.concat([left, select(fast, **without).assign(step=25).astype(NULLABLE)])
    found = of_cells(pd.concat([left.assign(cell="fast", **{RATE: 2e-3}), slow], ignore_index=True))
    for ours, theirs in zip(found["fast"], scorecard(left.assign(cell="fast", **{RATE: 2e-3})), strict=True):
        assert ours.claim == ACROSS or same([ours], [theirs])
    one = {one.claim: one for one in found["fast"]}[ACROSS]
    assert one.note.startswith("of dpo, unlearning; sft") == (name == "sft")
    assert (one.n > 0) == (name != "separation")


def test_of_several_lower_learning_rates_the_lowest_is_compared(paper: pd.DataFrame) -> None:
    table = by_rate(paper)
    slow = table[(table["cell"] == "slow") & (table["node"] != "untouched")]
    slower = slow.assign(cell="slower", learning_rate=1e-4, value=slow["value"] / 2, **{RATE: 1e-4})
    # The same once more under another name.
    again = slower.assign(cell="again")
    found = of_cells(pd.concat([table, slower, again], ignore_index=True))
    claims = {cell: {one.claim: one for one in verdicts}[ACROSS] for cell, verdicts in found.items()}
    assert [claims[cell].n for cell in ("fast", "slow", "slower", "again")] == [6, 6, 0, 0]
    assert claims["slow"].contrast == pytest.approx(2.0)
    assert claims["fast"].control == pytest.approx(claims["slow"].control)


def test_the_evidence_alone_gives_the_same_verdicts(paper: pd.DataFrame, of_paper: list[Verdict]) -> None:
    rows = evidence(paper)
    assert len(rows) < len(paper)
    assert same(scorecard(rows), of_paper)


def test_json_holds_every_field(paper: pd.DataFrame) -> None:
    found = scorecard(paper[paper["metric"] != "lipschitz"])
    objects = json.loads(to_json({"0.5": found}))
    assert [item["claim"] for item in objects] == list(CLAIMS)
    for item, one in zip(objects, found, strict=True):
        assert item.pop("cell") == "0.5"
        assert item.pop("also") == list(one.also)
        assert item.keys() == one.__dict__.keys()
        assert [each["verdict"] for each in item["placebos"]] == [each.verdict for each in one.placebos]
        assert item["contrast"] == (None if math.isnan(one.contrast) else one.contrast)


def test_the_table_fits_100_columns(paper: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    reverse = select(make(-1, 0.01), metric="separation", node="sft")
    others = ~((paper["metric"] == "separation") & (paper["node"] == "sft")) & (paper["metric"] != "lipschitz")
    found = scorecard(pd.concat([paper[others], reverse]))
    Console(width=100).print(*render(found))
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 100
    said = " ".join(out.split())
    counts = ", ".join(f"{sum(one.verdict == verdict for one in found)} {verdict}" for verdict in VERDICTS)
    assert f"Claims over 6 seeds of one world: {counts}" in said
    assert "sft: opposite" in said
    assert "also holds for: continued, shuffled" in said
    assert "untestable, not in the table: lipschitz of sft" in said


def test_below_five_replicates_it_is_said_why_there_is_no_scorecard() -> None:
    (said,) = render(scorecard(make(1, 0.01, seeds=4, worlds=True)))
    assert said == "no scorecard: 4 worlds; below 5 replicates tests decide next to nothing, set worlds=5 or more"


def test_where_no_claim_can_be_tested_it_is_said_why() -> None:
    table = make(1, 0.01, seeds=3, worlds=True)
    (said,) = render(scorecard(table[(table["node"] == "sft") & (table["metric"] == "refused")]))
    assert isinstance(said, str)
    assert said.startswith(f"no scorecard: none of {len(CLAIMS)} claims can be tested; {next(iter(CLAIMS))}: ")
    assert "not in the table: " in said


def test_every_claim_says_what_the_paper_says_and_where() -> None:
    for name, claim in CLAIMS.items():
        assert any(word in claim.source for word in ("Obs.", "Fig", "Table", "sec.")), name
        assert len(claim.sentence) <= 105, name
        assert {*PAPER.methods(name)} <= set(SAFETY)
        assert claim.unit in UNITS


def test_placebos_are_judged_by_the_rule_of_the_claim(of_paper: list[Verdict]) -> None:
    for one in of_paper:
        assert tuple(each.method for each in one.placebos) == PLACEBOS


def test_a_placebo_that_the_study_does_not_have_is_not_spoken_of(paper: pd.DataFrame) -> None:
    without = paper[(paper["node"] != "sham") & (paper["other"] != "sham")]
    assert len(without) < len(paper)
    found, others = scorecard(without), tuple(name for name in PLACEBOS if name != "sham")
    assert all(tuple(each.method for each in one.placebos) == others for one in found)
    assert "sham" not in to_json({"": found})
    assert "sham" in to_json({"": scorecard(paper)})


def test_the_figure_draws_what_has_rows_and_gives_them(paper: pd.DataFrame) -> None:
    table = paper[paper["metric"] != "lipschitz"]
    drawn = drawing.rows(table, PAPER)
    figure = drawing.draw(drawn, PAPER)
    labels = [label.get_text() for axis in figure.axes for label in axis.get_yticklabels()]
    testable = sum(one.verdict != UNTESTABLE for one in scorecard(table))
    assert sum("(" in label for label in labels) == testable
    pd.testing.assert_frame_equal(drawn, evidence(table))
    plt.close(figure)
    assert drawing.rows(table.head(0), PAPER).empty
    # Some claims find a part of what they compare here, and none finds all of it.
    part = select(table[table["intervention"].isna()], metric="complied", node="dpo", family="co_text")
    assert len(part)
    assert drawing.rows(part, PAPER).empty
    for other in (make(1, 0.01, seeds=1), make(0, 0.0, seeds=2)):
        plt.close(drawing.draw(drawing.rows(other, PAPER), PAPER))
