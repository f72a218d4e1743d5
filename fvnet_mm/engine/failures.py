"""What passes over batches fail for that a user can mend: memory, dead workers, small batches, unused layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

from fvnet_mm.engine.building import unwrapped
from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.engine.loaders import loader_of
from fvnet_mm.engine.memory import allocation_in_words, is_out_of_memory
from fvnet_mm.engine.untrained import unreduced_in_words
from fvnet_mm.errors import UserError


@contextmanager
def passes_in_words(runner: Runner, evaluated: str) -> Iterator[None]:
    """Turns the end of a run in a pass that cannot be made into a sentence.

    Args:
        runner: What runs; whether it trains or evaluates at that moment is seen from its model.
        evaluated: Name in the config of the loader that evaluation reads.

    Raises:
        UserError: Memory could not be had, a worker of a loader died, a batch norm was to train on one value, or a
            layer of a distributed run got no gradient.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        trains = runner.model.training and runner.cfg.get("train_dataloader")  # of a test nothing is, whatever its mode
        loader = "train_dataloader" if trains else evaluated
        sentence = _in_words(runner, loader, error)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def _in_words(runner: Runner, loader: str, error: Exception) -> str | None:
    settings, text = runner.cfg[loader], str(error)
    trains = loader == "train_dataloader"
    where = f"in training iteration {runner.iter + 1}" if trains else "in evaluation"
    images = f"{loader}.batch_size, now {settings.get('batch_size', 1)}"
    if text.startswith("DataLoader worker") and ("killed" in text or "exited" in text):
        dead = re.search(r"\(pid(?:\(s\))? (\d+)", text)  # the first of those that it names
        its = (loader_of(runner, int(dead[1])) if dead else None) or loader
        return (
            f"a worker of {its} died {where} ({text.splitlines()[0]}). Where memory is short, load with fewer "
            f"({its}.num_workers, now {runner.cfg[its].get('num_workers', 0)}), or give a container more shared memory "
            "(--shm-size)."
        )
    model = unwrapped(runner.model)
    if (unreduced := unreduced_in_words(model, error)) is not None:
        return unreduced
    if "Expected more than 1 value per channel" in text:
        return (
            f"{where} a batch norm had a single value per channel, such as one pixel of one image. Load two images or "
            f"more at a time ({images}; {loader}.drop_last=True leaves out a last batch of one), or larger ones."
        )
    if not is_out_of_memory(error):
        return None
    newest, _ = newest_checkpoint(Path(runner.work_dir)) if trains else (None, None)
    resumed = f"; with the settings that it began with, --resume goes on from {newest}" if newest else ""
    return (
        f"memory does not suffice {where} ({allocation_in_words(error)}): load fewer images at a time ({images}) or "
        f"smaller ones{_other_savings(runner) if trains else ''}{resumed}."
    )


def _other_savings(runner: Runner) -> str:
    """What else makes a training smaller and is not done yet."""
    found = ["without --cuda-graphs"] if runner.cfg.graph_trunk else []
    if next(runner.model.parameters()).is_cuda and not isinstance(runner.optim_wrapper, AmpOptimWrapper):
        found.append("with --amp bf16")
    if not (runner.cfg.model.get("backbone") or {}).get("with_cp"):
        found.append("with model.backbone.with_cp=True if the trunk knows it")
    return f", or train {', '.join(found)}" if found else ""
