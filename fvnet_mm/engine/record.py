"""The hook that writes a run's record."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner

from fvnet_mm.engine.coco_metric import FullCocoMetric
from fvnet_mm.engine.earlier_record import (
    continued_protocol,
    inherited_fields,
    is_kept,
    record_of_training,
    resumed_record,
)
from fvnet_mm.engine.hooks import counts_iterations, steps_done
from fvnet_mm.engine.iou_metric import ConfusionIoUMetric
from fvnet_mm.engine.results import result_of
from fvnet_mm.engine.run_facts import (
    command_line,
    describe_backbone,
    describe_complexity,
    describe_data,
    describe_environment,
    describe_teacher,
    describe_weights,
    digest_of_data,
    evaluates_one_size,
    pretraining,
    taught_by,
    trunk_settings,
)
from fvnet_mm.engine.saving import RunCheckpointHook, is_full_disk
from fvnet_mm.engine.tasks import DataSource
from fvnet_mm.files import sha256_of
from fvnet_mm.records import Complexity, Config, Evaluation, Protocol, RunRecord, Times
from fvnet_mm.records.from_config import fields_of_test, fields_of_training, framework_of, task_of
from fvnet_mm.records.reading import RECORD, TEST_RECORD, write_record


class RecordHook(Hook):
    """Writes the record of a run into its work dir: at the start, after every evaluation and at the end.

    A training's is ``run.json``. So is a test's, unless a training's is there: then it is ``test.json``. A test of a
    checkpoint whose training has a record beside it takes over what that says of the training. A resumed training
    goes on with its record. Only the main process writes, and every time the whole file or nothing.

    Args:
        data: What the run reads.
        predictions: Where in the work dir those of an evaluation are: a folder, or files with suffixes added.
        resumed: Checkpoint from which a training goes on.
        tested: Checkpoint that a test is of; None for a training.
    """

    def __init__(
        self, data: DataSource, predictions: str, resumed: Path | None = None, tested: Path | None = None
    ) -> None:
        self.data = data
        self.predictions = predictions
        self.resumed = resumed
        self.tested = tested
        self.tolerates_full_disk = False
        self._record: RunRecord | None = None
        self._file = Path()
        self._training = False
        self._counted = False
        self._clock = 0.0

    def before_train(self, runner: Runner) -> None:
        saving = [hook for hook in runner.hooks if isinstance(hook, RunCheckpointHook)]
        self.tolerates_full_disk = any(hook.on_full_disk == "go-on" for hook in saving)
        if is_main_process():
            self._begin(runner, "train")
            self._training, self._clock = True, time.monotonic()

    def before_test(self, runner: Runner) -> None:
        if is_main_process():
            self._begin(runner, "test")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        # mmengine's logger resets torch's statistics after this.
        if self._record is not None and torch.cuda.is_available():
            self._note_memory()

    def before_val_epoch(self, runner: Runner) -> None:
        if self._record is not None:
            self._note_training_time()

    before_test_epoch = before_val_epoch

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self._record is not None:
            self._evaluated(runner, runner.val_loop, metrics or {})

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self._record is not None:
            self._evaluated(runner, runner.test_loop, metrics or {})

    def after_run(self, runner: Runner) -> None:
        if self._record is None:
            return
        self._note_training_time()
        self._training = False
        checkpoint = self.tested or current_checkpoint(runner)
        if checkpoint is not None:
            self._set(checkpoint=str(self.tested or checkpoint.name), checkpoint_sha256=sha256_of(checkpoint))
        self._set(status="finished")
        self._write()

    def interrupted(self) -> None:
        """Brings the record of a training up to date before it ends early."""
        if self._record is not None:
            self._note_training_time()
            self._write()

    def lacks_evaluation(self, runner: Runner) -> bool:
        """Whether the record says nothing of an evaluation of the training's present state."""
        return self._record is not None and steps_done(runner) not in {done.step for done in self._record.evaluations}

    def _begin(self, runner: Runner, origin: str) -> None:
        cfg, settings = runner.cfg, runner.cfg.to_dict()
        folder = Path(runner.work_dir)
        self._file = folder / RECORD
        data = describe_data(self.data)
        loader = "val_dataloader" if origin == "train" else "test_dataloader"
        fields = fields_of_test(settings, loader, evaluates_one_size(self.data))
        earlier = trained = None
        if origin == "train":
            fields |= fields_of_training(settings, runner.world_size) | trunk_settings(runner.model)
            fields |= dict(data=digest_of_data(data), pretraining=pretraining(cfg))
            if isinstance(fields["frozen_stages"], str):
                runner.logger.warning(
                    f"the trunk trains nothing in {fields['frozen_stages']:.200}, and no frozen_stages of it says so: "
                    "its runs share a table only with those that freeze parts of these names"
                )
            earlier = resumed_record(self.resumed)
        else:
            trained = record_of_training(self.tested)
            if trained is not None:
                fields |= inherited_fields(trained, data)
            if is_kept(self._file):
                self._file = folder / TEST_RECORD
        known = earlier or trained
        weights = known.weights if known else describe_weights(runner.model, runner.fine_tuned_from)
        first = next((part for part in weights if part.part == "teacher"), None)
        # A training that is resumed may have another one than it began with.
        teacher = describe_teacher(runner.model) if origin == "train" else first
        if teacher is not None and first is None:
            weights = (*weights, teacher)
        if teacher is not None and fields["model"] is not None:
            fields["model"] += taught_by(teacher.sha256)
        before = earlier.evaluations if earlier else ()
        evaluations = tuple(evaluation for evaluation in before if evaluation.step <= steps_done(runner))
        self._record = RunRecord(
            origin=origin,
            status="running",
            task=task_of(settings),
            framework=framework_of(settings["model"]),
            config=_config(runner, folder if origin == "train" else Path(runner.log_dir)),
            backbone=describe_backbone(cfg),
            command=command_line(),
            seed=runner.seed if origin == "train" else trained.seed if trained else None,
            protocol=Protocol(**fields),
            data=data,
            weights=weights,
            checkpoint=str(self.tested) if self.tested else None,
            complexity=earlier.complexity if earlier else None,
            environment=describe_environment().model_copy(update=_batch(runner) if origin == "train" else {}),
            times=earlier.times if earlier else Times(started=datetime.now(timezone.utc)),
            unit=earlier.unit if earlier else "step" if origin == "train" and counts_iterations(runner) else "epoch",
            evaluations=evaluations,
            result=earlier.result if earlier and evaluations == earlier.evaluations else None,
        )
        if earlier is not None:
            self._set(protocol=continued_protocol(earlier, self._record))
        self._write()

    def _complexity(self, runner: Runner) -> Complexity | None:
        try:
            return describe_complexity(runner.cfg)
        except Exception as error:  # whatever a foreign model says to it, its evaluation counts for more
            runner.logger.warning(f"the record says nothing of parameters and MACs, as the model resists: {error}")
            return None

    def _evaluated(self, runner: Runner, loop: BaseLoop, logged: Mapping[str, float]) -> None:
        self._note_time("evaluation_seconds")
        metrics = loop.evaluator.metrics
        coco = [metric.result for metric in metrics if isinstance(metric, FullCocoMetric)]
        confusion = [metric.confusion for metric in metrics if isinstance(metric, ConfusionIoUMetric)]
        folder = Path(runner.work_dir)
        # Labels from 0 would stand in the files as they are, and 0 is what the record's readers leave out.
        kept = getattr(loop.dataloader.dataset, "reduce_zero_label", True)
        place = folder / self.predictions if kept else None
        result = result_of(logged, (coco or confusion or [None])[0], self.data.folder, place, folder)
        step = 0 if self.tested else steps_done(runner)
        before = tuple(evaluation for evaluation in self._record.evaluations if evaluation.step < step)
        if self._record.complexity is None and not self._counted:  # not at the start, which seconds would delay
            self._counted = True
            self._set(complexity=self._complexity(runner))
            self._clock = time.monotonic()
        self._set(evaluations=(*before, Evaluation(step=step, metrics=result.metrics)), result=result)
        if torch.cuda.is_available():  # the next iteration's peak is to be the training's
            torch.cuda.reset_peak_memory_stats()
        if not self.tested:  # the former's name would stand beside figures that are not its
            checkpoint = current_checkpoint(runner)
            self._set(checkpoint=checkpoint.name if checkpoint is not None else None, checkpoint_sha256=None)
        self._write()

    def _note_training_time(self) -> None:
        if self._training:
            self._note_time("training_seconds")
        self._clock = time.monotonic()

    def _note_time(self, field: str) -> None:
        """Adds the time since the last note."""
        now, times = time.monotonic(), self._record.times
        self._set(times=times.model_copy(update={field: (getattr(times, field) or 0.0) + now - self._clock}))
        self._clock = now

    def _note_memory(self) -> None:
        peak, times = torch.cuda.max_memory_allocated(), self._record.times
        if peak > (times.peak_memory or 0):
            self._set(times=times.model_copy(update=dict(peak_memory=peak)))

    def _set(self, **fields: object) -> None:
        self._record = self._record.model_copy(update=fields)

    def _write(self) -> None:
        self._set(times=self._record.times.model_copy(update=dict(updated=datetime.now(timezone.utc))))
        try:
            write_record(self._record, self._file)
        except OSError as error:
            if not (self.tolerates_full_disk and is_full_disk(error)):
                raise
            print_log(f"the disk is full: {self._file} stays as it was ({error.strerror})", "current", logging.WARNING)


def current_checkpoint(runner: Runner) -> Path | None:
    """The checkpoint of a training's present state, if it was written."""
    name = f"iter_{runner.iter}.pth" if counts_iterations(runner) else f"epoch_{runner.epoch}.pth"
    path = Path(runner.work_dir, name)
    return path if path.is_file() else None


def _batch(runner: Runner) -> dict[str, int]:
    """How the effective batch of a training comes about."""
    return dict(
        images_per_device=runner.cfg.train_dataloader.batch_size,
        accumulation=runner.cfg.optim_wrapper.get("accumulative_counts") or 1,
    )


def _config(runner: Runner, folder: Path) -> Config:
    name = runner.cfg.get("config_name") or Path(runner.cfg.filename or runner.timestamp).stem
    file = folder / f"{name}.py"
    if not file.is_file():
        return Config(name=name)
    return Config(name=name, file=file.relative_to(runner.work_dir).as_posix(), sha256=sha256_of(file))
