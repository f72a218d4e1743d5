"""What passes over batches fail for that a user can mend: memory, and batches too small for their norms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.runner import Runner

from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.engine.memory import allocation_in_words, is_out_of_memory
from fvnet_mm.errors import UserError


@contextmanager
def passes_in_words(runner: Runner, evaluated: str) -> Iterator[None]:
    """Turns the end of a run in a pass that cannot be made into a sentence.

    Args:
        runner: What runs; whether it trains or evaluates at that moment is seen from its model.
        evaluated: Name in the config of the loader that evaluation reads.

    Raises:
        UserError: Memory could not be had, or a batch norm was to train on a single value.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(_out_of_memory(runner, evaluated, error)) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"in training iteration {runner.iter + 1} a batch norm had a single value per channel, one pixel "
            f"of one image. Load two images or more at a time (train_dataloader.batch_size, now {_images(runner)}; "
            "train_dataloader.drop_last=True leaves out a last batch of one), or larger ones."
        ) from error


def _images(runner: Runner, loader: str = "train_dataloader") -> int:
    return runner.cfg[loader]["batch_size"]


def _out_of_memory(runner: Runner, evaluated: str, error: Exception) -> str:
    trains = runner.model.training
    loader = "train_dataloader" if trains else evaluated
    where = f"in training iteration {runner.iter + 1}" if trains else "in evaluation"
    advice = f"load fewer images at a time ({loader}.batch_size, now {_images(runner, loader)}) or smaller ones"
    if trains:
        advice += (
            "; gradients are accumulated to the batch that a config was tuned for. --amp bf16 and "
            "model.backbone.with_cp=True need less, too"
        )
        newest, _ = newest_checkpoint(Path(runner.work_dir))
        advice += f"; with --resume --resume-other-config it goes on from {newest}" if newest else ""
    return f"memory does not suffice {where} ({allocation_in_words(error)}): {advice}."
