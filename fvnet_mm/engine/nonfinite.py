"""Losses and gradients that are no finite numbers: reported with what led to them, and never applied."""

import json
import math
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, master_only
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import nn

from fvnet_mm.engine.agreement import any_process
from fvnet_mm.engine.building import unwrapped
from fvnet_mm.engine.finite_outputs import first_in_training
from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text

_COUNT = "skipped_nonfinite"
"""Where mmengine's message hub, which goes into checkpoints, has the number of steps that were left out."""


class NonFiniteHook(Hook):
    """Ends a training at the first optimizer step whose loss or gradient is no finite number, or leaves such steps out.

    The step is not taken: weights, and where the training goes on the statistics of norms, are as before it. A report
    goes to ``nonfinite_iter_N.json`` in the work dir: losses, learning rates, norms of the gradients by part of the
    model, and the names of the images that each process had read since the step before. Where it is a loss, the passes
    are repeated to name the module whose output was the first that is not finite. The processes of a distributed run
    decide together. Where fp16 scales the loss, infinite gradients are the scaler's own business and only losses are
    looked at.

    Args:
        tolerated: Number of steps that are left out before the training ends, over all its restarts.
    """

    priority = "VERY_LOW"  # after what else an iteration has to log

    def __init__(self, tolerated: int = 0) -> None:
        self.tolerated = tolerated
        self._bad_loss: torch.Tensor | None = None
        self._left_out = False
        self._norms: dict[str, float] = {}
        self._batches: list[DATA_BATCH] = []
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] | None = None

    def before_train(self, runner: Runner) -> None:
        wrapper: OptimWrapper = runner.optim_wrapper
        model = unwrapped(runner.model)
        wrapper.backward = self._noting_losses(wrapper.backward)
        wrapper.step = self._only_finite(wrapper.step, wrapper, model)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        if self._buffers is None and self.tolerated:
            # A forward pass over what is not finite ruins the statistics of norms, too.
            self._buffers = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]
        self._batches.append(data_batch)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        if not runner.optim_wrapper.should_update():  # its count has moved on: whether a step was due
            return
        if self._left_out:
            self._report(runner, outputs or {})
        self._bad_loss, self._left_out, self._batches, self._buffers = None, False, [], None

    def _noting_losses(self, backward: Callable[..., None]) -> Callable[..., None]:
        def noting(loss: torch.Tensor, **settings: object) -> None:
            bad = ~torch.isfinite(loss.detach())
            self._bad_loss = bad if self._bad_loss is None else self._bad_loss | bad
            backward(loss, **settings)

        return noting

    def _only_finite(self, step: Callable[..., None], wrapper: OptimWrapper, model: nn.Module) -> Callable[..., None]:
        scales_loss = isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()

        @wraps(step)  # with the mark of mmengine's schedulers, which count steps there
        def only_finite(**settings: object) -> None:
            bad = bool(self._bad_loss)
            if not bad and not scales_loss:
                gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
                bad = not math.isfinite(torch.nn.utils.get_total_norm(gradients).item())
            self._left_out = any_process(bad)
            if not self._left_out:
                step(**settings)
                return
            self._norms = gradient_norms(model)
            for buffer, before in self._buffers or ():
                buffer.copy_(before)

        return only_finite

    def _report(self, runner: Runner, outputs: dict[str, torch.Tensor]) -> None:
        """Writes down what happened, and ends the run where it has happened too often."""
        losses = {name: float(value.detach()) for name, value in outputs.items() if torch.is_tensor(value)}
        own: dict[str, object] = dict(images=[name for batch in self._batches for name in _names(batch)])
        own["loss_is_finite"] = not self._bad_loss
        processes = all_gather_object(own)
        hub = runner.message_hub
        skipped = (hub.get_info(_COUNT) if _COUNT in hub.runtime_info else 0) + 1
        hub.update_info(_COUNT, skipped)
        file = Path(runner.work_dir, f"nonfinite_iter_{runner.iter + 1}.json")
        report = dict(
            iteration=runner.iter + 1,
            epoch=runner.epoch + 1,
            learning_rates=sorted(set(runner.optim_wrapper.get_lr()["lr"])),
            gradient_norms={name: _in_json(norm) for name, norm in self._norms.items()},
            losses={name: _in_json(value) for name, value in losses.items()},
            processes=processes,
        )
        _write(file, report)  # before what a repetition may come to
        first = None
        if any_process(bool(self._bad_loss)):
            first = self._repeat(runner, processes)
            _write(file, report)
        what = f"iteration {runner.iter + 1} has a loss or a gradient that is no finite number"
        what += f" (the first output that is not finite is that of {first})" if first else ""
        names = sum(len(part["images"]) for part in processes)
        if skipped > self.tolerated:
            advice = "Lower the rate (optim_wrapper.optimizer.lr), clip gradients (optim_wrapper.clip_grad), look at"
            passes = runner.cfg.optim_wrapper.get("accumulative_counts") or 1
            if first and runner.iter < passes:  # no step has changed a weight yet
                advice = f"No step has been taken yet, so it is no matter of the rate: look at {first} and at"
            raise UserError(
                f"{what}; the {names} images of that step, its losses, learning rate and norms of gradients are in "
                f"{file}. {advice} the images, or leave out such steps with --skip-nonfinite {skipped}."
            )
        runner.logger.warning(f"{what}: left out, the {skipped}. of {self.tolerated} that are tolerated; see {file}")

    def _repeat(self, runner: Runner, processes: list[dict[str, object]]) -> str | None:
        """The module whose output was the first that is not finite, added to what is said of each process."""
        model = unwrapped(runner.model)
        first, failure = first_in_training(model, runner.optim_wrapper, self._batches)
        for part, found in zip(processes, all_gather_object((first, failure)), strict=True):
            part["first_output"], part["not_repeated"] = found
        return next((part["first_output"] for part in processes if part["first_output"]), None)


@master_only
def _write(file: Path, report: dict[str, object]) -> None:
    write_text(file, json.dumps(report, indent=2) + "\n")


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """The norm of the gradient of each part of a model: its children, and theirs for the backbone's stages."""
    norms = {}
    for name, part in model.named_children():
        inner = list(part.named_children()) if name == "backbone" else []
        for label, module in [(name, part), *((f"{name}.{child}", module) for child, module in inner)]:
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            if gradients:
                norms[label] = torch.nn.utils.get_total_norm(gradients).item()
    return norms


def _names(batch: DATA_BATCH) -> list[str]:
    """Files of a batch's images, as far as its samples tell."""
    samples: Sequence[object] = batch.get("data_samples", ()) if isinstance(batch, dict) else ()
    return [str(path) for sample in samples if (path := getattr(sample, "img_path", None)) is not None]


def _in_json(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else str(value)
