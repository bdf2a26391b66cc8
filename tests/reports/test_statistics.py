"""Means, spreads and paired differences, against arithmetic by hand and against scipy."""

import math

import pytest
from scipy import stats

from kdframe.reports.statistics import Paired, Spread, paired, spread

BASELINE = {0: 70.0, 1: 71.0, 2: 72.0, 3: 73.0, 4: 74.0}


def test_a_spread_is_the_mean_and_the_samples_deviation() -> None:
    """1, 2, 6: mean 3, squares 4 + 1 + 9 = 14 over n - 1 = 2."""
    assert spread([1.0, 2.0, 6.0]) == Spread(3.0, math.sqrt(7), 3)


def test_one_value_has_no_spread() -> None:
    assert spread([4.0]) == Spread(4.0, None, 1)


def test_a_paired_difference_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t quantile of 2 degrees 4.30265; for 2 degrees
    p = 1 - t / sqrt(t^2 + 2)."""
    found = paired({0: 71.0, 1: 73.0, 2: 75.0}, BASELINE)
    assert found is not None
    assert (found.mean, found.better, found.n) == (2.0, 3, 3)
    assert found.half == pytest.approx(4.302652729911275 / math.sqrt(3))
    t = 2 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(t**2 + 2))


def test_it_is_scipys_paired_t_test() -> None:
    row = {0: 71.3, 1: 70.2, 2: 74.9, 3: 73.0}
    baseline = {0: 70.0, 1: 71.0, 2: 72.0, 3: 71.5}
    found = paired(row, baseline)
    theirs = stats.ttest_rel(list(row.values()), list(baseline.values()))
    low, high = theirs.confidence_interval(0.95)
    assert found is not None and found.half is not None
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))


def test_only_seeds_that_both_have_are_compared() -> None:
    found = paired({2: 75.0, 0: 71.0, 7: 0.0}, BASELINE)
    assert found is not None and (found.n, found.mean) == (2, 2.0)
    assert paired({7: 1.0}, BASELINE) is None


def test_two_seeds_have_an_interval_of_one_degree_of_freedom() -> None:
    """Differences 1 and 3: the deviation is sqrt 2, its error 1, and t of 1 degree is 12.7062."""
    found = paired({0: 71.0, 1: 74.0}, BASELINE)
    assert found is not None and found.half == pytest.approx(12.706204736432095)
    assert found.p == pytest.approx(1 - 2 / math.pi * math.atan(2))
    assert not found.told_apart


def test_equal_differences_have_no_interval() -> None:
    """Nor where they are equal but for rounding: 85.1 - 85.0 and 85.4 - 85.3."""
    found = paired({0: 71.0, 1: 72.0}, BASELINE)
    assert found == Paired(1.0, None, None, 2, 0, 2) and not found.told_apart
    found = paired({0: 85.1, 1: 85.4}, {0: 85.0, 1: 85.3})
    assert found is not None and found.half is None


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ({0: 73.4, 1: 74.5, 2: 75.6}, "better than the baseline in 3 of 3 seeds, +3.50 +- 0.25"),
        ({0: 66.6, 1: 67.5, 2: 68.4}, "worse than the baseline in 3 of 3 seeds, -3.50 +- 0.25"),
        (
            {0: 75.0, 1: 70.0, 2: 73.0},
            "not told apart from the baseline: better in 2 of 3 seeds, +1.67 +- 7.59",
        ),
        ({0: 73.5}, "+3.50 with one seed, which shows nothing"),
        (
            {0: 69.0, 1: 70.0, 2: 71.0},
            "-1.00, the same difference in all 3 seeds: no spread to judge it by",
        ),
        (
            {0: 68.0, 1: 69.0, 2: 70.0, 3: 73.0, 4: 72.0},
            "worse than the baseline in 4 of 5 seeds, -1.60 +- 1.11",
        ),
    ],
)
def test_the_verdict_is_in_words(row, verdict) -> None:
    found = paired(row, BASELINE)
    assert found is not None and found.verdict() == verdict
