"""Signals that ask a run to stop, and what its data loaders' workers make of them."""

import os
import signal
import threading

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what schedulers, torchrun and ``kill`` send; and what Slurm sends ahead of a time limit when asked to."""


def heed_own_process_alone() -> None:
    """Makes a worker ignore signals that ask a run to stop, unless they come from the process that it works for.

    Launchers and terminals send them to all processes alike, and the worker is needed until the step is done. At its
    exit the main process ends with SIGTERM the workers that are left, and waits for them: those must heed it. Where the
    system does not tell who sent a signal (macOS), SIGTERM keeps its meaning.
    """
    for number in set(STOPPING) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # also of threads that are started from now on
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_when_told(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
