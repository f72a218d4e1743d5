"""What ``tools/suite.py`` prints: the states of a suite's jobs, and tables in general."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fvnet_mm.records import RunRecord
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.state import JobState, State

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


def new_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table, ruled on a terminal, plain columns into a file or pipe."""
    table = Table(box=box.SIMPLE_HEAD if Console().is_terminal else None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return table


def show(table: Table) -> None:
    """Prints a table as wide as it is; a terminal that is narrower folds it."""
    console = Console(markup=False, highlight=False)
    unlimited = console.options.update(max_width=10_000)
    console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(table)
