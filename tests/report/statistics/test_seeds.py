"""Welch's test against SciPy's, the joint interval, and the decision between noise and difference."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from fvnet_mm.report.statistics.resampling import Interval
from fvnet_mm.report.statistics.seeds import decide, joint_interval, welch

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
    ("interval", "verdict"),
    [
        (HIGHER, "higher"),
        (LOWER, "lower"),
        (AROUND, "within noise"),
        (Interval(0, 0), "within noise"),
        (Interval(0, 1), "within noise"),
        (Interval(-1, 0), "within noise"),
        (None, "undefined"),
    ],
)
def test_verdict(interval: Interval | None, verdict: str):
    assert decide(interval) == verdict


def test_joint_interval_adds_squares_on_each_side():
    joint = joint_interval(10.0, Interval(7.0, 15.0), Interval(6.0, 22.0))
    assert (joint.low, joint.high) == (5.0, 23.0)
    assert joint_interval(10.0, Interval(7.0, 15.0), Interval(10.0, 10.0)) == Interval(7.0, 15.0)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_of_equal_models_no_more_than_one_in_twenty_are_told_apart(ratio: float):
    """Five seeds of each; the images' deviation is a multiple of the seeds' mean's."""
    rng = np.random.default_rng(0)
    count, seeds = 2000, 5
    deviation = ratio * np.sqrt(2 / seeds)
    reach = stats.norm.ppf(0.975) * deviation
    joint, either = 0, 0
    for first, second, images in zip(
        *rng.normal(size=(2, count, seeds)), rng.normal(scale=deviation, size=count), strict=True
    ):
        test = welch(first, second + images)
        over_images = Interval(test.difference - reach, test.difference + reach)
        joint += decide(joint_interval(test.difference, over_images, test.interval)) != "within noise"
        either += "within noise" not in (decide(over_images), decide(test.interval))
    assert 0.02 < joint / count <= 0.05
    if ratio == 1:  # asking that each of the two intervals leaves out 0 is no such rule
        assert either / count > 0.09
