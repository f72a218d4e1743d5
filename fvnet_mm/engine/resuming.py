"""Going on with a run: whether to, from which weights, whether it is the same run, and what it still owes."""

import argparse
import os
import platform
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fvnet_mm.engine.agreement import decided_by_main
from fvnet_mm.engine.checkpoint import newest_checkpoint, numbered_checkpoints, remove_checkpoint
from fvnet_mm.engine.data_source import demo_folder
from fvnet_mm.engine.download import locate
from fvnet_mm.engine.earlier_record import set_aside
from fvnet_mm.engine.hooks import counts_iterations
from fvnet_mm.engine.record import RecordHook
from fvnet_mm.engine.run_facts import (
    changes_of_trunk,
    describe_backbone,
    describe_data,
    digest_of_data,
    evaluates_one_size,
    taught_by,
)
from fvnet_mm.engine.tasks import DataSource
from fvnet_mm.engine.weights import fetch_pretrained, remove_pretrained
from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of
from fvnet_mm.records import Environment, RunRecord
from fvnet_mm.records.from_config import fields_of_test, fields_of_training
from fvnet_mm.records.reading import RECORD, TEST_RECORD, NewerRecord, read_record

_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""Where torchrun and Slurm say how often they have started this run again."""


def resumption(wanted: str | None, work_dir: Path) -> str | None:
    """What ``--resume`` amounts to: 'auto' in a run that its launcher has started again and that has a checkpoint.

    Args:
        wanted: What the flag was given: a checkpoint, a folder, 'auto', or None where it is absent.
        work_dir: Folder of the run.
    """
    again = any(int(os.environ.get(name) or 0) > 0 for name in _RESTARTS)
    if not again:
        return wanted
    return "auto" if wanted is None or newest_checkpoint(work_dir)[0] else wanted


def refuse_other_run(work_dir: Path, arguments: argparse.Namespace) -> list[str]:
    """Keeps a run from being written over; a demo may write over a demo.

    The record of a test, or one that cannot be read, makes room for the training's; what is said of that is returned.
    For the main process alone.

    Raises:
        UserError: The work dir holds a run that nobody asked to resume, or figures whose checkpoints are gone.
    """
    if arguments.demo and arguments.resume is None and demo_folder(work_dir).is_dir():
        for path in numbered_checkpoints(work_dir):
            remove_checkpoint(path)
        return []
    newest, _ = newest_checkpoint(work_dir)
    if newest is not None and arguments.resume is None:
        raise UserError(
            f"{work_dir} already holds a run ({newest.name}); go on with it with --resume, "
            "or choose another folder with --work-dir."
        )
    file = work_dir / RECORD
    if newest is not None or not file.exists():
        return []
    try:
        record = read_record(file)
    except NewerRecord:
        raise
    except UserError as error:
        return [f"{error} That file is {set_aside(file)} now."]
    if record.origin == "test":
        file.replace(work_dir / TEST_RECORD)
        return [f"{file} was a test's and is {work_dir / TEST_RECORD} now"]
    # Of a run that did not end nothing more can come: with --resume it begins anew.
    if record.status == "finished" or (record.evaluations and arguments.resume is None):
        raise UserError(
            f"{file} has the figures of a run whose checkpoints are gone; it would be written over. Choose another "
            "folder with --work-dir, or move it away."
        )
    return []


def choose_weights(cfg: Config, wanted: str | None) -> tuple[list[str], Path | None]:
    """Settles which weights the run starts from: what to say of them, and the checkpoint if one is resumed.

    Args:
        cfg: Keeps what the run begins with, resumed or not, so that its dump reproduces the whole run.
        wanted: What ``--resume`` was given: a checkpoint, the folder of a run, 'auto' for the work dir, or None
            where the flag is absent.

    Raises:
        UserError: A folder is named that has no intact checkpoint, or a checkpoint beside whose run the work dir holds
            another one, or a later state of it; or a process does not see the checkpoint that the main one has found.
    """
    notes, checkpoint = decided_by_main(lambda: _find_checkpoint(Path(cfg.work_dir), wanted))
    if checkpoint is not None and not checkpoint.is_file() and not is_main_process():
        raise UserError(
            f"process {get_rank()} on {platform.node()} does not see {checkpoint.absolute()}, from which the main one "
            "resumes; the work dir must be a folder that all nodes share."
        )
    cfg.resume = False
    if cfg.get("load_from"):
        remove_pretrained(cfg.model)  # they would be overwritten
    if checkpoint is not None:
        return [*notes, f"resumed from {checkpoint}"], checkpoint
    if wanted is not None:
        notes.append(f"nothing to resume in {cfg.work_dir if wanted == 'auto' else wanted}")
    if cfg.get("load_from"):
        return [*notes, f"fine-tuned from {cfg.load_from}"], None
    initial = fetch_pretrained(cfg.model)
    return [*notes, *(initial or ["from scratch"])], None


def _find_checkpoint(work_dir: Path, wanted: str | None) -> tuple[list[str], Path | None]:
    """The checkpoint that is resumed, and what to say of those passed over."""
    notes: list[str] = []
    checkpoint = None
    folder = work_dir if wanted == "auto" else Path(wanted or "")
    if wanted is not None and folder.is_dir():
        checkpoint, damaged = newest_checkpoint(folder)
        notes = [f"{path.name} {fault}: passed over" for path, fault in damaged]
        if checkpoint is None and wanted != "auto":
            raise UserError(f"--resume {wanted}: there is no intact checkpoint (epoch_*.pth or iter_*.pth) in it.")
    elif wanted not in (None, "auto"):
        checkpoint = folder
    if checkpoint is not None and wanted != "auto":
        _refuse_later_checkpoint(checkpoint, work_dir)
    return notes, checkpoint


def _refuse_later_checkpoint(checkpoint: Path, work_dir: Path) -> None:
    """Keeps checkpoints from being left behind that a later ``--resume`` would take for the newest of this run."""
    newest, _ = newest_checkpoint(work_dir)
    if newest is None:
        return
    newest_first = [path.resolve() for path in numbered_checkpoints(work_dir)]
    resumed = checkpoint.resolve()
    if resumed not in newest_first or newest_first.index(newest.resolve()) < newest_first.index(resumed):
        what = "a later checkpoint" if resumed.parent == work_dir.resolve() else "a run of its own"
        raise UserError(
            f"--resume {checkpoint}: the work dir {work_dir} holds {what} ({newest.name}), which would be taken for "
            "this run's; move it away, or choose another folder with --work-dir."
        )


def refuse_changes(cfg: Config, checkpoint: Path, data: DataSource, world_size: int, other_config: bool) -> None:
    """Keeps a run from going on as another than it began.

    Args:
        cfg: The resolved config of this start; without a seed it gets the run's.
        checkpoint: What would be resumed; a record that is readable and of a training beside it says how it began.
        data: What this start reads.
        world_size: Number of processes, whose batches are part of the protocol.
        other_config: Whether trunk, data and the rest of the protocol may be others.

    Raises:
        UserError: An iteration, which schedules and checkpoints count, would be of more or fewer images; or the seed is
            another; or trunk, data or protocol are others that may not be; or a newer fvnet_mm has written the record.
    """
    try:
        record = read_record(checkpoint.parent / RECORD)
    except NewerRecord:
        raise
    except UserError:  # the record hook says so and begins a new one
        return
    if record.origin != "train":
        return
    _refuse_other_iterations(cfg, checkpoint, world_size, record.environment)
    _settle_seed(cfg, checkpoint, record.seed)
    if not other_config:
        _refuse_other_config(cfg, checkpoint, data, world_size, record)


def _refuse_other_iterations(cfg: Config, checkpoint: Path, world_size: int, began: Environment) -> None:
    if not began.images_per_device:
        return
    then, now = began.images_per_device * began.world_size, cfg.train_dataloader.batch_size * world_size
    if then != now:
        raise UserError(
            f"{checkpoint.parent} holds a run of {then} images per iteration, and this start has {now}: schedules and "
            "checkpoints count iterations. Resume it with as many (train_dataloader.batch_size times processes), or "
            f"begin anew in another --work-dir, from its weights with --cfg-options load_from={checkpoint}."
        )


def _settle_seed(cfg: Config, checkpoint: Path, began: int | None) -> None:
    """What reads the data takes the config's seed, and all else the checkpoint's."""
    randomness = cfg.get("randomness") or {}
    now = randomness.get("seed")
    if began is None or now == began:
        return
    if now is not None:
        raise UserError(
            f"{checkpoint.parent} holds a run of seed {began}, and this start has seed {now}; resume it with --seed "
            f"{began}, or choose another folder with --work-dir."
        )
    cfg.randomness = dict(randomness, seed=began)


def _refuse_other_config(cfg: Config, checkpoint: Path, data: DataSource, world_size: int, record: RunRecord) -> None:
    settings = cfg.to_dict()
    test = fields_of_test(settings, "val_dataloader", evaluates_one_size(data))
    now = fields_of_training(settings, world_size) | test
    digest = [digest_of_data(describe_data(data)) if is_main_process() else None]  # large folders take their time
    broadcast_object_list(digest)
    now["data"] = digest[0]
    if (cfg.model.get("teacher") or {}).get("checkpoint"):
        now["model"] += taught_by(sha256_of(locate(cfg.model.teacher.checkpoint)))
    then = record.protocol.model_dump()
    # What is None was changed when the run was resumed before, and stays unknown whatever it is now.
    changes = {name: (then[name], value) for name, value in now.items() if then[name] not in (None, value)}
    changes = changes_of_trunk(record.backbone, describe_backbone(cfg)) | changes
    if changes:
        first = "; ".join(f"{name.replace('_', ' ')} {old} then and {new} now" for name, (old, new) in changes.items())
        raise UserError(
            f"{checkpoint.parent} holds a run of another config, {record.config.name}: {first:.400}. Resume it with "
            "the config and the options that it began with, choose another folder with --work-dir, or go on regardless "
            "with --resume-other-config."
        )


class OwedEvaluationHook(Hook):
    """Makes up for the evaluation that was due when a run ended, before a resumed training goes on.

    A checkpoint is written before its evaluation, so a run that is killed between the two has no figures of it.

    Args:
        record: The run's, which knows the evaluations that are done.
    """

    priority = "LOW"  # after the record has begun

    def __init__(self, record: RecordHook) -> None:
        self.record = record

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if counts_iterations(runner):
            done, last, whole = loop.iter, loop.max_iters, True
        else:
            done, last = loop.epoch, loop.max_epochs
            whole = loop.iter == loop.epoch * len(loop.dataloader)
        due = whole and done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)
        if not due or done == 0 or runner.val_loop is None:
            return
        answer = [self.record.lacks_evaluation(runner)]
        broadcast_object_list(answer)  # the record is the main process's
        if answer[0]:
            runner.logger.info(f"making up for the evaluation of {Path(runner._load_from).name}")
            runner.val_loop.run()
