"""The order of turns, and what is in a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvnet_mm.bench.speed.rounds import MOST_PASSES, interleave, passes_of_a_turn, timed


def test_every_model_has_its_turn_before_any_has_its_next() -> None:
    order: list[str] = []
    started: list[int] = []

    def turn(name: str) -> list[float]:
        order.append(name)
        return [float(len(order))]

    seconds = interleave({name: lambda name=name: turn(name) for name in "ABC"}, 3, started.append)
    assert "".join(order) == "ABCABCABC"
    assert seconds == {"A": [[1.0], [4.0], [7.0]], "B": [[2.0], [5.0], [8.0]], "C": [[3.0], [6.0], [9.0]]}
    assert started == [0, 1, 2]


class Machine:
    """A clock that only work and waiting move."""

    def __init__(self) -> None:
        self.now, self.queued, self.runs = 0.0, 0.0, 0

    def run(self) -> None:
        self.runs += 1
        self.now += 1  # launching
        self.queued += 10 if self.runs > 1 else 1000  # the first finds cold caches

    def finish(self) -> None:
        self.now, self.queued = self.now + self.queued, 0.0


@pytest.mark.parametrize(("passes", "expected"), [(3, [11, 11, 11]), (1, [1001])])
def test_time_is_of_work_that_is_done_and_the_first_pass_of_several_is_not_in_it(
    passes: int, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    with monkeypatch.context() as patched:
        patched.setattr("fvnet_mm.bench.speed.rounds.time.perf_counter", lambda: machine.now)
        assert timed(machine.run, passes, machine.finish) == expected
    assert machine.runs == (passes + 1 if passes > 1 else 1)


@given(st.floats(1e-6, 100), st.floats(0, 10))
def test_passes_fill_the_turn(seconds: float, least: float) -> None:
    passes = passes_of_a_turn(seconds, least)
    assert 1 <= passes <= MOST_PASSES
    assert passes == MOST_PASSES or passes * seconds >= least * (1 - 1e-9)
    assert passes == 1 or (passes - 1) * seconds < least
