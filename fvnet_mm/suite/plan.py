"""The plan of a suite: its jobs, and estimates of the time and disk that they take."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from fvnet_mm.engine.run_facts import processor_name
from fvnet_mm.engine.tasks.base import DataSplit
from fvnet_mm.errors import UserError
from fvnet_mm.places import ROOT
from fvnet_mm.suite.facts import Facts, facts_of
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.reading import Suite
from fvnet_mm.suite.timing import Timing, keep, measure, read_timing
from fvnet_mm.terminal_tables import new_table, show

_STEPS, _WARM_UP = {True: 20, False: 2}, {True: 5, False: 1}
"""Timed steps, and those before them, on a GPU and on a CPU."""

_COLUMNS = ("Training", "Seeds", "Images (k)", "s/image", "Hours each", "Hours", "Disk each (GB)", "Note")


@dataclass(frozen=True)
class Entry:
    """Jobs that differ in their seeds alone, what they do, and what was measured; or why that is not known."""

    jobs: tuple[Job, ...]
    facts: Facts | None = None
    timing: Timing | None = None
    note: str = ""


def show_commands(jobs: Sequence[Job]) -> None:
    """Prints the command line of each job."""
    for job in jobs:
        print(shlex.join(["python", str(ROOT / "tools" / "train.py"), *job.words()]))


def show_plan(suite: Suite, jobs: Sequence[Job], steps: int | None, threads: int | None, timing: bool) -> bool:
    """Prints a line for each training, seeds together, then the sums and what they are estimated from.

    Args:
        suite: The jobs' suite; measurements are kept in its work dir.
        jobs: To plan.
        steps: Timed steps of each; None for what suits the device.
        threads: Of a process; None for torch's own choice.
        timing: Whether to measure what was not measured before.

    Returns:
        Whether all of them can be planned; standard error says so where some cannot.
    """
    on_gpu = torch.cuda.is_available()
    steps = steps or _STEPS[on_gpu]
    entries = list(_entries(suite, jobs, steps, threads, timing, on_gpu))
    table = new_table(*_COLUMNS, right=_COLUMNS[1:-1])
    for entry in entries:
        table.add_row(*_cells(entry, on_gpu))
    show(table)
    print("\n".join(_sums(entries, jobs, on_gpu)), flush=True)
    unplanned = sum(entry.facts is None for entry in entries)
    if unplanned:
        print(
            f"error: {unplanned} of {len(entries)} trainings cannot be planned; the table's notes say why.",
            file=sys.stderr,
        )
    return not unplanned


def _entries(
    suite: Suite, jobs: Sequence[Job], steps: int, threads: int | None, timing: bool, on_gpu: bool
) -> Iterator[Entry]:
    counted: dict[tuple[str, str], tuple[DataSplit, int]] = {}
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(replace(job, seed=0).identity(), []).append(job)
    for number, group in enumerate(groups.values(), 1):
        try:
            facts = facts_of(group[0], counted)
            file = suite.work_dir / "plan" / f"{_digest(facts, steps, threads, on_gpu)}.json"
            measured = read_timing(file)
            if measured is None and timing:
                print(f"timing {number} of {len(groups)}: {_stem(group[0])}", file=sys.stderr, flush=True)
                measured = measure(group[0], facts, steps, _WARM_UP[on_gpu], not on_gpu, threads)
                keep(measured, file)
            yield Entry(tuple(group), facts, measured, f"{facts.assumed} is not here" if facts.assumed else "")
        except UserError as error:
            yield Entry(tuple(group), note=f"cannot be planned: {error}")


def _cells(entry: Entry, on_gpu: bool) -> Iterator[str]:
    facts, timing = entry.facts, entry.timing
    yield _stem(entry.jobs[0])
    yield str(len(entry.jobs))
    yield _thousands(facts.trained_images) if facts else "-"
    if facts is None or timing is None:
        yield from "----"
    else:
        each = timing.hours(facts, on_gpu)
        yield f"{timing.train_seconds:.3g}"
        yield f"{each:,.2f}"
        yield f"{each * len(entry.jobs):,.1f}"
        yield f"{timing.disk_bytes(facts) / 1e9:.2f}"
    yield entry.note


def _thousands(images: int) -> str:
    """Images in thousands, with a digit behind the point or, of few images, three that count."""
    return f"{images / 1000:,.1f}" if images >= 10_000 else f"{images / 1000:.3g}"


def _sums(entries: Sequence[Entry], jobs: Sequence[Job], on_gpu: bool) -> Iterator[str]:
    known = [entry for entry in entries if entry.facts is not None and entry.timing is not None]
    yield f"{len(jobs)} jobs, {len(entries)} different trainings"
    if not known:
        return
    hours = sum(entry.timing.hours(entry.facts, on_gpu) * len(entry.jobs) for entry in known)
    disk = sum(entry.timing.disk_bytes(entry.facts) * len(entry.jobs) for entry in known)
    device = "GPU" if on_gpu else "CPU"
    share = f" for the {len(known)} that were timed" if len(known) < len(entries) else ""
    yield f"estimate{share}: {hours:,.1f} {device}-hours and {disk / 1e9:,.1f} GB"
    first = known[0].timing
    batches = " or ".join(map(str, sorted({entry.timing.batch for entry in known})))
    yield (
        f"  measured   the median of {first.steps} steps after {first.warm_up}, of {batches} images each, from random "
        f"weights on generated images of the data's usual size; {first.device}, {first.threads} threads"
    )
    if not on_gpu and any(entry.jobs[0].settings.amp for entry in known):
        yield "             in float32, since mixed precision takes a GPU: plan again where the suite will run"
    loaded = "while the GPU computes" if on_gpu else "in turn"
    yield f"  multiplied by the images of all epochs or steps, loaded {loaded}, and of all evaluations"
    yield "  disk       checkpoints and the predictions of one evaluation, by the sizes that were written"
    yield "  left out   start-up, checking and downloading data and weights, computing the metrics, drawing"
    peaks = [entry.timing.peak_memory for entry in known if entry.timing.peak_memory]
    if peaks:
        yield f"  GPU memory {min(peaks) / 2**30:.1f} to {max(peaks) / 2**30:.1f} GiB"


def _stem(job: Job) -> str:
    return re.sub(r"_seed\d+$", "", job.name)


def _digest(facts: Facts, steps: int, threads: int | None, on_gpu: bool) -> str:
    # With the cores, since machines of the same processor have more or fewer of them; a disk may be all of theirs.
    device = torch.cuda.get_device_name() if on_gpu else f"{processor_name()}, {os.cpu_count()} cores"
    text = repr((facts.digest, steps, threads, device, torch.__version__))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
