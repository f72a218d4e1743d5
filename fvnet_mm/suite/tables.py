"""What ``tools/suite.py`` prints of the states of a suite's jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fvnet_mm.records import RunRecord
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.state import JobState, State
from fvnet_mm.terminal_tables import new_table, show

_MAIN = ("AP", "mIoU", "top-1")


def show_states(jobs: Sequence[Job], states: Mapping[str, JobState]) -> None:
    """Prints a line for each job and how many there are in each state."""
    table = new_table("Job", "State", "Starts", "Evaluated", "Note")
    for job in jobs:
        found = states[job.name]
        table.add_row(job.name, found.state.value, str(len(found.attempts)), evaluated(found.record), found.note)
    show(table)
    print(count_states(states))


def count_states(states: Mapping[str, JobState]) -> str:
    """How many jobs are in each state: '16 jobs: 3 finished, 1 failed, 12 waiting'."""
    counts = Counter(found.state for found in states.values())
    parts = [f"{counts[state]} {state.value}" for state in reversed(State) if counts[state]]
    return f"{len(states)} job{'s' * (len(states) != 1)}: {', '.join(parts)}"


def evaluated(record: RunRecord | None) -> str:
    """A run's last evaluation: 'epoch 3: AP 12.7'; empty before the first one."""
    if record is None or not record.evaluations:
        return ""
    last = record.evaluations[-1]
    name = next((name for name in _MAIN if name in last.metrics), None)
    value = last.metrics[name] if name is not None else None
    return f"{record.unit} {last.step}: {f'{name} {value:.1f}' if value is not None else 'nothing found'}"
