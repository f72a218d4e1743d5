"""Training and testing from a parsed command line: config, data, checks, run."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, init_dist, is_main_process
from mmengine.registry import RUNNERS

from fvnet_mm.engine.acceleration import accelerate
from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.engine.config import load_config
from fvnet_mm.engine.config_file import apply_overrides, sync_batch_norm_off
from fvnet_mm.engine.data_source import demo_folder, select_data
from fvnet_mm.engine.download import locate
from fvnet_mm.engine.environment import untested_versions
from fvnet_mm.engine.hooks import Evaluation, EvaluationHistoryHook, counts_iterations
from fvnet_mm.engine.precision import enable_amp
from fvnet_mm.engine.record import RecordHook, current_checkpoint
from fvnet_mm.engine.runner import SuiteRunner, building
from fvnet_mm.engine.summary import start_screen
from fvnet_mm.engine.tasks import DataSource, task_of
from fvnet_mm.engine.weights import fetch_pretrained, remove_pretrained
from fvnet_mm.errors import UserError

PREDICTIONS = "predictions/val"
"""Where in the work dir the predictions of the last evaluation are: a folder, or files with suffixes added."""

TEST_PREDICTIONS = "predictions/test"
"""The same of a test, which may run in the work dir of the training."""


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves behind, for pictures and the closing lines.

    Attributes:
        work_dir: Folder of the run.
        log_file: The log of this process.
        data: What it ran on.
        evaluations: Those of this process, the oldest first.
        unit: What their steps count: 'epoch' or 'iteration'.
        predictions: Those of the last evaluation (see :data:`PREDICTIONS`, :data:`TEST_PREDICTIONS`).
        checkpoint: The newest checkpoint of the run, or the one that was tested.
        scalars: Logged losses and metrics, a file for every start of the run, oldest first.
    """

    work_dir: Path
    log_file: Path
    data: DataSource
    evaluations: list[Evaluation]
    unit: str
    predictions: Path
    checkpoint: Path | None
    scalars: list[Path]


def train(arguments: argparse.Namespace) -> RunResult:
    """Trains and evaluates what a command line of ``tools/train.py`` asks for.

    Raises:
        UserError: Something about the config, the data, the device or the checkpoint is wrong; nothing has been
            trained then.
    """
    cfg = load_config(arguments)
    _require(cfg, "train_dataloader", "val_dataloader", "train_cfg", "val_cfg", "val_evaluator", "optim_wrapper")
    if arguments.amp:
        enable_amp(cfg, arguments.amp)
    accelerate(cfg, arguments.channels_last, arguments.compile)
    _start_processes(cfg)
    _refuse_other_run(Path(cfg.work_dir), arguments)
    data = select_data(cfg, arguments)
    _override_again(cfg, arguments.cfg_options)
    norms = _settle_norms(cfg)
    if cfg.model.get("teacher", {}).get("checkpoint"):
        locate(cfg.model.teacher.checkpoint)  # before anything is built, as all weights
    notes, resumed = _choose_weights(cfg, arguments.resume)
    plan = plan_batch(cfg, data.images("train"), get_world_size(), arguments.auto_scale_lr)
    runner = _build_runner(cfg, PREDICTIONS)
    if resumed is not None:
        runner.resume_from(resumed)
    runner.register_hook(RecordHook(data, PREDICTIONS, resumed=resumed))
    history = EvaluationHistoryHook(before_training=arguments.demo)
    runner.register_hook(history)
    _announce(runner, start_screen(runner, data, plan, notes, norms), [*data.warnings, *plan.warnings])
    runner.train()
    if not history.evaluations:  # killed during the last evaluation, and resumed
        runner.val()
    last = current_checkpoint(runner) or newest_checkpoint(Path(cfg.work_dir))[0]
    return _result(runner, data, history, PREDICTIONS, last)


