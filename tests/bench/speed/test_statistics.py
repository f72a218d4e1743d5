"""Percentiles, ratios and their intervals, on simulated times of which the truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvnet_mm.bench.speed.statistics import ratio_of, round_medians, times_of


def simulate(
    random: np.random.Generator, ms: float, drift: np.ndarray, noise: float = 0.05, bursts: float = 0.0
) -> list[list[float]]:
    """Seconds of five passes in each round, on a machine whose slowness is ``drift`` in that round."""
    rounds = []
    for slowness in drift:
        burst = 3.0 if random.random() < bursts else 1.0  # somebody else's work, for all of a turn
        rounds.append(list(ms / 1e3 * slowness * burst * np.exp(random.normal(0, noise, 5))))
    return rounds


@given(st.lists(st.lists(st.floats(1e-4, 10), min_size=1, max_size=5), min_size=1, max_size=8))
def test_times_are_numpys(rounds: list[list[float]]) -> None:
    times, flat = times_of(rounds), 1e3 * np.array([seconds for turn in rounds for seconds in turn])
    assert (times.n, times.rounds) == (len(flat), len(rounds))
    assert times.mean_ms == pytest.approx(np.mean(flat))
    for value, share in ((times.p50_ms, 0.5), (times.p90_ms, 0.9), (times.p99_ms, 0.99)):
        assert value == pytest.approx(np.quantile(flat, share))


def test_times_of_round_numbers() -> None:
    times = times_of([[i / 1e3] for i in range(1, 102)])  # 1 to 101 ms
    assert (times.p50_ms, times.p90_ms, times.p99_ms, times.mean_ms) == pytest.approx((51, 91, 100, 51))


def test_steadiness() -> None:
    assert times_of([[0.1, 0.101]] * 6).unsteady == ()
    drifting = times_of([[0.1]] * 3 + [[0.11]] * 3).unsteady
    assert drifting == ("later rounds were 10% slower",)
    assert times_of([[0.11]] * 2 + [[0.1]] * 2).unsteady == ("later rounds were 9% faster",)
    assert times_of([[0.1, 0.1, 0.2]] * 6).unsteady == ("p90 is 2.00 times p50",)


@pytest.mark.parametrize(("ms", "unsteady"), [(104, False), (106, True), (96, False), (94, True)])
def test_a_drift_of_a_twentieth_is_unsteady(ms: float, unsteady: bool) -> None:
    assert bool(times_of([[0.1]] * 3 + [[ms / 1e3]] * 3).unsteady) == unsteady


@pytest.mark.parametrize(("ms", "unsteady"), [(124, False), (126, True)])
def test_a_tenth_of_passes_that_take_a_quarter_longer_is_unsteady(ms: float, unsteady: bool) -> None:
    assert bool(times_of([[0.1, 0.1, ms / 1e3]] * 6).unsteady) == unsteady


def test_drift_is_of_halves_of_at_least_two_rounds() -> None:
    """Of an odd number the middle one is in neither; a single round says nothing."""
    assert times_of([[0.11], [0.11], [0.12], [0.1], [0.12]]).unsteady == ()
    assert times_of([[0.1], [0.11], [0.11]]).unsteady == ()


def test_drift_of_the_machine_cancels() -> None:
    """The machine becomes three times as slow; each model's own times say nothing, their ratio is exact."""
    drift = np.linspace(1, 3, 20)
    random = np.random.default_rng(0)
    slow, fast = simulate(random, 30, drift, noise=0), simulate(random, 20, drift, noise=0)
    ratio = ratio_of(fast, slow)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.5, 1.5, 1.5))


def test_a_single_slow_round_does_not_move_the_ratio() -> None:
    assert ratio_of([[1.0]] * 7, [[1.0]] * 6 + [[8.0]]).value == 1


@pytest.mark.parametrize("bursts", [0.0, 0.15])
def test_interval_holds_the_known_ratio(bursts: float) -> None:
    """In 95 of 100 runs or more, with drift, and with bursts that slow one model's turn down and not the other's."""
    random = np.random.default_rng(1)
    held, widths = 0, []
    for _ in range(400):
        drift = np.exp(np.cumsum(random.normal(0, 0.1, 20)))
        ratio = ratio_of(simulate(random, 20, drift, bursts=bursts), simulate(random, 30, drift, bursts=bursts))
        held += ratio.low <= 1.5 <= ratio.high
        widths.append(ratio.high / ratio.low)
    assert held / 400 > 0.93
    assert np.median(widths) < 1.10 + bursts


@given(st.integers(6, 60))
def test_interval_is_of_the_orders_that_the_binomial_distribution_tells(n: int) -> None:
    rounds = [[1 / (i + 1)] for i in range(n)]  # ratios 1 to n to a constant baseline
    ratio = ratio_of(rounds, [[1.0]] * n)
    k = round(ratio.low)
    assert ratio.high == pytest.approx(n + 1 - k)
    outside = [sum(math.comb(n, i) for i in range(order)) / 2**n for order in (k, k + 1)]
    assert outside[0] <= 0.025 < outside[1]


def test_too_few_rounds_have_no_interval() -> None:
    ratio = ratio_of([[0.1]] * 5, [[0.2]] * 5)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, None, None)
    with pytest.raises(ValueError, match="5 rounds cannot be compared with 4"):
        ratio_of([[0.1]] * 5, [[0.2]] * 4)


def test_model_that_is_its_own_baseline() -> None:
    rounds = simulate(np.random.default_rng(2), 10, np.ones(8))
    ratio = ratio_of(rounds, rounds)
    assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)
    assert round_medians(rounds).tolist() == [sorted(turn)[2] for turn in rounds]
