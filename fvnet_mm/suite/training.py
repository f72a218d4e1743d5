"""What the engine runs for a job: ``tools/train.py`` as a process of its own, with an account of how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from submitit.helpers import Checkpointable, DelayedSubmission

from fvnet_mm.places import ROOT
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.state import LOG_FILE, Attempt, held, is_finished, new_job_file, read_job_file, write_job_file

_GRACE = 60.0
"""Seconds that a training has for its last checkpoint after SIGTERM."""

_POLL = 0.2
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Training(Checkpointable):
    """Trains a job and writes ``job.json``. Where it has been begun it goes on from the newest checkpoint.

    submitit pickles it, and submits it once more when Slurm preempts it or its time is up.

    Attributes:
        job: What to train.
        threads: Of each process; None for torch's own choice.
        gpus: Processes, with a GPU each; 0 for one process on the CPU.
        devices: Numbers of the GPUs; None for those that are visible, as in a job of Slurm.
        tool: What trains; takes the flags of ``tools/train.py``.
    """

    job: Job
    threads: int | None = None
    gpus: int = 0
    devices: tuple[str, ...] | None = None
    tool: Path = ROOT / "tools" / "train.py"
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _asked: bool = field(default=False, init=False, repr=False)
    _stopped: bool = field(default=False, init=False, repr=False)

    def __call__(self) -> int:
        """Returns the exit status of the training."""
        if self.devices is not None:
            self._heed_the_driver()
        with held(self.job.work_dir) as lock:
            if is_finished(self.job.work_dir):  # by an earlier submission of the same job
                return 0
            file = read_job_file(self.job.work_dir) or new_job_file(self.job)
            attempt = Attempt(started=datetime.now(timezone.utc), devices=self.devices or ())
            write_job_file(file.model_copy(update=dict(attempts=(*file.attempts, attempt))), self.job.work_dir)
            with (self.job.work_dir / LOG_FILE).open("ab") as log:
                begin = log.seek(0, os.SEEK_END)
                # A session of its own: Ctrl-C in the driver's terminal reaches it as one SIGTERM, by _stop.
                process = self._process = subprocess.Popen(
                    self.command(resume=bool(file.attempts)),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env=self._environment(),
                    pass_fds=(lock,),
                    start_new_session=True,
                )
                try:
                    while process.poll() is None and not self._asked:
                        time.sleep(_POLL)
                finally:
                    self._stop()
                    status = process.returncode
                    failed = status and not self._stopped
                    why = reason(self.job.work_dir / LOG_FILE, begin, status) if failed else None
                    how = dict(ended=datetime.now(timezone.utc), exit_status=status, reason=why, stopped=self._stopped)
                    ended = attempt.model_copy(update=how)
                    write_job_file(file.model_copy(update=dict(attempts=(*file.attempts, ended))), self.job.work_dir)
        return status

    def command(self, resume: bool) -> list[str]:
        """What a user would type."""
        config, *flags = self.job.words()
        start = [sys.executable]
        if self.gpus > 1:
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(self.gpus)]
            flags = ["--launcher", "pytorch", *flags]
        return [*start, str(self.tool), config, *(["--resume"] if resume else []), *flags]

    def checkpoint(self) -> DelayedSubmission:
        """Ends the training with a checkpoint, and says how to go on; submitit calls it before it requeues the job."""
        self._stop()
        return DelayedSubmission(replace(self))

    __submitit_checkpoint__ = checkpoint  # what newer releases of submitit call it

    def _heed_the_driver(self) -> None:
        """Lets SIGTERM and SIGINT end the training, however often they come. On Slurm both are left to submitit."""

        def ask(number: int, frame: FrameType | None) -> None:
            self._asked = True

        signal.signal(signal.SIGTERM, ask)
        signal.signal(signal.SIGINT, ask)
        # The driver starts submitit's processes with SIGINT blocked; the training shall not inherit that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._stopped = True
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _GRACE
        # Not process.wait(): this may run in a signal's handler, within the same thread's poll().
        while process.poll() is None and time.monotonic() < until:
            time.sleep(_POLL)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _environment(self) -> dict[str, str]:
        environment = os.environ | threads_environment(self.threads)
        if self.devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.devices)
        return environment


def threads_environment(threads: int | None) -> dict[str, str]:
    """What tells numerical libraries how many threads a process may have."""
    return dict.fromkeys(_THREADS, str(threads)) if threads is not None else {}


def reason(log: Path, begin: int, status: int) -> str:
    """Why a training failed: its sentence, the last line that it wrote, or the signal that killed it."""
    if status < 0:
        hint = ", as the system does when memory is short" if status == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-status).name}{hint}"
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - 65536))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    sentences = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return [*lines[-1:], *sentences][-1] if lines else f"exit status {status}"
