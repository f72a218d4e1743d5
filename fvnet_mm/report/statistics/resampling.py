"""The bootstrap over images: the same resampled images for two models, and the interval of their difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from fvnet_mm.cores import usable_cores

CONFIDENCE = 0.95
"""Of every interval."""

FEWEST_IMAGES = 5
"""Images on which an interval must rest; the percentiles of fewer say next to nothing."""

_UNDEFINED = 0.01  # share of resamples without a value above which it rests on fewer, and there is no interval
BLOCK = 1250
"""Resamples at once: enough to spread numpy's cost of a call, and 10,000 shared evenly."""
_WORTH_PROCESSES = 5_000_000  # draws of an image; starting processes takes as long as some millions

Progress = Callable[[int, int], None]
"""Told how many of how many resamples are done."""


@dataclass(frozen=True)
class Resamples:
    """Resamples of a split: as many images as it has, drawn with replacement.

    A resample is the number of times that each image was drawn. Blocks of resamples are drawn when they are asked
    for, each from a random stream of its own: any number of them takes no memory, and a block is the same whenever
    and wherever it is drawn.

    Attributes:
        images: Images in the split.
        count: Resamples.
        seed: Of the drawing.
    """

    images: int
    count: int = 10_000
    seed: int = 0

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // BLOCK)

    def block(self, index: int) -> np.ndarray:
        """Return how often each image (row) is in each resample (column) of a block: whole float64 numbers."""
        size = min(BLOCK, self.count - index * BLOCK)
        drawn = np.random.default_rng([self.seed, index]).integers(self.images, size=(size, self.images))
        drawn += self.images * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * self.images).reshape(size, self.images)
        return np.ascontiguousarray(times.T, np.float64)

    @cached_property
    def most_copies(self) -> int:
        """The largest number of times that one image is in one resample."""
        return int(max(self.block(index).max() for index in range(self.blocks)))


class Values(NamedTuple):
    """A model's metrics on B resamples, in percent; NaN where one is not defined.

    Attributes:
        metrics: Name -> (B,).
        per_class: (classes, B), of the metric that a class has.
    """

    metrics: dict[str, np.ndarray]
    per_class: np.ndarray


Evaluation = Callable[[np.ndarray], Values]
"""The predictions of one model: its metrics from how often each image is in each resample, (images, B) float64."""


@dataclass(frozen=True)
class Interval:
    """Limits of a 95 % interval."""

    low: float
    high: float


def paired_bootstrap(
    first: Sequence[Evaluation],
    second: Sequence[Evaluation],
    resamples: Resamples,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Values:
    """Resample images and return ``second`` minus ``first``, each evaluated on the same resampled images.

    Pairing takes out what both share: that some images are hard.

    Args:
        first: Runs of one model (seeds), of which a resample's metrics are averaged.
        second: Of the other.
        resamples: Over the images of both.
        workers: Blocks evaluated at once: in processes where it is worth their start, since evaluations are many
            short calls that threads would wait for each other to make, in threads otherwise. The result is the same.
            None for one on each core that may be used, as far as there are blocks.
        progress: Called after each block.

    Returns:
        Differences in points of percent, B = ``resamples.count``.
    """
    models = (first, second, resamples)
    workers = workers or min(usable_cores(), resamples.blocks)
    if workers > 1 and resamples.images * resamples.count >= _WORTH_PROCESSES:
        context = get_context("spawn")  # a fork would take locks of other threads along
        pool = ProcessPoolExecutor(workers, context, initializer=_Worker.receive, initargs=models)
        return _collect(pool, _Worker.differences, resamples, progress)
    return _collect(ThreadPoolExecutor(workers), partial(_differences, *models), resamples, progress)


class _Worker:
    """What a process was given when it started."""

    models: tuple[Sequence[Evaluation], Sequence[Evaluation], Resamples]

    @classmethod
    def receive(cls, *models: object) -> None:
        cls.models = models

    @classmethod
    def differences(cls, index: int) -> Values:
        return _differences(*cls.models, index)


def _differences(first: Sequence[Evaluation], second: Sequence[Evaluation], resamples: Resamples, index: int) -> Values:
    times = resamples.block(index)
    before, after = _mean_of(first, times), _mean_of(second, times)
    metrics = {name: after.metrics[name] - before.metrics[name] for name in before.metrics}
    return Values(metrics, after.per_class - before.per_class)


def _collect(
    pool: Executor, differences: Callable[[int], Values], resamples: Resamples, progress: Progress | None
) -> Values:
    blocks: list[Values] = []
    with pool:
        for block in pool.map(differences, range(resamples.blocks)):
            blocks.append(block)
            if progress is not None:
                progress(min(len(blocks) * BLOCK, resamples.count), resamples.count)
    metrics = {name: np.concatenate([block.metrics[name] for block in blocks]) for name in blocks[0].metrics}
    return Values(metrics, np.concatenate([block.per_class for block in blocks], axis=1))


def interval_of(values: np.ndarray) -> Interval | None:
    """Return the percentile interval of a bootstrap's values (B,).

    Resamples on which the metric is not defined (a class without an object) are left out. Where those are more than
    1 %, it rests on fewer than five images, which is too few for an interval, and None is returned: k images of N are
    all missed with a probability of (1 - k / N)^N, nearly exp(-k), 1.8 % of k = 4.
    """
    defined = values[~np.isnan(values)]
    if len(defined) < (1 - _UNDEFINED) * len(values):
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Average over the first axis what is not NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0).sum(axis=0)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _mean_of(runs: Sequence[Evaluation], times: np.ndarray) -> Values:
    values = [run(times) for run in runs]
    metrics = {name: np.mean([run.metrics[name] for run in values], axis=0) for name in values[0].metrics}
    return Values(metrics, np.mean([run.per_class for run in values], axis=0))
