"""What has become of a job, told by its work dir alone: the run's record, a lock, and the attempts at it.

No list of jobs is kept anywhere that could disagree with the work dirs. ``job.json`` in a work dir says what was
started there and how each attempt ended; the process that attempts it writes it, under the lock that it holds as long
as it lives.
"""

from __future__ import annotations

import enum
import fcntl
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import Field, ValidationError

from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text, written_or_said
from fvnet_mm.records import RunRecord
from fvnet_mm.records.parts import Part
from fvnet_mm.records.reading import RECORD, NewerRecord, read_record
from fvnet_mm.suite.contents import CONTENTS, digest_of
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.trained_data import other_data

JOB_FILE, LOCK_FILE, LOG_FILE, QUEUE_FILE = "job.json", "job.lock", "job.log", "job.slurm"
"""In a work dir: the attempts, what a running one locks, its console, and the number of its job in Slurm's queue."""

_INTERRUPTED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
"""Signals by which somebody ends a run that is in order."""

_STATUSES = {-number for number in _INTERRUPTED} | {128 + number for number in _INTERRUPTED}
"""The exit statuses after them: a process's and a shell's."""

_OF_TORCHRUN = re.compile(r"SignalException: Process \d+ got signal: (\d+)$")
"""The last line of torchrun when a signal ends it; its exit status is 1 then, as after a failure."""


class State(enum.Enum):
    """A job's; the value is what a table shows."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    FINISHED = "finished"
    OTHER = "other run"


class Attempt(Part):
    """A start of a job's training: when, on which devices, when it ended, with which exit status, and why.

    ``stopped`` if it was asked to end, by Ctrl-C or by Slurm: its exit status is no failure's then, whatever it is.
    """

    started: datetime
    devices: tuple[str, ...] = ()
    ended: datetime | None = None
    exit_status: int | None = None
    reason: str | None = None
    stopped: bool = False


class JobFile(Part):
    """``job.json``: which training this is, and the attempts at it, the first one first.

    Attributes:
        definition: As :meth:`Job.definition` has it.
        digests: Of the config's and the weights' contents when it was begun; empty in files that know of none.
        attempts: All of them.
    """

    definition: dict[str, object]
    digests: dict[str, str] = Field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class JobState:
    """A job's state, a word about it, its record as far as there is one, and the attempts at it."""

    state: State
    note: str = ""
    record: RunRecord | None = None
    attempts: tuple[Attempt, ...] = ()


def state_of(job: Job, queued: bool = False) -> JobState:
    """Tells a job's state from its work dir.

    Args:
        job: Of a suite.
        queued: Whether Slurm still has it in its queue.
    """
    try:
        file = read_job_file(job.work_dir)
    except UserError as error:
        return JobState(State.OTHER, str(error))
    if file is None:
        if (job.work_dir / RECORD).exists() or any(job.work_dir.glob("*.pth")):
            return JobState(State.OTHER, f"{job.work_dir} holds a run that no suite has started; move it away")
        return JobState(State.QUEUED if queued else State.WAITING)
    then, now = file.definition, job.definition()
    # Settings that are not made may be absent from either: files are older, or the suite says no longer what it said.
    changed = [name for name in now | then if now.get(name) != then.get(name)]
    if changed:
        note = f"{job.work_dir} holds a run with other settings ({', '.join(changed)}); move it away"
        return JobState(State.OTHER, note, attempts=file.attempts)
    newer = False
    try:
        record, note = _record(job.work_dir)
    except NewerRecord as error:
        record, note, newer = None, str(error), True
    if is_held(job.work_dir):
        state = State.RUNNING
    elif edited := [what for what, digest in file.digests.items() if digest_of(job, what) not in (None, digest)]:
        state = State.OTHER
        note = f"{job.work_dir} holds a run from before the {' and the '.join(edited)} changed; move it away"
    elif record is not None and (other := other_data(job, record)):
        state, note = State.OTHER, other
    elif newer:  # a retry would begin it anew
        state = State.OTHER
    elif record is not None and record.status == "finished":
        state = State.FINISHED
    elif queued:
        state = State.QUEUED
    elif not file.attempts:
        state = State.WAITING
    else:
        state, why = _ended(file.attempts[-1])
        # A training that went well leaves no other word than what is wrong with its record.
        note = (note or why) if file.attempts[-1].exit_status == 0 else (why or note)
    return JobState(state, note, record, file.attempts)


def new_job_file(job: Job) -> JobFile:
    """That of a job without attempts."""
    digests = {what: digest for what in CONTENTS if (digest := digest_of(job, what)) is not None}
    return JobFile(definition=job.definition(), digests=digests)


def is_finished(work_dir: Path) -> bool:
    """Whether the record in a work dir says so.

    Raises:
        NewerRecord: Only a newer version knows.
    """
    record, _ = _record(work_dir)
    return record is not None and record.status == "finished"


def _record(work_dir: Path) -> tuple[RunRecord | None, str]:
    if not (work_dir / RECORD).exists():
        return None, ""
    try:
        return read_record(work_dir / RECORD), ""
    except NewerRecord:
        raise
    except UserError as error:
        return None, str(error)


def _ended(attempt: Attempt) -> tuple[State, str]:
    """What an attempt came to that left no finished record."""
    if attempt.ended is None:  # the process that would have said so is gone, too
        return State.INTERRUPTED, ""
    status = attempt.exit_status
    found = _OF_TORCHRUN.search(attempt.reason or "")
    signaled = found is not None and int(found[1]) in _INTERRUPTED
    if attempt.stopped or signaled or status in _STATUSES:
        return State.INTERRUPTED, ""
    return State.FAILED, attempt.reason or f"exit status {status}"


def read_job_file(work_dir: Path) -> JobFile | None:
    """The attempts in a work dir, or None where there were none.

    Raises:
        UserError: The file cannot be read or is none of ours.
    """
    path = work_dir / JOB_FILE
    try:
        return JobFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise UserError(f"{path} is damaged; move {work_dir} away") from error


def write_job_file(file: JobFile, work_dir: Path) -> None:
    """Writes it whole or not at all."""
    write_text(work_dir / JOB_FILE, file.model_dump_json(indent=1) + "\n")


@contextmanager
def held(work_dir: Path, patience: float = 10.0) -> Iterator[int]:
    """Holds a work dir's lock; the system gives it back when the last process that has the descriptor is gone.

    The training inherits the descriptor, so that it still counts as running when what started it was killed.

    Args:
        work_dir: Made if it does not exist.
        patience: Seconds to wait; those who only look hold the lock for a moment.

    Yields:
        The descriptor, to be handed on to the training.

    Raises:
        UserError: Another process holds it, the folder cannot be made, or the file system knows no locks.
    """
    with written_or_said(f"the work dir {work_dir}"):
        work_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        until = time.monotonic() + patience
        while not _lock(descriptor, fcntl.LOCK_EX, work_dir):
            if time.monotonic() > until:
                raise UserError(f"another process is training in {work_dir}.")
            time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(work_dir: Path) -> bool:
    """Whether a process that trains in a work dir lives."""
    try:
        descriptor = os.open(work_dir / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH, work_dir)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, work_dir: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(f"the file system of {work_dir} knows no locks: {error.strerror}.") from error
    return True
