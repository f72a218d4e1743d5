"""Ends a distributed training in which a process hangs, and says which and where.

Processes that exchange gradients wait for each other, so that when one hangs all stand still, and the collective's own
timeout, when it comes, names a process that waited. Here every process has a thread that tells the others how far its
training is and, when it stands still, in which line.
"""

import json
import os
import platform
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

RANK_TIMEOUT = 600.0
"""Seconds that an iteration may take, where the config's ``env_cfg.rank_timeout`` says nothing else."""

EXIT_STATUS = 70
"""Exit status of a process that was ended because one hangs."""

_PARTS_THAT_WAIT = (f"torch{os.sep}distributed", f"torch{os.sep}autograd", f"mmengine{os.sep}dist", "agreement.py")
"""Where the innermost lines of a process stand that waits for the others."""


class WatchdogHook(Hook):
    """Watches the iterations of a distributed training and of its evaluations.

    Args:
        timeout: Seconds without an iteration after which a run counts as hanging.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._watchdog: Watchdog | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        if self._watchdog is None and get_world_size() > 1:
            self._watchdog = Watchdog(self.timeout)
        self._at(f"iteration {runner.iter + 1}")

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self._at(f"evaluation, batch {batch_idx + 1}")

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: object = None
    ) -> None:
        if batch_idx + 1 == len(runner.val_dataloader):
            self._at(None)  # the metrics, which the main process computes while the others wait

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._at(None)  # a slow disk is no hang; the main process alone saves, and the others wait for it

    def after_train(self, runner: Runner) -> None:
        if self._watchdog is not None:
            self._watchdog.ended.set()

    def _at(self, place: str | None) -> None:
        if self._watchdog is not None:
            self._watchdog.place, self._watchdog.since = place, time.monotonic()


class Watchdog:
    """The thread of one process, which ends with it.

    Attributes:
        place: What the process is at; None while nothing is watched.
        since: When it came there, on this process's monotonic clock.
        ended: Set to end the thread.
        thread: The thread itself.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.place: str | None = None
        self.since = time.monotonic()
        self.ended = threading.Event()
        self._main = threading.main_thread().ident
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        # A connection of its own: the process group's is held by whoever waits on it.
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=30),
        )
        self._store = dist.PrefixStore(f"fvnet_mm/watchdog/{attempt}", store)
        self._seen: dict[int, tuple[str, float]] = {}
        self._tell(None, 0.0)  # whoever falls silent before the thread's first round has a name
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        period = min(self.timeout / 10, 5.0)
        while not self.ended.wait(period):
            place, age = self.place, time.monotonic() - self.since
            try:
                self._tell(place, age)
                states = self._listen()
                if _waited_for(states, 3 * period):
                    self.since = time.monotonic()
                    continue
                verdict = self._verdict(states, place, age, 3 * period)
            except RuntimeError as error:  # torch.distributed.DistError, and what older releases raise
                verdict = f"rank 0 or the launcher, where the processes meet, does not answer ({error!s:.80})"
            if place is not None and age > self.timeout:
                _end(verdict)

    def _tell(self, place: str | None, age: float) -> None:
        frames = traceback.extract_stack(sys._current_frames()[self._main])
        words = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-3:]]
        state = dict(
            now=time.time(),
            host=platform.node(),
            pid=os.getpid(),
            place=place,
            age=age,
            lines=" > ".join(words),
            waits=any(part in frames[-1].filename for part in _PARTS_THAT_WAIT),
        )
        self._store.set(str(get_rank()), json.dumps(state))

    def _listen(self) -> dict[int, tuple[dict, float]]:
        """What every process said last, and how many seconds ago this one heard it."""
        states = {}
        for rank in range(get_world_size()):
            text = self._store.get(str(rank)).decode() if self._store.check([str(rank)]) else "{}"
            if self._seen.get(rank, ("", 0.0))[0] != text:
                self._seen[rank] = (text, time.monotonic())
            states[rank] = (json.loads(text), time.monotonic() - self._seen[rank][1])
        return states

    def _verdict(self, states: dict[int, tuple[dict, float]], place: str | None, age: float, silence: float) -> str:
        silent = {rank: state for rank, (state, quiet) in states.items() if quiet > silence}
        busy = {rank: state for rank, (state, _) in states.items() if rank not in silent and not state.get("waits")}
        culprits = silent or busy
        if not culprits:
            return f"all processes have waited for each other at {place} for {age:.0f} s"
        words = []
        for rank, state in culprits.items():
            who = f"rank {rank} (process {state.get('pid', 'unknown')} on {state.get('host', 'unknown')})"
            where = f"last seen in {state.get('lines', 'no line')}"
            words.append(
                f"{who} does not answer, {where}" if rank in silent else f"{who} is in {state.get('lines', 'no line')}"
            )
        return f"{'; '.join(words)}; the other processes have waited at {place} for {age:.0f} s"


def _waited_for(states: dict[int, tuple[dict, float]], silence: float) -> bool:
    """Whether a process that answers is at something that may take its time, such as a checkpoint, or metrics."""
    return any(
        quiet <= silence and state.get("place", "") is None and not state["waits"] for state, quiet in states.values()
    )


def _end(sentence: str) -> None:
    """Ends this process from whatever thread; the main one cannot be reached where it waits."""
    print(f"error: the training hangs: {sentence}.", file=sys.stderr, flush=True)
    os._exit(EXIT_STATUS)
