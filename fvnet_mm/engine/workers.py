"""Signals that ask a run to stop, and what its data loaders' workers make of them."""

import os
import signal
import threading

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what schedulers, torchrun and ``kill`` send; and what Slurm sends ahead of a time limit when asked to."""

ORPHANED_FOR = 5.0
"""Seconds for which a worker may outlive its main process."""


def heed_own_process_alone() -> None:
    """Makes a worker ignore signals that ask a run to stop, unless they come from the process that it works for.

    Launchers and terminals send them to all processes alike, and the worker is needed until the step is done. At its
    exit the main process ends with SIGTERM the workers that are left, and waits for them: those must heed it. Where the
    system does not tell who sent a signal (macOS), SIGTERM keeps its meaning. A worker whose main process is gone, as
    after a SIGKILL, ends: it may be held up by a pipe that nobody will read.
    """
    for number in set(STOPPING) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # also of threads that are started from now on
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_when_told(parent: int) -> None:
    while os.getppid() == parent:
        told = signal.sigtimedwait({signal.SIGTERM}, ORPHANED_FOR)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)
