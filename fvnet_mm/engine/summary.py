"""The screen at the start of a run."""

import platform
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from torch import nn

from fvnet_mm import __version__
from fvnet_mm.bench.complexity import count_parameters
from fvnet_mm.engine.batch import BatchPlan
from fvnet_mm.engine.building import unwrapped
from fvnet_mm.engine.data_source import trained_images
from fvnet_mm.engine.run_facts import convolves_in_tf32
from fvnet_mm.engine.tasks import DataSource
from fvnet_mm.engine.tasks.base import DataSplit
from fvnet_mm.ops import has_compiled_ops


def start_screen(runner: Runner, data: DataSource, plan: BatchPlan | None, notes: list[str], norms: str | None) -> str:
    """What is about to run, in one screen of plain text: model, data, batch, precision, device, weights.

    Args:
        runner: Built, not yet run.
        data: What it runs on.
        plan: How the batch comes about; None for a test.
        notes: Where the weights come from, such as which checkpoint is resumed.
        norms: What became of synchronised norms, or None.
    """
    cfg = runner.cfg
    lines = [
        ("config", _config(cfg)),
        ("model", describe_model(runner.model)),
        ("weights", "; ".join(notes)),
    ]
    lines += [(f"{split.name} data", f"{data.label}: {_summary(cfg, split)}") for split in data.splits]
    lines.append(("classes", _shorten(data.folder.classes)))
    if data.skipped:
        lines.append(("left out", ", ".join(data.skipped)))
    if plan:
        optimizer = cfg.optim_wrapper.optimizer
        lines += [
            ("batch", str(plan)),
            ("schedule", f"{_length(runner, plan)}, {optimizer.type} at {optimizer.lr:g}"),
            ("precision", _precision(runner)),
        ]
    if norms:
        lines.append(("norms", norms))
    lines += [
        ("device", _device()),
        ("operators", "compiled mmcv" if has_compiled_ops() else "torchvision's, for want of compiled mmcv"),
        ("seed", str(runner.seed)),
        ("work dir", runner.work_dir),
    ]
    return "\n".join([f"fvnet_mm {__version__}", *(f"  {label:<11}{text}" for label, text in lines)])


def _config(cfg: Config) -> str:
    plugged = f", as {cfg.config_name}" if Path(cfg.filename).stem != cfg.config_name else ""
    return f"{cfg.filename}{plugged}"


def _summary(cfg: Config, split: DataSplit) -> str:
    """What a split holds, and first how much of it is used where that is a part."""
    used = trained_images(cfg, split) if split.name == "train" else split.images
    return split.summary if used == split.images else f"{used} of {split.summary}"


def _length(runner: Runner, plan: BatchPlan) -> str:
    epochs = runner.cfg.train_cfg.get("max_epochs")
    length = _counted(plan.steps_per_epoch if epochs else plan.steps, "optimizer step")
    warm_up = f", warm-up over {_counted(plan.warm_up_steps, 'step')}" if plan.warm_up_steps else ""
    return f"{_counted(epochs, 'epoch')} of {length}{warm_up}" if epochs else f"{length}{warm_up}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _precision(runner: Runner) -> str:
    amp = runner.cfg.optim_wrapper.get("type") == "AmpOptimWrapper"
    if amp:
        return f"{runner.cfg.optim_wrapper.get('dtype') or 'float16'} (autocast)"
    return "float32, convolutions in TensorFloat-32" if convolves_in_tf32() else "float32"


def describe_model(model: nn.Module) -> str:
    """Names of a model's parts with their parameters, as in 'RetinaNet, 14.81 M parameters: FVNet 4.92 M + ...'."""
    model = unwrapped(model)
    parts = [
        f"{type(part).__name__} {count_parameters(part) / 1e6:.2f} M"
        for part in model.children()
        if count_parameters(part)
    ]
    return f"{type(model).__name__}, {count_parameters(model) / 1e6:.2f} M parameters: {' + '.join(parts)}"


def _shorten(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def _device() -> str:
    torch_version = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        return f"{get_world_size()} x {torch.cuda.get_device_name()}, {torch_version}"
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads, {torch_version}"
