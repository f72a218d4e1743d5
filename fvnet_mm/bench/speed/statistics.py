"""What the times of a model's passes say: percentiles, ratio to a baseline with its interval, steadiness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from fvnet_mm.records.benchmark import Ratio, Times

CONFIDENCE = 0.95

SPREAD_LIMIT = 1.25
"""Unsteady if the 90th percentile of the passes is more than this many times their median."""

DRIFT_LIMIT = 0.05
"""Unsteady if the later half of the rounds is slower or faster than the earlier half by more than this share."""

Rounds = Sequence[Sequence[float]]
"""Seconds of every pass of a model, round by round."""


def times_of(rounds: Rounds) -> Times:
    """Percentiles and mean of all passes, in ms, and where they were unsteady, why."""
    passes = np.concatenate([np.asarray(turn) for turn in rounds]) * 1e3
    p50, p90, p99 = np.percentile(passes, [50, 90, 99])
    reasons = [f"p90 is {p90 / p50:.2f} times p50"] if p90 > SPREAD_LIMIT * p50 else []
    half = len(rounds) // 2
    if half > 1:
        medians = round_medians(rounds)
        drift = np.median(medians[-half:]) / np.median(medians[:half]) - 1
        if abs(drift) > DRIFT_LIMIT:
            reasons.append(f"later rounds were {abs(drift):.0%} {'slower' if drift > 0 else 'faster'}")
    return Times(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=passes.mean(),
        n=passes.size,
        rounds=len(rounds),
        unsteady=tuple(reasons),
    )


def round_medians(rounds: Rounds) -> np.ndarray:
    """The median of every round's passes, in seconds."""
    return np.array([np.median(turn) for turn in rounds])


def ratio_of(rounds: Rounds, baseline: Rounds) -> Ratio:
    """How many times as fast as the baseline a model is: above 1 it is faster.

    A round's ratio is the median time of the baseline's passes over that of the model's, measured next to each other,
    so that what slows the whole machine down for longer than a round cancels. The value is the median over the rounds.
    Its interval needs no assumption on the noise: between the k-th smallest and the k-th greatest ratio lies the true
    median with a probability that the binomial distribution tells, and k is the greatest for which that is 95 % or
    more. Of fewer than six rounds no k is enough, and there is no interval.

    Raises:
        ValueError: The numbers of rounds differ.
    """
    if len(rounds) != len(baseline):
        raise ValueError(f"{len(rounds)} rounds cannot be compared with {len(baseline)} round by round.")
    ratios = np.sort(round_medians(baseline) / round_medians(rounds))
    outside = int(stats.binom.ppf((1 - CONFIDENCE) / 2, len(ratios), 0.5))
    value = float(np.median(ratios))
    if outside == 0:
        return Ratio(value=value)
    return Ratio(value=value, low=float(ratios[outside - 1]), high=float(ratios[-outside]))
