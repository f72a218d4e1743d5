"""What the times of a model's passes say: percentiles, ratio to a baseline with its interval, steadiness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from fvnet_mm.bench.speed.schema import Ratio, Times

CONFIDENCE = 0.95
SPREAD_LIMIT = 1.25
"""Unsteady if the 90th percentile of the passes is more than this many times their median."""

DRIFT_LIMIT = 0.05
"""Unsteady if the later half of the rounds is slower or faster than the earlier half by more than this share."""

Rounds = Sequence[Sequence[float]]
"""Seconds of every pass of a model, round by round."""


def times_of(rounds: Rounds) -> Times:
    """Percentiles and mean of all passes, in ms, and where they were unsteady, why.

    The drift compares the medians of the rounds of both halves; fewer than four rounds have none.
    """
    passes = np.concatenate([np.asarray(turn) for turn in rounds]) * 1e3
    p50, p90, p99 = np.percentile(passes, [50, 90, 99])
    drift = _drift(rounds)
    reasons = []
    if p90 > SPREAD_LIMIT * p50:
        reasons.append(f"p90 is {p90 / p50:.2f} times p50")
    if drift is not None and abs(drift) > DRIFT_LIMIT:
        reasons.append(f"later rounds were {abs(drift):.0%} {'slower' if drift > 0 else 'faster'}")
    return Times(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=passes.mean(),
        n=passes.size,
        rounds=len(rounds),
        drift=drift,
        unsteady=tuple(reasons),
    )


def ratio_of(rounds: Rounds, baseline: Rounds) -> Ratio:
    """How many times as fast as the baseline a model is: above 1 it is faster.

    A round's ratio is the median time of the baseline's passes over that of the model's, measured next to each other,
    so that what slows the whole machine down for longer than a round cancels. The value is the geometric mean over the
    rounds, the interval Student's t on their logarithms; a single round has none.

    Raises:
        ValueError: The numbers of rounds differ.
    """
    logs = np.log([np.median(ours) for ours in baseline]) - np.log([np.median(theirs) for theirs in rounds])
    mean = logs.mean()
    if len(logs) < 2:
        return Ratio(value=float(np.exp(mean)))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * stats.sem(logs)
    return Ratio(value=float(np.exp(mean)), low=float(np.exp(mean - half)), high=float(np.exp(mean + half)))


def _drift(rounds: Rounds) -> float | None:
    if len(rounds) < 4:
        return None
    medians = np.array([np.median(turn) for turn in rounds])
    half = len(medians) // 2
    return float(np.median(medians[-half:]) / np.median(medians[:half]) - 1)