def test(arguments: argparse.Namespace) -> RunResult:
    """Evaluates the checkpoint that a command line of ``tools/test.py`` names.

    Raises:
        UserError: Something about the config, the data or the checkpoint is wrong.
    """
    cfg = load_config(arguments)
    _require(cfg, "val_dataloader", "test_dataloader", "test_cfg", "test_evaluator")
    _start_processes(cfg)
    data = select_data(cfg, arguments, names=("val",))
    _override_again(cfg, arguments.cfg_options)
    cfg.load_from, cfg.resume = str(arguments.checkpoint), False
    for part in ("train_dataloader", "train_cfg", "optim_wrapper", "val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(part, None)
    cfg.param_scheduler = None
    norms = _settle_norms(cfg)
    runner = _build_runner(cfg, TEST_PREDICTIONS)
    runner.register_hook(RecordHook(data, TEST_PREDICTIONS, tested=arguments.checkpoint))
    history = EvaluationHistoryHook()
    runner.register_hook(history)
    _announce(runner, start_screen(runner, data, None, [str(arguments.checkpoint)], norms), data.warnings)
    runner.test()
    return _result(runner, data, history, TEST_PREDICTIONS, arguments.checkpoint)


def _require(cfg: Config, *parts: str) -> None:
    """Raises a UserError if a config says nothing of a part that the run needs."""
    for part in parts:
        if not isinstance(cfg.get(part), dict | list | tuple):
            raise UserError(f"{cfg.filename} has no settings in {part}, which this tool needs; complete the config.")


def _override_again(cfg: Config, options: list[str]) -> None:
    """Applies ``--cfg-options`` once more, so that they win over what ``--demo`` and ``--data`` set.

    The other flags, which win over them in turn, are kept.
    """
    keys = ("work_dir", "experiment_name", "config_name", "launcher", "randomness", "runner_type")
    flags = {key: cfg[key] for key in keys if key in cfg}
    apply_overrides(cfg, options)
    cfg.update(flags)


def _start_processes(cfg: Config) -> None:
    """Joins the process group of a distributed run, over gloo where there is no GPU."""
    if cfg.launcher == "none":
        return
    try:
        if torch.cuda.is_available():
            init_dist(cfg.launcher, **cfg.env_cfg.dist_cfg)
        else:
            # mmengine's own default names a GPU.
            cfg.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)
            torch.distributed.init_process_group("gloo")
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--launcher {cfg.launcher} cannot start: {error}; start the processes with torchrun, "
            "and if the port is in use choose another with --master-port."
        ) from error


def _refuse_other_run(work_dir: Path, arguments: argparse.Namespace) -> None:
    """Keeps a run from being written over; a demo may write over a demo.

    Raises:
        UserError: The work dir holds a run that nobody asked to resume.
    """
    newest, _ = newest_checkpoint(work_dir)
    if newest is None or arguments.resume is not None:
        return
    if not (arguments.demo and demo_folder(work_dir).is_dir()):
        raise UserError(
            f"{work_dir} already holds a run ({newest.name}); go on with it with --resume, "
            "or choose another folder with --work-dir."
        )
    if is_main_process():
        for path in work_dir.glob("*.pth"):
            path.unlink()


def _choose_weights(cfg: Config, wanted: str | None) -> tuple[list[str], Path | None]:
    """Settles which weights the run starts from: what to say of them, and the checkpoint if one is resumed.

    Args:
        cfg: Keeps what the run begins with, resumed or not, so that its dump reproduces the whole run.
        wanted: What ``--resume`` was given: a checkpoint, the folder of a run, 'auto' for the work dir, or None
            where the flag is absent.

    Raises:
        UserError: A folder is named that has no intact checkpoint.
    """
    notes: list[str] = []
    checkpoint = None
    folder = Path(cfg.work_dir) if wanted == "auto" else Path(wanted or "")
    if wanted is not None and folder.is_dir():
        checkpoint, damaged = newest_checkpoint(folder)
        notes = [f"{path.name} {fault}: passed over" for path, fault in damaged]
        if checkpoint is None and wanted != "auto":
            raise UserError(f"--resume {wanted}: there is no intact checkpoint (epoch_*.pth or iter_*.pth) in it.")
    elif wanted not in (None, "auto"):
        checkpoint = folder
    cfg.resume = False
    if checkpoint is not None:
        return [*notes, f"resumed from {checkpoint}"], checkpoint
    if wanted is not None:
        notes.append(f"nothing to resume in {folder}")
    if cfg.get("load_from"):
        remove_pretrained(cfg.model)  # they would be overwritten
        return [*notes, f"fine-tuned from {cfg.load_from}"], None
    initial = fetch_pretrained(cfg.model)
    return [*notes, *(initial or ["from scratch"])], None


def _settle_norms(cfg: Config) -> str | None:
    """Turns SyncBN into BN unless several GPUs take part; returns what to say about it."""
    if torch.cuda.is_available() and get_world_size() > 1:
        return None
    reason = "one device computes a batch" if get_world_size() == 1 else "CPUs cannot synchronise"
    return f"SyncBN is BN here: {reason}" if sync_batch_norm_off(cfg.model) else None


def _build_runner(cfg: Config, predictions: str) -> SuiteRunner:
    task_of(cfg).keep_predictions(cfg, Path(cfg.work_dir) / predictions)
    with building("run"):
        return RUNNERS.build(cfg)


def _announce(runner: SuiteRunner, screen: str, warnings: Sequence[str]) -> None:
    untested = untested_versions()
    if untested:
        runner.logger.warning(f"not tested with {', '.join(untested)}; it may well work")
    runner.announce(screen)
    for warning in warnings:
        runner.logger.warning(warning)


def _result(
    runner: SuiteRunner, data: DataSource, history: EvaluationHistoryHook, predictions: str, checkpoint: Path | None
) -> RunResult:
    work_dir = Path(runner.work_dir)
    return RunResult(
        work_dir=work_dir,
        log_file=Path(runner.log_dir) / f"{runner.timestamp}.log",
        data=data,
        evaluations=history.evaluations,
        unit="iteration" if counts_iterations(runner) else "epoch",
        predictions=work_dir / predictions,
        checkpoint=checkpoint,
        scalars=sorted(work_dir.glob("*/vis_data/scalars.json")),
    )
