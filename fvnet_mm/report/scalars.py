"""Reading what mmengine logs into ``vis_data/scalars.json``, over several runs of one training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fvnet_mm.data.coco_document import is_number
from fvnet_mm.errors import UserError


@dataclass(frozen=True)
class Evaluation:
    """Metrics after training step ``iteration``; ``step`` is the epoch where the loop counts epochs."""

    iteration: int
    step: int
    metrics: dict[str, float]


@dataclass
class History:
    """A training as it was logged.

    Attributes:
        training: a line's numbers (loss, loss_cls, lr, time ...) by iteration, in ascending order.
        evaluations: in order.
        by_epoch: whether the loop counts epochs.
    """

    training: dict[int, dict[str, float]] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    by_epoch: bool = False

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Iterations and values of one of the training's numbers, where it was logged."""
        points = [(iteration, line[key]) for iteration, line in self.training.items() if key in line]
        return [iteration for iteration, _ in points], [value for _, value in points]

    def loss_names(self) -> list[str]:
        """The losses that were logged, the total first; a part may have a prefix (``decode.loss_ce``)."""
        names = dict.fromkeys(key for line in self.training.values() for key in line)
        losses = [name for name in names if name.rpartition(".")[2].startswith("loss")]
        return sorted(losses, key=lambda name: name != "loss")


def read_scalars(files: Sequence[Path]) -> History:
    """Read the ``scalars.json`` of a training, in the order in which their runs took place.

    A run that was resumed logs some iterations once more: what it logs replaces the former lines from there
    on. Numbers that are not finite are left out, and so is a last line that was cut off.

    A loop of iterations whose logger counts epochs, as mmdet's configs of iterations have it, logs every evaluation as
    of step 0: behind a line of training, that is the iteration of this line.

    Raises:
        UserError: a file can't be read or has a line that is no JSON object.
    """
    history = History()
    last, counts_epochs = 0, True
    for file in files:
        trained = False
        for line in _lines(file):
            numbers = {key: value for key, value in line.items() if is_number(value)}
            names = [name for name in numbers if name.rpartition(".")[2].startswith("loss")]
            if names or "lr" in numbers:
                iteration = int(numbers.get("iter", numbers.get("step", last + 1)))
                if iteration <= last:
                    _forget(history, iteration)
                history.training[iteration] = numbers
                history.by_epoch |= "epoch" in numbers
                last, trained = iteration, True
            elif numbers.keys() - _COUNTERS:
                metrics = {key: value for key, value in numbers.items() if key not in _COUNTERS}
                step = int(numbers.get("step", len(history.evaluations)))
                if numbers.get("step") == 0 and trained:
                    step, counts_epochs = last, False
                elif numbers.get("step") == 0:  # a training from the start, before its first iteration
                    last = 0
                    _forget(history, 0)
                _forget_evaluation(history, step)
                history.evaluations.append(Evaluation(last, step, metrics))
    history.by_epoch &= counts_epochs
    return history


_COUNTERS = {"step", "iter", "epoch", "time", "data_time", "memory"}


def _forget(history: History, iteration: int) -> None:
    """Drop everything from an iteration on."""
    history.training = {key: line for key, line in history.training.items() if key < iteration}
    history.evaluations = [item for item in history.evaluations if item.iteration < iteration]


def _forget_evaluation(history: History, step: int) -> None:
    history.evaluations = [item for item in history.evaluations if item.step != step]


def _lines(file: Path) -> Iterator[dict[str, object]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"the log {file} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise UserError(f"{file} is no text, so not a log of mmengine.") from None
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(lines):  # the run was killed while it wrote
                return
            raise UserError(f"line {number} of {file} is not JSON ({error}); is it a scalars.json?") from None
        if not isinstance(line, dict):
            raise UserError(f"line {number} of {file} is not a JSON object; is it a scalars.json?")
        yield line
