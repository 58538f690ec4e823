import numpy as np
import pytest
from scipy import stats

from analysis.stats import (
    equivalence_p,
    holm,
    one_sided_p,
    paired_test,
    seeds_needed,
    variance_shares,
    welch_test,
)

SAMPLES = [np.random.default_rng(n).normal(0.7, 1.0, n) for n in (2, 3, 5, 12)]


@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_the_paired_test_is_scipys(values: np.ndarray) -> None:
    test, other = paired_test(values), stats.ttest_1samp(values, 0.0)
    interval = other.confidence_interval()
    expected = [values.mean(), interval.low, interval.high, other.pvalue, values.std(ddof=1)]
    np.testing.assert_allclose(test[1:6], expected, rtol=1e-12)
    assert test.n == len(values)
    np.testing.assert_allclose(test.effect_size, other.statistic / np.sqrt(len(values)), rtol=1e-12)


def test_one_seed_or_none_says_nothing_of_spread() -> None:
    assert paired_test(np.array([3.0]))[:2] == (1, 3.0)
    assert np.isnan(paired_test(np.array([3.0]))[2:]).all()
    assert np.isnan(paired_test(np.array([]))[1:]).all()


@pytest.mark.parametrize("values", [[2.0] * 3, [0.1 + 0.2, 0.3, 0.3]], ids=["equal", "but for rounding"])
def test_equal_differences_have_no_p(values: list[float]) -> None:
    test = paired_test(np.array(values))
    assert test.mean == pytest.approx(values[0])
    assert np.isnan(test[2:]).all()
    assert np.isnan(equivalence_p(test, 5.0))


def test_no_difference_in_any_seed_is_no_difference() -> None:
    test = paired_test(np.zeros(3))
    assert test == (3, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    assert equivalence_p(test, 0.1) == 0.0


def test_the_resolution_bounds_the_spread_from_below() -> None:
    equal = paired_test(np.ones(3), least_spread=0.01)
    assert equal.spread == 0.01
    assert 0 < equal.p < 1e-3
    assert equal.low < 1 < equal.high
    once = paired_test(np.full(3, 1 / 16), least_spread=1 / 16)
    assert once.p > 0.1
    assert paired_test(SAMPLES[1], least_spread=1e-6) == paired_test(SAMPLES[1])


def test_the_sign_flip_test_could_not_tell_what_three_seeds_show() -> None:
    values = np.array([1.0, 1.1, 0.9])
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", vectorized=False).pvalue
    assert exact == pytest.approx(0.25)
    assert paired_test(values).p < 0.01


@pytest.mark.parametrize("margin", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("values", SAMPLES[1:], ids=len)
def test_equivalence_is_two_one_sided_tests(values: np.ndarray, margin: float) -> None:
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert equivalence_p(paired_test(values), margin) == pytest.approx(max(above, below), rel=1e-10)


def test_equivalence_of_one_seed_has_no_p() -> None:
    assert np.isnan(equivalence_p(paired_test(np.array([0.0])), 1.0))


@pytest.mark.parametrize("bound", [-0.3, 0.0, 0.5])
@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_one_sided_p_is_scipys(values: np.ndarray, bound: float) -> None:
    for above, alternative in ((True, "greater"), (False, "less")):
        expected = stats.ttest_1samp(values, bound, alternative=alternative).pvalue
        assert one_sided_p(paired_test(values), bound, above) == pytest.approx(expected, rel=1e-12)


def test_one_sided_p_without_a_spread() -> None:
    assert np.isnan(one_sided_p(paired_test(np.array([2.0]))))
    assert np.isnan(one_sided_p(paired_test(np.full(3, 2.0))))
    none = paired_test(np.zeros(3))
    assert (one_sided_p(none), one_sided_p(none, above=False), one_sided_p(none, -0.1)) == (1.0, 1.0, 0.0)


def test_variance_between_groups_is_recovered() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4000), 3)
    values = np.sqrt(0.6) * rng.standard_normal(4000)[groups] + np.sqrt(0.4) * rng.standard_normal(12000)
    assert variance_shares(values, groups) == pytest.approx((0.6, 0.4), abs=0.03)
    # By the textbook for equal sizes: (MSB - MSW) / size.
    few, of = values[:12], groups[:12]
    table = few.reshape(4, 3)
    within = table.var(axis=1, ddof=1).mean()
    component = max(0.0, table.mean(axis=1).var(ddof=1) - within / 3)
    assert variance_shares(few, of)[0] == pytest.approx(component / (component + within))


