"""``run``, ``resume`` and ``retry``: which jobs each of them takes, and what is said on the way."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from fvnet_mm.cores import usable_cores
from fvnet_mm.errors import UserError
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.reading import Suite
from fvnet_mm.suite.running import Resources, run_locally, states_of, submit_to_slurm, visible_devices
from fvnet_mm.suite.schema import DEMO
from fvnet_mm.suite.state import LOG_FILE, JobState, State
from fvnet_mm.suite.tables import count_states, evaluated

TAKES = {
    "run": {State.WAITING, State.INTERRUPTED, State.RUNNING},
    "resume": {State.INTERRUPTED, State.RUNNING},
    "retry": {State.FAILED},
}
"""By command: the jobs that it takes. Of a running one it awaits the end, but on Slurm."""

_FLAGS = ("threads", "jobs", "gpus", "jobs_per_gpu", "cluster", "partition", "time")
"""What these commands take beside --sbatch, and the others do not; None where it was not given."""

_MINUTES = 1440
"""Until Slurm requeues a job."""


def execute(suite: Suite, jobs: Sequence[Job], arguments: argparse.Namespace) -> bool:
    """Does what ``run``, ``resume`` or ``retry`` asks for; says whether no job stands failed or unusable afterwards.

    What runs here has finished, too; Slurm's jobs are only queued then.

    Raises:
        UserError: Data is missing, there are too few GPUs, or Slurm does not take the jobs.
    """
    states = states_of(jobs)
    for job in jobs:
        if states[job.name].state is State.OTHER:
            print(f"problem: {states[job.name].note}", file=sys.stderr)
    on_slurm = arguments.cluster == "slurm"
    wanted = TAKES[arguments.command] - ({State.RUNNING} if on_slurm else set())
    taken = [job for job in jobs if states[job.name].state in wanted]
    require_data(taken)
    if not taken:
        print(f"nothing to {arguments.command}")
    elif on_slurm:
        _submit(suite, taken, arguments)
    else:
        _run(suite, taken, arguments)
    states = states_of(jobs)
    print(count_states(states))
    if any(found.state is State.FAILED for found in states.values()):
        print(f"retry       {_again(arguments, 'retry')}")
    print(f"next        python tools/leaderboard.py {shlex.quote(str(suite.work_dir))}")
    well = on_slurm or all(states[job.name].state is State.FINISHED for job in taken)
    return well and not any(found.state in (State.FAILED, State.OTHER) for found in states.values())


def require_data(jobs: Sequence[Job]) -> None:
    """Looks for each data set that jobs need before the first one starts.

    Raises:
        UserError: One is not there or has another layout than the framework needs.
    """
    # By config and options, since the data that they name is their own affair; seeds and trunks have no say.
    needed = {(job.config, job.settings.cfg_options, job.data): job for job in jobs if job.data != DEMO}
    if needed:
        from fvnet_mm.suite.facts import count_images, data_of, load

        found: set[tuple[str, str]] = set()
        for job in needed.values():
            cfg, task = load(job)
            if (key := data_of(job, cfg, task)) not in found:
                count_images(job, cfg, task)
                found.add(key)


def _run(suite: Suite, jobs: Sequence[Job], arguments: argparse.Namespace) -> None:
    resources = _resources(arguments)
    each = f"{resources.gpus} GPU{'s' * (resources.gpus != 1)}" if resources.gpus else "the CPU"
    print(f"{len(jobs)} jobs, {resources.jobs} at once, each on {each} with {resources.threads} threads", flush=True)

    def stopping() -> None:
        print(
            "\nthe jobs that run are being ended, each with a minute for its last checkpoint; to go on: "
            + _again(arguments, "run" if arguments.command == "run" else "resume"),
            file=sys.stderr,
            flush=True,
        )

    run_locally(suite, jobs, resources, _report, stopping)


def _submit(suite: Suite, jobs: Sequence[Job], arguments: argparse.Namespace) -> None:
    given: dict[str, object] = dict(time=arguments.time or _MINUTES)
    if arguments.partition is not None:
        given["partition"] = arguments.partition
    for word in arguments.sbatch:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--sbatch takes KEY=VALUE and got {word!r}; write no space around the =.")
        given[key.replace("-", "_")] = int(value) if value.isdecimal() else value
    gpus = 1 if arguments.gpus is None else arguments.gpus
    submit_to_slurm(suite, jobs, Resources(arguments.jobs or len(jobs), arguments.threads, gpus), given)
    print(f"{len(jobs)} jobs given to Slurm; to watch them: {_again(arguments, 'status')}")


def _resources(arguments: argparse.Namespace) -> Resources:
    shown = visible_devices() if arguments.gpus != 0 else ()
    gpus = min(1, len(shown)) if arguments.gpus is None else arguments.gpus
    if gpus > len(shown):
        raise UserError(f"--gpus {gpus}: this machine shows {len(shown)} GPUs; ask for fewer, or 0 for the CPU.")
    sharing = arguments.jobs_per_gpu or 1
    most = len(shown) // gpus * sharing if gpus else None
    jobs = arguments.jobs or most or 1
    if most is not None and jobs > most:
        raise UserError(
            f"--jobs {jobs}: {len(shown)} GPUs are enough for {most} jobs of {gpus} at once; small jobs can share a "
            "GPU, with --jobs-per-gpu N."
        )
    devices = shown[: len(shown) // gpus * gpus] * sharing if gpus else ()
    cores = usable_cores()
    return Resources(jobs, arguments.threads or max(1, cores // (jobs * max(gpus, 1))), gpus, devices)


def _report(job: Job, found: JobState) -> None:
    words = {State.RUNNING: "started", State.WAITING: "not started"}
    note = found.note or evaluated(found.record)
    if found.state is State.FAILED:
        note += f" ({job.work_dir / LOG_FILE})"
    elif found.state is State.WAITING:
        note = found.note or f"see {job.work_dir.parent / 'submitit'}"
    print(f"{words.get(found.state, found.state.value):<12}{job.name}{f': {note}' if note else ''}", flush=True)


def _again(arguments: argparse.Namespace, command: str) -> str:
    """Another command for the same jobs, with the flags that were given as far as it takes them."""
    words = ["python", "tools/suite.py", command, str(arguments.suite)]
    words += ["--work-dir", str(arguments.work_dir)] if arguments.work_dir else []
    words += ["--filter", arguments.filter] if arguments.filter else []
    if command in TAKES:
        for name in _FLAGS:
            value = getattr(arguments, name)
            words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
        words += ["--sbatch", *arguments.sbatch] if arguments.sbatch else []
    return shlex.join(words)
