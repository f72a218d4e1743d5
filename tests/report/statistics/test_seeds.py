"""Welch's test against SciPy's, and the decision between noise and difference."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from fvnet_mm.report.statistics.resampling import Interval
from fvnet_mm.report.statistics.seeds import decide, welch

HIGHER, LOWER, AROUND = Interval(0.1, 2), Interval(-2, -0.1), Interval(-1, 1)


def by_scipy(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Limits and p."""
    test = stats.ttest_ind(second, first, equal_var=False)
    limits = test.confidence_interval(0.95)
    return limits.low, limits.high, test.pvalue


SEEDS = st.lists(st.integers(-1000, 1000).map(lambda value: value / 10), min_size=2, max_size=6)


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
@given(first=SEEDS, second=SEEDS)
def test_against_scipy(first: list[float], second: list[float]):
    assume(np.ptp(first) > 0 or np.ptp(second) > 0)
    test = welch(first, second)
    assert (test.interval.low, test.interval.high, test.p_value) == pytest.approx(by_scipy(first, second), rel=1e-8)
    assert test.difference == pytest.approx(np.mean(second) - np.mean(first))
    swapped = welch(second, first)
    assert (swapped.interval.low, swapped.interval.high) == pytest.approx((-test.interval.high, -test.interval.low))
    assert swapped.p_value == pytest.approx(test.p_value)


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
def test_one_side_without_spread():
    test = welch([30.0, 30.0, 30.0], [31.0, 32.0])
    assert (test.interval.low, test.interval.high, test.p_value) == pytest.approx(by_scipy([30.0] * 3, [31.0, 32.0]))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([30.0], [31.0], "a single run has no spread"),
        ([30.0], [31.0, 32.0], "a single run has no spread"),
        ([30.0, 31.0], [32.0], "a single run has no spread"),
        ([30.0, 30.0], [32.0, 32.0], "no spread is known"),
    ],
)
def test_no_interval_without_spread(first: list[float], second: list[float], reason: str):
    test = welch(first, second)
    assert test.interval is None
    assert test.p_value is None
    assert reason in test.reason
    assert test.difference == np.mean(second) - np.mean(first)
    assert test.counts == (len(first), len(second))


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ([HIGHER], "higher"),
        ([LOWER, None], "lower"),
        ([HIGHER, HIGHER], "higher"),
        ([HIGHER, AROUND], "within noise"),
        ([AROUND, LOWER], "within noise"),
        ([HIGHER, LOWER], "within noise"),
        ([Interval(0, 0)], "within noise"),
        ([Interval(0, 1)], "within noise"),
        ([None, None], "undefined"),
    ],
)
def test_verdict(intervals: list[Interval | None], verdict: str):
    assert decide(*intervals) == verdict