def test_variance_without_two_groups_or_two_of_one_is_not_known() -> None:
    for groups in (np.zeros(4), np.arange(4)):
        assert np.isnan(variance_shares(np.array([1.0, 2.0, 3.0, 4.0]), groups)).all()


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02], rtol=1e-15)
    np.testing.assert_allclose(holm(np.array([0.6, 0.02, 0.5])), [1.0, 0.06, 1.0], rtol=1e-15)


def test_holm_leaves_out_what_is_no_test() -> None:
    np.testing.assert_array_equal(holm(np.array([np.nan, 0.02, np.nan, 0.01])), [np.nan, 0.02, np.nan, 0.02])
    assert holm(np.array([])).shape == (0,)
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_holm_keeps_the_chance_of_any_false_rejection() -> None:
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(2000):
        p = np.concatenate([rng.uniform(size=8), rng.uniform(0, 1e-4, size=4)])
        false += holm(p)[:8].min() < 0.05
    assert false <= stats.binom.ppf(0.999, 2000, 0.05)


def test_seeds_needed_are_the_fewest() -> None:
    test = paired_test(SAMPLES[2])
    needed = seeds_needed(test, 0.001)
    assert needed is not None

    def p(n: int) -> float:
        return float(stats.t.sf(abs(test.effect_size) * np.sqrt(n), n - 1))

    assert p(needed) < 0.001 <= p(needed - 1)
    assert seeds_needed(test, 1e-300) is None
    assert seeds_needed(test._replace(effect_size=-test.effect_size), 0.001) == needed


def test_of_three_seeds_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    tests = [paired_test(values) for values in np.random.default_rng(3).normal(size=(300, 3))]
    assert abs(sum(test.low <= 0 <= test.high for test in tests) - 0.95 * 300) < 12


@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_welchs_test_is_scipys(values: np.ndarray) -> None:
    second = np.random.default_rng(7).normal(0.2, 3.0, 6)
    test, other = welch_test(values, second), stats.ttest_ind(values, second, equal_var=False)
    interval = other.confidence_interval()
    expected = [values.mean() - second.mean(), interval.low, interval.high, other.pvalue]
    np.testing.assert_allclose(test[1:], expected, rtol=1e-9)
    assert test.n == (len(values), 6)
    np.testing.assert_allclose(welch_test(second, values)[1:4], [-expected[0], -interval.high, -interval.low])
    wide = other.confidence_interval(0.99)
    np.testing.assert_allclose(welch_test(values, second, confidence=0.99)[2:4], [wide.low, wide.high])


def test_two_samples_without_a_spread_say_nothing_of_it() -> None:
    assert welch_test(np.array([1.0, 1.0]), np.array([1.0, 1.0, 1.0])) == ((2, 3), 0.0, 0.0, 0.0, 1.0)
    for first, second in [([1.0, 1.0], [0.0, 0.0]), ([1.0], [0.0, 0.5]), ([0.1 + 0.2, 0.3], [1.3, 1.3])]:
        test = welch_test(np.array(first), np.array(second))
        assert test.mean == pytest.approx(np.mean(first) - np.mean(second))
        assert np.isnan(test[2:]).all()
    assert np.isnan(welch_test(np.array([]), np.array([1.0, 2.0])).mean)


def test_two_samples_are_known_to_their_resolution() -> None:
    test = welch_test(np.ones(3), np.zeros(3), least_spread=0.01)
    other = stats.ttest_ind_from_stats(1.0, 0.01, 3, 0.0, 0.01, 3, equal_var=False)
    assert test.p == pytest.approx(other.pvalue)
    assert test.low < 1 < test.high
    assert welch_test(SAMPLES[1], SAMPLES[2], least_spread=1e-6) == welch_test(SAMPLES[1], SAMPLES[2])
