"""Resamples, the paired bootstrap, and how often its interval holds the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvnet_mm.report.statistics import resampling
from fvnet_mm.report.statistics.accuracy_bootstrap import AccuracyEvaluation
from fvnet_mm.report.statistics.resampling import (
    BLOCK,
    Resamples,
    Values,
    interval_of,
    mean_of_defined,
    paired_bootstrap,
)


class Means:
    """Means over images: of the first statistic as the metric, of each (row) as the classes."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __call__(self, times: np.ndarray) -> Values:
        means = self.values @ times / times.sum(axis=0)
        return Values({"mean": means[0]}, means)


def test_blocks():
    resamples = Resamples(images=30, count=3000, seed=4)
    blocks = [resamples.block(index) for index in range(resamples.blocks)]
    assert len(blocks) == 3
    times = np.concatenate(blocks, axis=1)
    assert times.shape == (30, 3000)
    assert (times.sum(axis=0) == 30).all()
    assert resamples.most_copies == times.max()
    np.testing.assert_array_equal(resamples.block(1), blocks[1])
    assert (blocks[0] != blocks[1]).any()
    assert (Resamples(30, 3000, seed=5).block(0) != blocks[0]).any()
    # Each image is drawn as often as any other: 3,000 times, with a binomial deviation of 54.
    assert np.abs(times.sum(axis=1) - 3000).max() < 4.5 * 54


def test_differences_are_those_of_each_resample():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 20))
    resamples = Resamples(20, 2000, seed=1)
    told = []
    values = paired_bootstrap(
        [Means(first)], [Means(second)], resamples, progress=lambda done, total: told.append((done, total))
    )
    for number in (0, BLOCK - 1, BLOCK, 1999):
        times = resamples.block(number // BLOCK)[:, number % BLOCK].astype(int)
        drawn = np.repeat(np.arange(20), times)
        expected = second[:, drawn].mean(axis=1) - first[:, drawn].mean(axis=1)
        np.testing.assert_allclose(values.per_class[:, number], expected, atol=1e-14)
        assert values.metrics["mean"][number] == pytest.approx(expected[0], abs=1e-14)
    assert told == [(BLOCK, 2000), (2000, 2000)]


@pytest.mark.parametrize("worth_processes", [0, 10**9])
def test_workers_change_nothing(worth_processes, monkeypatch):
    monkeypatch.setattr(resampling, "_WORTH_PROCESSES", worth_processes)
    labels, *predictions = np.random.default_rng(1).integers(3, size=(3, 50))
    models = [[AccuracyEvaluation(labels, predicted, 3)] for predicted in predictions]
    one, *others = (paired_bootstrap(*models, Resamples(50, 3000), workers) for workers in (1, 2, None))
    for other in others:
        np.testing.assert_array_equal(one.per_class, other.per_class)


def test_several_runs_are_averaged():
    values = np.random.default_rng(2).normal(size=(3, 2, 10))
    runs = [Means(run) for run in values]
    bootstrap = paired_bootstrap(runs[:2], runs[2:], Resamples(10, 50))
    mean = paired_bootstrap([Means(values[:2].mean(axis=0))], runs[2:], Resamples(10, 50))
    np.testing.assert_allclose(bootstrap.per_class, mean.per_class, atol=1e-14)
    np.testing.assert_allclose(bootstrap.metrics["mean"], mean.metrics["mean"], atol=1e-14)


def test_interval_holds_the_truth_in_95_percent_of_simulations():
    # 1,000 pairs of models whose images share their difficulty, B better by 0.2 on average; ten sets of resamples, as
    # simulations that share them are not independent of each other.
    rng = np.random.default_rng(3)
    images, truth, held, widths = 200, 0.2, [], []
    for group in range(10):
        difficulty = rng.normal(size=(100, images))
        first = difficulty + rng.normal(scale=0.5, size=(100, images))
        second = difficulty + truth + rng.exponential(0.5, size=(100, images)) - 0.5
        resamples = Resamples(images, 2000, seed=group)
        for values in paired_bootstrap([Means(first)], [Means(second)], resamples).per_class:
            interval = interval_of(values)
            held.append(interval.low <= truth <= interval.high)
            widths.append(interval.high - interval.low)
    assert len(held) == 1000
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
    # Pairing takes out what they share: unpaired, the variances would add up to 2.5 instead of 0.5.
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.sqrt(0.5 / images), rel=0.03)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50))
def test_interval_of_opposite_differences(values: list[float]):
    interval, opposite = interval_of(np.array(values)), interval_of(-np.array(values))
    assert min(values) <= interval.low <= interval.high <= max(values)
    assert (opposite.low, opposite.high) == pytest.approx((-interval.high, -interval.low), abs=1e-12)


def test_interval_leaves_out_what_is_not_defined():
    values = np.linspace(0, 1, 1000)
    values[::100] = np.nan
    assert interval_of(values) == interval_of(values[~np.isnan(values)])
    values[1::100] = np.nan
    assert interval_of(values) is None
    assert interval_of(np.full(10, np.nan)) is None


@pytest.mark.parametrize(("images", "has_interval"), [(1, False), (4, False), (5, True), (20, True)])
def test_interval_needs_five_images(images: int, has_interval: bool):
    times = Resamples(300, 10_000).block(0)
    values = np.where(times[:images].sum(axis=0), 1.0, np.nan)
    assert (interval_of(values) is not None) == has_interval


def test_mean_of_defined():
    values = np.array([[1, np.nan, np.nan], [3, 5, np.nan]])
    np.testing.assert_array_equal(mean_of_defined(values), [2, 5, np.nan])
