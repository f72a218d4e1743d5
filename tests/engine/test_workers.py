"""Workers outlive the signals of others, and never the process that they work for."""

import os
import signal
import subprocess
import sys
import time

HOLDS_ITS_WORKER = """
import os
import torch
from torch.utils.data import DataLoader
from fvnet_mm.engine.hooks import seed_worker

class Pids(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        return os.getpid()

loader = DataLoader(Pids(), num_workers=1, persistent_workers=True, worker_init_fn=seed_worker)
batches = iter(loader)
batches.itself = batches  # no reference count ends it
print(int(next(batches)), flush=True)
input()
for _ in range(20):
    assert len(next(batches))
print("served", flush=True)
"""


def test_a_worker_ends_with_a_process_that_was_killed() -> None:
    """Its output, which the worker holds open, is at its end only then."""
    command = [sys.executable, "-c", HOLDS_ITS_WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        process.kill()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)
            raise


def test_a_signal_of_another_process_is_ignored_and_the_parents_exit_is_not() -> None:
    command = [sys.executable, "-c", HOLDS_ITS_WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(worker, number)
        time.sleep(0.2)
        try:
            out, _ = process.communicate("\n", timeout=60)
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)  # the process waits for it
            raise
    assert out == "served\n"
    assert process.returncode == 0
