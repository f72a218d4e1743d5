"""Taking turns, so that whatever slows a machine down slows both."""

from collections.abc import Callable

Times = dict[str, list[float]]


def interleaved(run: dict[str, Callable[[], float]], rounds: int) -> Times:
    """Seconds of each of the two, round by round."""
    times: Times = {name: [] for name in run}
    for number in range(rounds):
        for name, measure in run.items():
            times[name].append(measure())
        print(f"round {number + 1}:", {name: round(values[-1], 3) for name, values in times.items()}, flush=True)
    return times
