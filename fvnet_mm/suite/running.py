"""Running a suite's jobs with submitit: as processes of this machine, or through Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.slurm.slurm import SlurmJob

from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text, written_or_said
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.reading import Suite
from fvnet_mm.suite.state import QUEUE_FILE, JobState, State, is_held, state_of
from fvnet_mm.suite.training import Training

Report = Callable[[Job, JobState], None]

_POLL = 0.5
_NO_LIMIT = 60 * 24 * 366
"""Minutes; submitit's own limit for local jobs is two."""

_TIMEOUTS = 1000
"""How often a job may run out of time; it goes on from its newest checkpoint."""

_UNKNOWN_AT_FIRST = 300
"""Seconds until Slurm's accounting knows a job for sure."""

_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
"""Slurm's words for a job that will not run any more."""


_OURS = {
    "job_name": "it is the suite's name",
    "array_parallelism": "it is --jobs",
    "gpus_per_node": "it is --gpus",
    "num_gpus": "it is --gpus",
    "stderr_to_stdout": "job.log has both",
}
"""By parameter of Slurm that the suite gives itself: what to say to one who gives it, too."""


@dataclass(frozen=True)
class Resources:
    """What jobs may take.

    Attributes:
        jobs: At once.
        threads: Of each process; None for torch's own choice.
        gpus: Of each job; 0 for the CPU.
        devices: All GPUs that there are, by number, each as often as jobs may share it; empty on a cluster, which
            hands them out itself.
    """

    jobs: int
    threads: int | None = None
    gpus: int = 0
    devices: tuple[str, ...] = ()


def states_of(jobs: Sequence[Job]) -> dict[str, JobState]:
    """The state of each job, by its name. Slurm is asked once for those that were given to it."""
    queued = _queued(jobs)
    return {job.name: state_of(job, job.name in queued) for job in jobs}


