"""Training and testing from a parsed command line: config, data, checks, run."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, init_dist
from mmengine.registry import RUNNERS

from fvnet_mm.cli import test_command
from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.engine.config import apply_overrides, load_config
from fvnet_mm.engine.data_source import DataSource, select_data
from fvnet_mm.engine.environment import untested_versions
from fvnet_mm.engine.hooks import EvaluationHistoryHook
from fvnet_mm.engine.precision import enable_amp
from fvnet_mm.engine.runner import SuiteRunner
from fvnet_mm.engine.summary import start_screen
from fvnet_mm.errors import UserError


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves behind, for pictures and the closing lines.

    Attributes:
        work_dir: Folder of the run.
        log_file: The log of this process.
        data: What it ran on.
        evaluations: (epochs trained, metrics) of each evaluation in this process, such as
            ``(12, {'coco/bbox_mAP_50': 0.31})``.
        predictions: COCO result file of the last evaluation.
        checkpoint: The newest checkpoint of the run, or the one that was tested.
        scalars: Logged losses and metrics, a file for every start of the run, oldest first.
        next_command: What to type after a training: its test.
    """

    work_dir: Path
    log_file: Path
    data: DataSource
    evaluations: list[tuple[int, dict[str, float]]]
    predictions: Path
    checkpoint: Path | None
    scalars: list[Path]
    next_command: str | None


def train(arguments: argparse.Namespace) -> RunResult:
    """Trains and evaluates what a command line of ``tools/train.py`` asks for.

    Raises:
        UserError: Something about the config, the data, the device or the checkpoint is wrong; nothing has been
            trained then.
    """
    cfg = load_config(arguments)
    if arguments.amp:
        enable_amp(cfg, arguments.amp)
    _start_processes(cfg)
    notes = _choose_weights(cfg, arguments.resume, overwrite=arguments.demo)
    data = select_data(cfg, arguments)
    apply_overrides(cfg, arguments.cfg_options)  # once more: they win over what --demo and --data set
    plan = plan_batch(cfg, get_world_size(), arguments.auto_scale_lr)
    runner = _build_runner(cfg)
    history = EvaluationHistoryHook(before_training=arguments.demo)
    runner.register_hook(history)
    _announce(runner, start_screen(runner, data, plan, notes))
    runner.train()
    if not history.evaluations:  # killed during the last evaluation, and resumed
        runner.val()
    checkpoint, _ = newest_checkpoint(Path(cfg.work_dir))
    return _result(runner, data, history, checkpoint, test_command(arguments, checkpoint))


def test(arguments: argparse.Namespace) -> RunResult:
    """Evaluates the checkpoint that a command line of ``tools/test.py`` names.

    Raises:
        UserError: Something about the config, the data or the checkpoint is wrong.
    """
    cfg = load_config(arguments)
    _start_processes(cfg)
    data = select_data(cfg, arguments)
    apply_overrides(cfg, arguments.cfg_options)
    cfg.load_from, cfg.resume = str(arguments.checkpoint), False
    for part in (
        "train_dataloader",
        "train_cfg",
        "optim_wrapper",
        "val_dataloader",
        "val_cfg",
        "val_evaluator",
    ):
        cfg.pop(part, None)
    cfg.param_scheduler = None
    runner = _build_runner(cfg)
    history = EvaluationHistoryHook()
    runner.register_hook(history)
    _announce(runner, start_screen(runner, data, None, [str(arguments.checkpoint)]))
    runner.test()
    return _result(runner, data, history, arguments.checkpoint, None)


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


def _choose_weights(cfg: Config, wanted: str | None, overwrite: bool) -> list[str]:
    """Settles which weights the run starts from, and says so.

    Args:
        cfg: Receives ``load_from`` and ``resume``.
        wanted: What ``--resume`` was given: a path, 'auto', or None where the flag is absent.
        overwrite: Whether a run that is already in the work dir may be written over.

    Raises:
        UserError: The work dir holds a run that nobody asked to resume.
    """
    work_dir = Path(cfg.work_dir)
    newest, damaged = newest_checkpoint(work_dir)
    if wanted is None:
        if newest is not None and not overwrite:
            raise UserError(
                f"{work_dir} already holds a run ({newest.name}); go on with it with --resume, "
                "or choose another folder with --work-dir."
            )
        cfg.resume = False
        return [f"fine-tuned from {cfg.load_from}" if cfg.load_from else "from scratch"]
    notes = [f"{path.name} {fault}: passed over" for path, fault in damaged]
    if wanted == "auto" and newest is None:
        cfg.resume, cfg.load_from = False, None
        return [*notes, f"no intact checkpoint in {work_dir}: from scratch"]
    cfg.resume, cfg.load_from = True, str(newest if wanted == "auto" else wanted)
    return [*(notes if wanted == "auto" else []), f"resumed from {cfg.load_from}"]


def _build_runner(cfg: Config) -> SuiteRunner:
    for part in ("val_evaluator", "test_evaluator"):
        if part in cfg:
            cfg[part].outfile_prefix = str(_predictions(cfg.work_dir).with_suffix("").with_suffix(""))
    return RUNNERS.build(cfg)


def _announce(runner: SuiteRunner, screen: str) -> None:
    runner.open_console()
    untested = untested_versions()
    if untested:
        runner.logger.warning(f"not tested with {', '.join(untested)}; it may well work")
    runner.logger.info(screen)


def _predictions(work_dir: str) -> Path:
    return Path(work_dir) / "predictions" / "val.bbox.json"


def _result(
    runner: SuiteRunner,
    data: DataSource,
    history: EvaluationHistoryHook,
    checkpoint: Path | None,
    next_command: str | None,
) -> RunResult:
    work_dir = Path(runner.work_dir)
    return RunResult(
        work_dir=work_dir,
        log_file=Path(runner.log_dir) / f"{runner.timestamp}.log",
        data=data,
        evaluations=history.evaluations,
        predictions=_predictions(runner.work_dir),
        checkpoint=checkpoint,
        scalars=sorted(work_dir.glob("*/vis_data/scalars.json")),
        next_command=next_command,
    )
