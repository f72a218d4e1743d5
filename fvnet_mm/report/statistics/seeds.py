"""Differences between the means of several seeds, and when a difference is more than noise.

The rules of decision:

- One run of either: the 95 % interval of the paired bootstrap over images. If it holds 0, the difference is within
  noise. This is the noise of the images that happen to be in the split; that of training cannot be seen in one run.
  The same goes for several runs that all gave the same value.
- Several seeds of both: the joint interval of the bootstrap over images and of Welch's test over seeds. If it holds 0,
  the difference is within noise: a claim has to hold for other images and other seeds at once.

It takes an interval of its own, since the difference has the variances of both sources and either interval that of one:
of two equal models, each interval leaves out 0 by chance more often than it says, and so do both together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from fvnet_mm.report.statistics.resampling import CONFIDENCE, Interval

Verdict = Literal["within noise", "higher", "lower", "undefined"]
"""Of the second model against the first."""


@dataclass(frozen=True)
class SeedTest:
    """Welch's test of two means over seeds.

    Attributes:
        difference: Second mean minus first.
        interval: Of the difference; None where there is none, and ``reason`` says why.
        p_value: Two-sided; None like the interval.
        counts: Seeds of the first and of the second.
        reason: Empty where there is an interval.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    counts: tuple[int, int]
    reason: str = ""


def welch(first: Sequence[float], second: Sequence[float]) -> SeedTest:
    """Test the difference of the means of two models over their seeds, variances not taken to be equal.

    With the means' standard errors e = s / sqrt(n), the difference has sqrt(e1^2 + e2^2) and Student's t with
    (e1^2 + e2^2)^2 / (e1^4 / (n1 - 1) + e2^4 / (n2 - 1)) degrees of freedom.

    Source: B. L. Welch, The generalization of 'Student's' problem when several different population variances are
    involved, Biometrika 34, 1947.
    """
    counts = (len(first), len(second))
    difference = float(np.mean(second) - np.mean(first))
    if min(counts) < 2:
        reason = (
            "a single run has no spread, so that the noise of training is not seen; train two seeds of each or more"
        )
        return SeedTest(difference, None, None, counts, reason)
    if np.ptp(first) == np.ptp(second) == 0:
        return SeedTest(difference, None, None, counts, "the seeds of each gave one value, so that no spread is known")
    errors = [np.var(values, ddof=1) / len(values) for values in (first, second)]
    error = math.sqrt(sum(errors))
    freedom = sum(errors) ** 2 / sum(e**2 / (count - 1) for e, count in zip(errors, counts, strict=True))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return SeedTest(difference, Interval(difference - reach, difference + reach), p_value, counts)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of a mean; None of a single value, which has no spread."""
    if len(values) < 2:
        return None
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return Interval(float(np.mean(values) - reach), float(np.mean(values) + reach))


def joint_interval(difference: float, images: Interval, seeds: Interval) -> Interval:
    """The interval of a difference over images and seeds at once, from those over one of them.

    Variances of independent sources add up, and reaches are multiples of deviations: to each side the reach is the root
    of the sum of both squares.
    """
    return Interval(
        difference - math.hypot(difference - images.low, difference - seeds.low),
        difference + math.hypot(images.high - difference, seeds.high - difference),
    )


def decide(interval: Interval | None) -> Verdict:
    """Decide by the interval that the rules above name; None where there is none."""
    if interval is None:
        return "undefined"
    if interval.low > 0:
        return "higher"
    return "lower" if interval.high < 0 else "within noise"
