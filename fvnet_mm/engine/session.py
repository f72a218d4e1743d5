"""Training and testing from a parsed command line: config, data, checks, run."""

import argparse
import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import RUNNERS

from fvnet_mm.engine.acceleration import accelerate, require_compiler
from fvnet_mm.engine.agreement import MeanLossHook, decided_by_main
from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.building import building
from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.engine.config import load_config
from fvnet_mm.engine.config_file import apply_overrides, missing_part
from fvnet_mm.engine.data_source import images_per_epoch, select_data
from fvnet_mm.engine.download import locate
from fvnet_mm.engine.environment import untested_versions
from fvnet_mm.engine.failures import passes_in_words
from fvnet_mm.engine.finite_outputs import FiniteEvaluationHook
from fvnet_mm.engine.graphs import GraphedTrunkHook
from fvnet_mm.engine.hooks import EvaluationHistoryHook, LoggedMetrics, ReproducibleEpochHook, counts_iterations
from fvnet_mm.engine.launch import reported_to_launcher, settle_norms, start_processes
from fvnet_mm.engine.loaders import ShieldedWorkersHook
from fvnet_mm.engine.nonfinite import NonFiniteHook
from fvnet_mm.engine.precision import enable_amp
from fvnet_mm.engine.record import RecordHook, current_checkpoint
from fvnet_mm.engine.resuming import (
    OwedEvaluationHook,
    choose_weights,
    refuse_changes,
    refuse_other_run,
    resumption,
)
from fvnet_mm.engine.runner import SuiteRunner
from fvnet_mm.engine.saving import full_disk_in_words, refuse_other_checkpoints
from fvnet_mm.engine.signals import StopHook, StopSignals
from fvnet_mm.engine.summary import start_screen
from fvnet_mm.engine.tasks import DataSource, task_of
from fvnet_mm.engine.untrained import UntrainedHook
from fvnet_mm.engine.watchdog import RANK_TIMEOUT, WatchdogHook
from fvnet_mm.errors import UserError
from fvnet_mm.lock import only_training_in

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
        unit: What their steps count: 'epoch' or 'step' (of the optimizer).
        predictions: Those of the last evaluation (see :data:`PREDICTIONS`, :data:`TEST_PREDICTIONS`).
        checkpoint: The newest checkpoint of the run, or the one that was tested.
        scalars: Logged losses and metrics, a file for every start of the run, oldest first.
    """

    work_dir: Path
    log_file: Path
    data: DataSource
    evaluations: list[LoggedMetrics]
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
    work_dir = Path(cfg.work_dir)
    with reported_to_launcher(), full_disk_in_words(work_dir, resumable=True), StopSignals().watched() as signals:
        start_processes(cfg)
        arguments.resume = decided_by_main(lambda: resumption(arguments.resume, work_dir))
        # The main process locks for all.
        with only_training_in(work_dir) if is_main_process() else nullcontext() as note:
            return _train(cfg, arguments, signals, [note] if note else [])


def _train(cfg: Config, arguments: argparse.Namespace, signals: StopSignals, warnings: list[str]) -> RunResult:
    _require(cfg, "train_dataloader", "val_dataloader", "train_cfg", "val_cfg", "val_evaluator")
    _require(cfg, "optim_wrapper", "optim_wrapper.optimizer")
    refuse_other_checkpoints(cfg)
    if arguments.amp:
        enable_amp(cfg, arguments.amp)
    accelerate(cfg, arguments.channels_last, arguments.compile, arguments.cuda_graphs)
    warnings += decided_by_main(lambda: refuse_other_run(Path(cfg.work_dir), arguments))
    data = select_data(cfg, arguments)
    _override_again(cfg, arguments.cfg_options)
    norms = settle_norms(cfg)
    if cfg.model.get("teacher", {}).get("checkpoint"):
        locate(cfg.model.teacher.checkpoint)  # before anything is built, as all weights
    notes, resumed = choose_weights(cfg, arguments.resume)
    plan = plan_batch(cfg, images_per_epoch(cfg, data.split("train")), get_world_size(), arguments.auto_scale_lr)
    if resumed is not None:
        refuse_changes(cfg, resumed, data, get_world_size(), arguments.resume_other_config)
    runner = _build_runner(cfg, PREDICTIONS)
    if not any(isinstance(hook, ReproducibleEpochHook) for hook in runner.hooks):  # the config's own hooks replaced it
        runner.register_hook(ReproducibleEpochHook())
    if resumed is not None:
        runner.resume_from(resumed)
    record = RecordHook(data, PREDICTIONS, resumed=resumed)
    watchdog = WatchdogHook(cfg.get("env_cfg", {}).get("rank_timeout", RANK_TIMEOUT))
    nonfinite = NonFiniteHook(arguments.skip_nonfinite)
    hooks = (MeanLossHook(), record, OwedEvaluationHook(record), nonfinite, watchdog, StopHook(signals, record))
    for hook in (*hooks, ShieldedWorkersHook(), UntrainedHook(), FiniteEvaluationHook()):
        runner.register_hook(hook)
    history = EvaluationHistoryHook(before_training=arguments.demo)
    runner.register_hook(history)
    if cfg.graph_trunk:
        runner.register_hook(GraphedTrunkHook())
    _announce(runner, start_screen(runner, data, plan, notes, norms), [*warnings, *data.warnings, *plan.warnings])
    with passes_in_words(runner, evaluated="val_dataloader"):
        runner.train()
        if not history.evaluations:  # resumed when all was done
            runner.val()
    last = current_checkpoint(runner) or newest_checkpoint(Path(cfg.work_dir))[0]
    return _result(runner, data, history, PREDICTIONS, last)


def test(arguments: argparse.Namespace) -> RunResult:
    """Evaluates the checkpoint that a command line of ``tools/test.py`` names.

    Raises:
        UserError: Something about the config, the data or the checkpoint is wrong.
    """
    cfg = load_config(arguments)
    with reported_to_launcher(), full_disk_in_words(Path(cfg.work_dir), resumable=False):
        return _test(cfg, arguments)


def _test(cfg: Config, arguments: argparse.Namespace) -> RunResult:
    _require(cfg, "test_dataloader", "test_cfg", "test_evaluator")
    require_compiler(cfg)
    checkpoint = locate(arguments.checkpoint)  # before the data are looked through
    if arguments.demo:  # which scales all of them down
        _require(cfg, "train_dataloader", "train_cfg", "optim_wrapper", "optim_wrapper.optimizer")
    start_processes(cfg)
    cfg.val_dataloader = copy.deepcopy(cfg.test_dataloader)  # what is checked and recorded is what is tested
    data = select_data(cfg, arguments, names=("val",))
    _override_again(cfg, arguments.cfg_options)
    cfg.load_from, cfg.resume = str(checkpoint), False
    for part in ("train_dataloader", "train_cfg", "optim_wrapper", "val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(part, None)
    cfg.param_scheduler = None
    norms = settle_norms(cfg)
    runner = _build_runner(cfg, TEST_PREDICTIONS)
    runner.register_hook(RecordHook(data, TEST_PREDICTIONS, tested=checkpoint))
    runner.register_hook(FiniteEvaluationHook())
    history = EvaluationHistoryHook()
    runner.register_hook(history)
    _announce(runner, start_screen(runner, data, None, [str(checkpoint)], norms), data.warnings)
    with passes_in_words(runner, evaluated="test_dataloader"):
        runner.test()
    return _result(runner, data, history, TEST_PREDICTIONS, checkpoint)


def _require(cfg: Config, *parts: str) -> None:
    """Raises a UserError if a config says nothing of a part that the run needs."""
    part = missing_part(cfg, *parts)
    if part is not None:
        raise UserError(f"{cfg.filename} has no settings in {part}, which this tool needs; complete the config.")


def _override_again(cfg: Config, options: list[str]) -> None:
    """Applies ``--cfg-options`` once more, so that they win over what ``--demo`` and ``--data`` set.

    The other flags, which win over them in turn, are kept.
    """
    keys = ("work_dir", "experiment_name", "config_name", "launcher", "randomness", "runner_type")
    flags = {key: cfg[key] for key in keys if key in cfg}
    apply_overrides(cfg, options)
    cfg.update(flags)


def _build_runner(cfg: Config, predictions: str) -> SuiteRunner:
    task_of(cfg).keep_predictions(cfg, Path(cfg.work_dir) / predictions)
    with building("run", cfg.to_dict()):
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
        unit="step" if counts_iterations(runner) else "epoch",
        predictions=work_dir / predictions,
        checkpoint=checkpoint,
        scalars=sorted(work_dir.glob("*/vis_data/scalars.json")),
    )
