"""A run of the benchmark: what is measured, in which order, and its record, written after every case."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

from fvnet_mm.bench.speed.device import bandwidth, check_device, device_name, driver, read_clock, set_up
from fvnet_mm.bench.speed.rounds import interleave, passes_of_a_turn
from fvnet_mm.bench.speed.statistics import ratio_of, round_medians, times_of
from fvnet_mm.bench.speed.subjects import Subject, find_subjects
from fvnet_mm.bench.speed.worker import IsolatedWorker, LocalWorker, OutOfMemory, Worker
from fvnet_mm.engine.run_facts import command_line, describe_environment
from fvnet_mm.errors import UserError
from fvnet_mm.records.benchmark import BenchmarkRecord, Case, Conditions, Measurement, Size, What
from fvnet_mm.records.benchmark_file import write_benchmark

LARGEST = 0
"""The batch that stands for the largest that fits."""

MOST_IMAGES = 256
"""Of the largest batch: from here it is halved until it fits."""

TRUNK_SIZES, WHOLE_SIZES = ((224, 224),), ((512, 512),)
"""Where the command line names none: for trunks alone, and where there is a config."""

CPU_BATCHES, GPU_BATCHES = (1, 8), (1, LARGEST)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run measures: every combination of parts, sizes and batches, by the models that have that part.

    Attributes:
        subjects: In the order of a round.
        baseline: Name of the one that ratios are to.
        parts: 'trunk', 'model' (trunk, neck and heads) and 'predict' (with pre- and post-processing).
        sizes: (height, width) of images.
        batches: Numbers of images; :data:`LARGEST` for as many as fit.
        rounds: How often every model has its turn.
        turn_seconds: Least length of a turn.
        conditions: What all of it is measured under.
    """

    subjects: tuple[Subject, ...]
    baseline: str
    parts: tuple[What, ...]
    sizes: tuple[Size, ...]
    batches: tuple[int, ...]
    rounds: int
    turn_seconds: float
    conditions: Conditions


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan of a command line of ``tools/benchmark.py``.

    Raises:
        UserError: Something in it does not exist or does not go together.
    """
    check_device(arguments.device, arguments.precision)
    if arguments.training and arguments.fuse:
        raise UserError("a fused trunk cannot be trained; leave out --fuse or --training.")
    if LARGEST in (arguments.batch or ()) and arguments.device == "cpu":
        raise UserError("on a CPU nothing says how many images fit before the system ends the run; --batch N does.")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    subjects = find_subjects(arguments.models, arguments.backbone)
    names = [subject.name for subject in subjects]
    baseline = arguments.baseline or names[0]
    if baseline not in names:
        raise UserError(f"--baseline {baseline} is not among the models of this run: {', '.join(names)}.")
    whole = any(subject.whole for subject in subjects)
    possible: list[What] = ["trunk", "model", "predict"] if whole else ["trunk"]
    if arguments.training:
        possible = possible[:2]
    wanted = arguments.what or possible
    lacking = next((part for part in wanted if part not in possible), None)
    if lacking is not None:
        reason = "is no part of training" if whole else "needs a config, and there are trunks alone"
        raise UserError(f"--what {lacking} {reason}; choose {' or '.join(possible)}.")
    conditions = Conditions(
        device=device_name(arguments.device),
        backend=arguments.device,
        driver=driver(arguments.device),
        torch=torch.__version__,
        precision=arguments.precision,
        tf32=arguments.tf32 and arguments.device == "cuda",
        channels_last=arguments.channels_last,
        compiled=arguments.compile,
        fused=arguments.fuse,
        training=arguments.training,
        threads=torch.get_num_threads(),
        isolated=arguments.isolate,
    )
    return Plan(
        subjects=tuple(subjects),
        baseline=baseline,
        # Not as given: what 'predict' has once begun to measure stays hooked into the model.
        parts=tuple(part for part in possible if part in wanted),
        sizes=tuple(dict.fromkeys(arguments.sizes or (WHOLE_SIZES if whole else TRUNK_SIZES))),
        batches=tuple(arguments.batch or (CPU_BATCHES if arguments.device == "cpu" else GPU_BATCHES)),
        rounds=arguments.rounds,
        turn_seconds=arguments.turn_seconds,
        conditions=conditions,
    )


def run_benchmark(plan: Plan, file: Path, progress: Progress) -> BenchmarkRecord:
    """Carries out a plan, and writes what is measured after every case.

    Args:
        plan: What to measure.
        file: The record's.
        progress: Shown what is going on; an empty text at the end.

    Raises:
        UserError: A model cannot be built, fused or run as planned; what was measured before is in the record.
    """
    with ExitStack() as stack:
        set_up(plan.conditions)
        workers: dict[str, Worker] = {}
        for subject in plan.subjects:
            progress(f"building and counting {subject.name}")
            kind = IsolatedWorker if plan.conditions.isolated else LocalWorker
            workers[subject.name] = kind(subject, plan.conditions, plan.sizes)
            stack.callback(workers[subject.name].close)
        stack.callback(progress, "")
        environment = describe_environment()
        record = BenchmarkRecord(
            updated=datetime.now(timezone.utc),
            finished=False,
            command=command_line(),
            conditions=plan.conditions,
            versions=environment.versions,
            git_commit=environment.git_commit,
            git_dirty=environment.git_dirty,
            bandwidth=bandwidth(plan.conditions.backend),
            baseline=plan.baseline,
            models=tuple(worker.model for worker in workers.values()),
        )
        for part, size, batch in itertools.product(plan.parts, plan.sizes, plan.batches):
            able = {name: worker for name, worker in workers.items() if part == "trunk" or worker.model.whole}
            case = Case(what=part, size=size, batch=batch or MOST_IMAGES)
            case, seconds, note = _prepare(able, case)
            notes = record.notes if note is None or batch == LARGEST else (*record.notes, note)
            if case not in record.cases:
                measured = _measure(able, case, seconds, plan, progress)
                record = record.model_copy(update=dict(measurements=(*record.measurements, *measured)))
            record = record.model_copy(update=dict(notes=notes, updated=datetime.now(timezone.utc)))
            if plan.conditions.backend == "cpu":  # whatever else the machine does slows copies down, too
                record = record.model_copy(update=dict(bandwidth=max(record.bandwidth, bandwidth("cpu"))))
            write_benchmark(record, file)
        record = record.model_copy(update=dict(finished=True))
        write_benchmark(record, file)
    return record


def _prepare(workers: Mapping[str, Worker], case: Case) -> tuple[Case, dict[str, float], str | None]:
    """Halves the batch until every model can run it: the case then, seconds of a pass, and what to say about it."""
    wanted, culprit = case.batch, None
    while True:
        seconds = {}
        try:
            for name, worker in workers.items():
                seconds[name] = worker.prepare(case)
        except OutOfMemory:
            culprit = next(name for name in workers if name not in seconds)
            if case.batch == 1:
                raise UserError(f"{culprit}: not even one image of {_shape(case.size)} fits into the memory.") from None
            case = case.model_copy(update=dict(batch=case.batch // 2))
            continue
        if culprit is None:
            return case, seconds, None
        note = (
            f"{case.what} at {_shape(case.size)}: a batch of {wanted} did not fit into the memory with {culprit}, so "
            f"that it was halved to {case.batch} for all."
        )
        return case, seconds, note


def _measure(
    workers: Mapping[str, Worker], case: Case, seconds: Mapping[str, float], plan: Plan, progress: Progress
) -> list[Measurement]:
    passes = {name: passes_of_a_turn(of_a_pass, plan.turn_seconds) for name, of_a_pass in seconds.items()}
    turns = {name: lambda worker=worker, n=passes[name]: worker.turn(n) for name, worker in workers.items()}
    before = read_clock(plan.conditions.backend)
    rounds = interleave(turns, plan.rounds, lambda number: progress(f"{case}: round {number + 1} of {plan.rounds}"))
    after = read_clock(plan.conditions.backend)
    return [
        Measurement(
            model=name,
            case=case,
            times=times_of(rounds[name]),
            ratio=ratio_of(rounds[name], rounds[plan.baseline]) if plan.baseline in rounds else None,
            round_ms=tuple((1e3 * round_medians(rounds[name])).tolist()),
            peak_memory=worker.peak_memory(),
            before=before,
            after=after,
        )
        for name, worker in workers.items()
    ]


def _shape(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
