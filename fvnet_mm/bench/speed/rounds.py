"""Interleaved rounds: every model has a turn before any has its next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

Turn = Callable[[], list[float]]
"""Runs a model's passes and returns the seconds of each."""

MOST_PASSES = 500


def passes_of_a_turn(seconds_of_a_pass: float, least_seconds: float) -> int:
    """How many passes of that length take at least so long: 1 to :data:`MOST_PASSES`."""
    return max(1, min(MOST_PASSES, math.ceil(least_seconds / max(seconds_of_a_pass, 1e-9))))


def interleave(turns: Mapping[str, Turn], rounds: int, progress: Callable[[int], None]) -> dict[str, list[list[float]]]:
    """Rounds A B C A B C ...: seconds of every pass, by model and round.

    Args:
        turns: Of every model, in their order.
        rounds: How often each has its turn.
        progress: Told the number of every round, from 0, before it.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in turns}
    for number in range(rounds):
        progress(number)
        for name, turn in turns.items():
            seconds[name].append(turn())
    return seconds


def timed(run: Callable[[], object], passes: int, finish: Callable[[], None]) -> list[float]:
    """Seconds of each of so many passes; ``finish`` waits for the device, before the first and in each of them.

    Several have one in front that isn't timed: it fetches what other models have pushed out of the caches.
    """
    if passes > 1:
        run()
    finish()
    seconds = []
    for _ in range(passes):
        began = time.perf_counter()
        run()
        finish()
        seconds.append(time.perf_counter() - began)
    return seconds
