"""Hooks of every run: epochs that can be repeated exactly, metrics that are kept, and a progress bar."""

import atexit
import logging
import sys
from dataclasses import dataclass

import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.data import get_worker_info

from fvnet_mm.engine.seeding import seed_alike, seed_generators
from fvnet_mm.engine.workers import heed_own_process_alone


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seeds a data loader's worker from the seed that torch drew for it (``torch.initial_seed()``).

    mmengine's own gives a worker the same seed in every epoch, and with it the same flips and crops. The worker is also
    kept from heeding the signals that ask a run to stop.
    """
    if get_worker_info() is not None:
        heed_own_process_alone()
    seed_alike(torch.initial_seed() % 2**32, gpus=True)


@HOOKS.register_module()
class ReproducibleEpochHook(Hook):
    """Makes an iteration a function of the weights, the seed, its number and its images alone.

    Then a run that is killed and resumed gives what the uninterrupted run gives. Two things would carry over
    from one to the next otherwise: the state of the random generators, and, from one epoch to the next, gradients
    accumulated but not yet applied (the last, smaller group of an epoch is applied with its own weight instead).
    What is read is the loops' affair: :class:`~fvnet_mm.engine.epochs.ResumableEpochLoop`, whose workers must start
    anew each epoch (``persistent_workers=False``), and :class:`~fvnet_mm.engine.iteration_loop.ResumableIterLoop`.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Runner) -> None:
        seed_generators(runner.seed, runner.epoch, get_rank(), gpus=True)
        if not counts_iterations(runner):
            runner.optim_wrapper.initialize_count_status(runner.model, 0, len(runner.train_dataloader))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        seed_generators(runner.seed, runner.iter, get_rank(), gpus=True)


def counts_iterations(runner: Runner) -> bool:
    """Whether a run's schedule counts iterations, not epochs."""
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def steps_done(runner: Runner) -> int:
    """Epochs that are done, or optimizer steps where the schedule counts iterations, as the first screen says them."""
    if not counts_iterations(runner):
        return runner.epoch
    return runner.iter // (runner.cfg.optim_wrapper.get("accumulative_counts") or 1)


@dataclass(frozen=True)
class LoggedMetrics:
    """An evaluation as it is logged, after so many :func:`steps_done`; a detector that finds nothing has no metrics."""

    step: int
    metrics: dict[str, float]


@HOOKS.register_module()
class EvaluationHistoryHook(Hook):
    """Keeps the metrics of every evaluation of this process.

    Args:
        before_training: Also evaluate the network before its first step.

    Attributes:
        evaluations: The oldest first.
    """

    def __init__(self, before_training: bool = False) -> None:
        self.before_training = before_training
        self.evaluations: list[LoggedMetrics] = []

    def before_train(self, runner: Runner) -> None:
        if self.before_training and runner.iter == 0:
            runner.logger.info("evaluating the untrained network first, to compare with; it may well find nothing")
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.evaluations.append(LoggedMetrics(steps_done(runner), dict(metrics or {})))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.evaluations.append(LoggedMetrics(0, dict(metrics or {})))


@HOOKS.register_module()
class ProgressHook(Hook):
    """A progress bar with the time left, where the output is a terminal; log lines scroll above it."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._training: TaskID | None = None
        self._evaluation: TaskID | None = None
        self._streams: list[tuple[logging.StreamHandler, object]] = []

    def before_run(self, runner: Runner) -> None:
        if not (is_main_process() and sys.stdout.isatty()) or self._progress is not None:
            return
        console = Console(file=sys.stdout)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        for handler in runner.logger.handlers:
            if type(handler) is logging.StreamHandler:
                self._streams.append((handler, handler.setStream(FileProxy(console, sys.stdout))))
        self._progress.start()
        atexit.register(self._stop)  # gives the terminal its cursor back after an error, too

    def before_train(self, runner: Runner) -> None:
        if self._progress is not None:
            total = runner.train_loop.max_iters
            self._training = self._progress.add_task("training", total=total, completed=runner.iter, note="")

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: dict[str, torch.Tensor] | None = None,
    ) -> None:
        if self._progress is not None and self._training is not None:
            note = f"loss {float(outputs['loss']):.3f}" if outputs and "loss" in outputs else ""
            self._progress.update(self._training, completed=runner.iter + 1, note=note)

    def before_val_epoch(self, runner: Runner) -> None:
        self._start_evaluation(len(runner.val_dataloader))

    def before_test_epoch(self, runner: Runner) -> None:
        self._start_evaluation(len(runner.test_dataloader))

    def _start_evaluation(self, total: int) -> None:
        if self._progress is not None:
            self._evaluation = self._progress.add_task("evaluation", total=total, note="")

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: object = None,
    ) -> None:
        if self._progress is not None and self._evaluation is not None:
            self._progress.advance(self._evaluation)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self._progress is not None and self._evaluation is not None:
            self._progress.remove_task(self._evaluation)
            self._evaluation = None

    after_test_epoch = after_val_epoch

    def after_run(self, runner: Runner) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is None:
            return
        self._progress.stop()
        for handler, stream in self._streams:
            handler.setStream(stream)
        self._progress, self._streams = None, []
        atexit.unregister(self._stop)
