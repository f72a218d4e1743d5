"""Signals that ask a training to stop: it ends its optimizer step, writes a checkpoint and its record, and exits."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

from fvnet_mm.engine.agreement import any_process
from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.engine.epochs import position
from fvnet_mm.engine.hooks import counts_iterations
from fvnet_mm.engine.record import RecordHook, current_checkpoint
from fvnet_mm.engine.saving import is_full_disk
from fvnet_mm.engine.workers import STOPPING
from fvnet_mm.errors import Stopped

_SAME_KEYSTROKE = 2.0
"""Seconds within which a second Ctrl-C is the first one, passed on by the launcher."""


class StopSignals:
    """Takes note of the signals that ask a run to stop, so that it stops where it loses nothing.

    While :attr:`heeded` is set, as it is between the first and the last iteration of a training, a signal is noted
    only; at any other time, and at a second Ctrl-C, it ends the run at once with
    :class:`~fvnet_mm.errors.Stopped`. Workers of data loaders that were forked meanwhile ignore all of them: the
    process that they work for decides.

    Attributes:
        received: The first signal, or None.
        heeded: Whether the run looks at :attr:`received` after every optimizer step.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.heeded = False
        self._since = 0.0
        self._process = os.getpid()

    @contextmanager
    def watched(self) -> Iterator["StopSignals"]:
        """Handles the signals until the end of the block."""
        earlier = {number: signal.signal(number, self._take) for number in STOPPING}
        try:
            yield self
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        impatient = number == signal.SIGINT and self.received and time.monotonic() - self._since > _SAME_KEYSTROKE
        if self.received is None:
            self.received, self._since = number, time.monotonic()
        if not self.heeded or impatient:
            raise Stopped(
                number, f"stopped by {name_of(number)}; what was saved before is intact, --resume goes on from it."
            )


def name_of(number: int) -> str:
    """'Ctrl-C', or a signal's name such as 'SIGTERM'."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class StopHook(Hook):
    """Stops a training that was asked to: after an optimizer step with a checkpoint, or in the midst of an evaluation.

    A checkpoint holds no gradients, so the passes that are accumulated are brought to their step first. One within an
    epoch is called ``epoch_2_iter_17.pth``: two epochs and the first 17 iterations of the third (see
    :class:`~fvnet_mm.engine.epochs.ResumableEpochLoop`). An evaluation changes nothing and is made up for when the
    run goes on (:class:`~fvnet_mm.engine.resuming.OwedEvaluationHook`).

    All processes of a distributed run stop at the same step if one of them is asked.

    Args:
        signals: Those of this process.
        record: The run's, brought up to date before the run ends.
    """

    priority = "LOWEST"

    def __init__(self, signals: StopSignals, record: RecordHook) -> None:
        self.signals = signals
        self.record = record

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self.signals.heeded = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        if not runner.optim_wrapper.should_update():  # its count has moved on: whether the optimizer just stepped
            return
        ends_epoch = not counts_iterations(runner) and batch_idx + 1 == len(runner.train_dataloader)
        if not ends_epoch and any_process(self.signals.received is not None):
            checkpoint = f"iter_{runner.iter + 1}.pth"
            if not counts_iterations(runner):
                checkpoint = f"epoch_{runner.epoch}_iter_{batch_idx + 1}.pth"
            place = position(runner, batch_idx + 1)
            saved = self._save(runner, checkpoint, dict(epoch=runner.epoch, iter=runner.iter + 1, **place))
            barrier()  # the launcher ends all processes when the first is gone
            self._stop(saved)

    def after_train_epoch(self, runner: Runner) -> None:
        if counts_iterations(runner) or not any_process(self.signals.received is not None):
            return
        checkpoint = f"epoch_{runner.epoch + 1}.pth"
        saved = self._save(runner, checkpoint, dict(epoch=runner.epoch + 1, iter=runner.iter))
        barrier()
        self._stop(saved)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: object = None
    ) -> None:
        if self.signals.received is not None and self.signals.heeded:
            checkpoint = current_checkpoint(runner)
            self.record.interrupted()
            self._stop(checkpoint.name if checkpoint else "the last checkpoint")

    def after_train(self, runner: Runner) -> None:
        self.signals.heeded = False

    def _save(self, runner: Runner, checkpoint: str, meta: dict[str, int]) -> str:
        """Writes a checkpoint, unless the schedule has just had it written, and the record.

        Returns:
            The checkpoint that the run can go on from: an earlier one where the disk is full and the run goes on.
        """
        scheduled = [hook.last_ckpt for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        if checkpoint not in {Path(written or "").name for written in scheduled}:
            try:
                runner.save_checkpoint(runner.work_dir, checkpoint, meta=meta, backend_args=dict(backend="atomic"))
            except OSError as error:
                if not (self.record.tolerates_full_disk and is_full_disk(error)):
                    raise
                runner.logger.warning(f"the disk of {runner.work_dir} is full: stopping without {checkpoint}")
                newest, _ = newest_checkpoint(Path(runner.work_dir))
                checkpoint = newest.name if newest else "the beginning"
        self.record.interrupted()
        return checkpoint

    def _stop(self, checkpoint: str) -> None:
        number = self.signals.received or signal.SIGTERM
        sentence = f"stopped by {name_of(number)}; --resume goes on from {checkpoint}." if is_main_process() else ""
        raise Stopped(number, sentence)
