"""Training and testing from a parsed command line: config, data, checks, run."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_world_size, init_dist, is_main_process
from mmengine.registry import RUNNERS

from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.engine.config import apply_overrides, load_config
from fvnet_mm.engine.data_source import DataSource, select_data
from fvnet_mm.engine.demo import is_demo
from fvnet_mm.engine.environment import untested_versions
from fvnet_mm.engine.hooks import EvaluationHistoryHook
from fvnet_mm.engine.precision import enable_amp
from fvnet_mm.engine.runner import SuiteRunner, building
from fvnet_mm.engine.summary import start_screen
from fvnet_mm.errors import UserError

PREDICTIONS = "predictions/val"
"""Where in the work dir mmdet's metric writes its COCO result files; it adds ``.bbox.json``."""


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
    """

    work_dir: Path
    log_file: Path
    data: DataSource
    evaluations: list[tuple[int, dict[str, float]]]
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
    if arguments.amp:
        enable_amp(cfg, arguments.amp)
    _start_processes(cfg)
    _refuse_other_run(Path(cfg.work_dir), arguments)
    data = select_data(cfg, arguments)
    _override_again(cfg, arguments.cfg_options)
    notes = _choose_weights(cfg, arguments.resume)
    plan = plan_batch(cfg, data.folder.train.image_count, get_world_size(), arguments.auto_scale_lr)
    runner = _build_runner(cfg)
    history = EvaluationHistoryHook(before_training=arguments.demo)
    runner.register_hook(history)
    _announce(runner, start_screen(runner, data, plan, notes), plan.warning)
    runner.train()
    if not history.evaluations:  # killed during the last evaluation, and resumed
        runner.val()
    last = Path(cfg.work_dir) / f"epoch_{runner.epoch}.pth"
    return _result(runner, data, history, last if last.is_file() else newest_checkpoint(Path(cfg.work_dir))[0])


def test(arguments: argparse.Namespace) -> RunResult:
    """Evaluates the checkpoint that a command line of ``tools/test.py`` names.

    Raises:
        UserError: Something about the config, the data or the checkpoint is wrong.
    """
    cfg = load_config(arguments)
    _start_processes(cfg)
    data = select_data(cfg, arguments, names=("val",))
    _override_again(cfg, arguments.cfg_options)
    cfg.load_from, cfg.resume = str(arguments.checkpoint), False
    for part in ("train_dataloader", "train_cfg", "optim_wrapper", "val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(part, None)
    cfg.param_scheduler = None
    runner = _build_runner(cfg)
    history = EvaluationHistoryHook()
    runner.register_hook(history)
    _announce(runner, start_screen(runner, data, None, [str(arguments.checkpoint)]), None)
    runner.test()
    return _result(runner, data, history, arguments.checkpoint)


def _override_again(cfg: Config, options: list[str]) -> None:
    """Applies ``--cfg-options`` once more, so that they win over what ``--demo`` and ``--data`` set.

    The other flags, which win over them in turn, are kept.
    """
    keys = ("work_dir", "experiment_name", "launcher", "randomness", "runner_type")
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
    if not (arguments.demo and is_demo(work_dir)):
        raise UserError(
            f"{work_dir} already holds a run ({newest.name}); go on with it with --resume, "
            "or choose another folder with --work-dir."
        )
    if is_main_process():
        for path in work_dir.glob("*.pth"):
            path.unlink()


def _choose_weights(cfg: Config, wanted: str | None) -> list[str]:
    """Settles which weights the run starts from, and says so.

    Args:
        cfg: Receives ``load_from`` and ``resume``.
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
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        cfg.load_from = str(checkpoint)
        return [*notes, f"resumed from {checkpoint}"]
    if wanted is not None:
        notes.append(f"nothing to resume in {folder}")
    if cfg.get("load_from"):
        return [*notes, f"fine-tuned from {cfg.load_from}"]
    return [*notes, *(_pretrained_parts(cfg.model) or ["from scratch"])]


def _pretrained_parts(model: ConfigDict, name: str = "model") -> list[str]:
    """The parts of a model config that start from weights of their own."""
    found = []
    for key, value in model.items():
        if key == "init_cfg" and isinstance(value, dict) and value.get("type") == "Pretrained":
            found.append(f"{name} from {value.get('checkpoint')}")
        elif key in ("pretrained", "checkpoint_path") and value:
            found.append(f"{name} pretrained ({value})")
        elif isinstance(value, dict):
            found += _pretrained_parts(value, key)
    return found


def _build_runner(cfg: Config) -> SuiteRunner:
    for part in ("val_evaluator", "test_evaluator"):
        if part in cfg:
            cfg[part].outfile_prefix = str(Path(cfg.work_dir) / PREDICTIONS)
    with building("run"):
        return RUNNERS.build(cfg)


def _announce(runner: SuiteRunner, screen: str, warning: str | None) -> None:
    untested = untested_versions()
    if untested:
        runner.logger.warning(f"not tested with {', '.join(untested)}; it may well work")
    runner.announce(screen)
    if warning:
        runner.logger.warning(warning)


def _result(
    runner: SuiteRunner, data: DataSource, history: EvaluationHistoryHook, checkpoint: Path | None
) -> RunResult:
    work_dir = Path(runner.work_dir)
    return RunResult(
        work_dir=work_dir,
        log_file=Path(runner.log_dir) / f"{runner.timestamp}.log",
        data=data,
        evaluations=history.evaluations,
        predictions=work_dir / f"{PREDICTIONS}.bbox.json",
        checkpoint=checkpoint,
        scalars=sorted(work_dir.glob("*/vis_data/scalars.json")),
    )