def run_locally(
    suite: Suite,
    jobs: Sequence[Job],
    resources: Resources,
    report: Report,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Runs jobs as processes of this machine, so many at once, and returns when all have ended or could not start.

    The processes outlive this one if it is killed; Ctrl-C ends them, too, and is raised when they have ended. Jobs
    that an earlier one has left running are waited for, and count among those at once; they keep the GPUs that they
    have.

    Args:
        suite: The jobs' suite.
        jobs: Those to run; of one that is running the end is awaited.
        resources: What they may take.
        report: Called when a job starts and when it has ended; one that could not be started waits, and the note says
            why.
        stopping: Called at Ctrl-C, before the end of the jobs is awaited.

    Raises:
        UserError: The work dir cannot be made.
    """
    folder = _folder(suite)
    states = {job.name: state_of(job) for job in jobs}
    running = [job for job in jobs if states[job.name].state is State.RUNNING]
    stop = threading.Event()
    gpus = _Devices(resources, {job: states[job.name].attempts[-1].devices for job in running}, stop)

    def awaited(job: Job) -> JobState:
        while (found := state_of(job)).state is State.RUNNING and not stop.is_set():
            time.sleep(_POLL)
        return found

    def attempt(job: Job) -> JobState | None:
        """Returns when a job has ended: None, or why it was not started."""
        # One that did not run before may do so by now, under another driver.
        ran = job in running or state_of(job).state in (State.RUNNING, State.FINISHED)
        if ran and awaited(job).state is not State.INTERRUPTED:
            return None
        devices = gpus.take()
        try:
            if stop.is_set():
                return None
            executor = submitit.LocalExecutor(folder)
            executor.update_parameters(timeout_min=_NO_LIMIT)
            try:
                handle = executor.submit(Training(job, resources.threads, resources.gpus, devices))
            except OSError as error:  # a full disk, no more processes; the other jobs may have what they need
                return JobState(State.WAITING, f"{error.strerror or error} ({error.filename or folder})")
            report(job, JobState(State.RUNNING))
            while not handle.done():
                if stop.is_set():
                    # To submitit's controller, which hands it on; again and again, since it may only just have started.
                    # Not handle.cancel(), which gives the training a second.
                    os.kill(int(handle.job_id), signal.SIGTERM)
                time.sleep(_POLL)
            awaited(job)  # by its training, which has outlived submitit's processes, or is another driver's
            return None
        finally:
            gpus.give_back(devices)

    order = [*running, *(job for job in jobs if job not in running)]
    # submitit's processes inherit their thread's mask: Ctrl-C in the terminal reaches them as well as this one, and
    # would end them before the training that they look after.
    mask = (signal.SIG_BLOCK, {signal.SIGINT})
    with ThreadPoolExecutor(resources.jobs, initializer=signal.pthread_sigmask, initargs=mask) as pool:
        futures = {pool.submit(attempt, job): job for job in order}
        try:
            for future in as_completed(futures):
                report(futures[future], future.result() or state_of(futures[future]))
        except BaseException as error:
            stop.set()
            if isinstance(error, KeyboardInterrupt):
                stopping()
            pool.shutdown(cancel_futures=True)
            raise


def submit_to_slurm(suite: Suite, jobs: Sequence[Job], resources: Resources, parameters: Mapping[str, object]) -> None:
    """Gives jobs to Slurm as one array and returns; Slurm starts them, and requeues those that it preempts.

    Args:
        suite: The jobs' suite.
        jobs: None of them running or queued.
        resources: What they may take.
        parameters: Of submitit's Slurm executor, such as partition, time (minutes) and mem.

    Raises:
        UserError: There is no Slurm here, it has no such parameter or the suite gives it itself, it refuses, or the
            work dir cannot be made.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError("there is no Slurm here (sbatch and srun); leave --cluster slurm out to run on this machine.")
    for name in parameters:
        if name in _OURS:
            raise UserError(f"--sbatch takes no {name.replace('_', '-')}: {_OURS[name]}.")
    executor = submitit.SlurmExecutor(_folder(suite), max_num_timeout=_TIMEOUTS)
    try:
        executor.update_parameters(
            job_name=suite.name,
            array_parallelism=resources.jobs,
            gpus_per_node=resources.gpus or None,
            stderr_to_stdout=True,
            **parameters,
        )
        with executor.batch():
            handles = [executor.submit(Training(job, resources.threads, resources.gpus)) for job in jobs]
    # A parameter's name, its kind, sbatch's refusal, no sbatch.
    except (ValueError, TypeError, AttributeError, RuntimeError, OSError) as error:
        raise UserError(f"Slurm does not take the jobs: {error}") from error
    for job, handle in zip(jobs, handles, strict=True):
        write_text(job.work_dir / QUEUE_FILE, f"{handle.job_id}\n")


def visible_devices() -> tuple[str, ...]:
    """The GPUs that a process started here may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return tuple(named.split(",")[:count]) if named else tuple(map(str, range(count)))


class _Devices:
    """The GPUs, handed out in shares of as many as a job takes; jobs that an earlier driver left running keep theirs.

    The latter may have shares of another size, or devices that are not among these.
    """

    def __init__(self, resources: Resources, left: Mapping[Job, tuple[str, ...]], stop: threading.Event) -> None:
        self._size = resources.gpus
        self._free = Counter(resources.devices)
        self._left = dict(left)
        self._stop = stop
        self._lock = threading.Lock()

    def take(self) -> tuple[str, ...]:
        """Waits for a share and takes it; it is empty for a job on the CPU, or after a stop."""
        while self._size and not self._stop.is_set():
            with self._lock:
                if len(share := self._share()) == self._size:
                    self._free.subtract(share)
                    return share
            time.sleep(_POLL)
        return ()

    def give_back(self, share: tuple[str, ...]) -> None:
        """Lets others have what was taken."""
        with self._lock:
            self._free.update(share)

    def _share(self) -> tuple[str, ...]:
        # By the lock, not when a job's end is noticed: its devices are free although nobody waits for it yet.
        self._left = {job: devices for job, devices in self._left.items() if is_held(job.work_dir)}
        free = self._free.copy()
        for devices in self._left.values():
            free.subtract(devices)
        # The emptiest ones, and each once; sorting keeps the order of equals, so neighbours stay together.
        best = sorted(self._free, key=lambda device: -free[device])
        return tuple(device for device in best[: self._size] if free[device] > 0)


def _folder(suite: Suite) -> Path:
    """Makes the folder of submitit's own files: pickled jobs, and what it logs of itself.

    Raises:
        UserError: It cannot be made.
    """
    folder = suite.work_dir / "submitit"
    with written_or_said(f"the folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _queued(jobs: Sequence[Job]) -> set[str]:
    """The jobs that Slurm has in its queue, or runs; it is asked once."""
    files = {job.name: job.work_dir / QUEUE_FILE for job in jobs}
    numbers = {name: _number(file) for name, file in files.items()}
    handles = {name: SlurmJob("submitit", number) for name, number in numbers.items() if number is not None}
    found = set()
    for name, handle in handles.items():
        state = handle.state.partition(" ")[0]
        forgotten = state == "UNKNOWN" and time.time() - files[name].stat().st_mtime > _UNKNOWN_AT_FIRST
        if state not in _ENDED and not forgotten:
            found.add(name)
    return found


def _number(file: Path) -> str | None:
    """That of a job in Slurm's queue; None where it was not given to Slurm, or the job's state says what is wrong."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:  # a folder that this user may not read: the file of attempts in it cannot be read, either
        return None
