"""The effective batch: what the optimizer sees per step, held at what the recipe was tuned for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

from fvnet_mm.errors import UserError
from fvnet_mm.records.from_config import COUNTED_BY_SCHEDULES

_VAL_INTERVAL = 1000
"""Iterations from one evaluation to the next where a config with a loop of iterations says nothing of them."""

_SHORT_SCHEDULE = 0.75
"""Share of a run up to which a schedule that ends before it is warned of."""


@dataclass(frozen=True)
class BatchPlan:
    """How an effective batch comes about.

    Attributes:
        per_device: Images in one forward pass of one process.
        world_size: Number of processes.
        accumulation: Forward passes whose gradients are added up before the optimizer steps.
        tuned: The batch that the config's learning rate was tuned for, or None where it does not say.
        learning_rate: The rate that the config gives.
        scale_learning_rate: Whether the rate follows the batch (linear rule) instead of the batch the recipe.
        steps_per_epoch: Optimizer steps in an epoch.
        warm_up_steps: Optimizer steps until the learning rate is reached.
        schedule_steps: Optimizer steps until the schedule of the learning rate has ended, as far as it says.
        steps: Optimizer steps of the whole run.
        length: The key in ``train_cfg`` that has the run's length: 'max_epochs' or 'max_iters'.
    """

    per_device: int
    world_size: int
    accumulation: int
    tuned: int | None
    learning_rate: float
    scale_learning_rate: bool
    steps_per_epoch: int
    warm_up_steps: int
    schedule_steps: int
    steps: int
    length: str = "max_epochs"

    @property
    def effective(self) -> int:
        """Images per optimizer step."""
        return self.per_device * self.world_size * self.accumulation

    @property
    def warnings(self) -> list[str]:
        """What keeps the recipe from working as it was meant."""
        found = []
        if self.warm_up_steps * 3 > self.steps:
            found.append(
                f"the warm-up takes {self.warm_up_steps} of the run's {self.steps} optimizer steps, so the learning "
                f"rate is hardly reached; on a small data set train longer (train_cfg.{self.length}) or warm up for "
                f"less (param_scheduler.0.end={max(self.steps // 20, 1)})"
            )
        if self.schedule_steps > self.steps:
            found.append(
                f"the learning rate's schedule takes {self.schedule_steps} optimizer steps and the run {self.steps}, "
                "so it stops halfway down; shorten it, too (end and milestones in param_scheduler)"
            )
        elif 0 < self.schedule_steps <= self.steps * _SHORT_SCHEDULE:
            found.append(
                f"the learning rate's schedule takes {self.schedule_steps} optimizer steps and the run {self.steps}, "
                f"so the last {self.steps - self.schedule_steps} are all at its last rate; lengthen it, too (end and "
                "milestones in param_scheduler)"
            )
        return found

    def __str__(self) -> str:
        parts = f"{self.per_device} images x {self.world_size} device{'s' * (self.world_size > 1)}"
        text = f"{parts} x {self.accumulation} accumulated = {self.effective}"
        if self.tuned is None:
            return f"{text}; the config does not say which batch it was tuned for"
        if self.scale_learning_rate:  # by mmengine, which knows of no accumulation
            rate = self.learning_rate * self.per_device * self.world_size / self.tuned
            if rate != self.learning_rate:
                alone = f" ({rate / self.learning_rate:g} times, without the accumulation)" * (self.accumulation > 1)
                return f"{text}, tuned for {self.tuned}: learning rate {self.learning_rate:g} -> {rate:g}{alone}"
        if self.effective == self.tuned:
            return f"{text}, as tuned"
        return f"{text}, NOT the tuned {self.tuned}: these results stand outside the protocol (or --auto-scale-lr)"


def plan_batch(cfg: Config, images: int, world_size: int, auto_scale_lr: bool) -> BatchPlan:
    """Decides on gradient accumulation and writes it, and schedules counted in optimizer steps, into ``cfg``.

    By default the batch follows the recipe: gradients are accumulated until the tuned batch is reached. With
    ``auto_scale_lr`` the rate follows the batch instead, as in mmdet. An accumulation that the config sets itself
    is kept. Whatever is counted in iterations (warm-up, the length of an iteration schedule, its intervals) was
    meant in optimizer steps and is multiplied by the accumulation.

    Args:
        cfg: Config of a training; receives ``optim_wrapper.accumulative_counts``.
        images: Number of training images.
        world_size: Number of processes.
        auto_scale_lr: Whether the learning rate is to follow the batch.

    Raises:
        UserError: The config's batch, length or accumulation is no positive number, its learning rate is missing or
            negative, it has two lengths, or ``auto_scale_lr`` is asked of a config that does not say which batch it was
            tuned for.
    """
    per_device = _count(cfg, "train_dataloader", "batch_size")
    counts_iterations = cfg.train_cfg.get("max_iters") is not None
    unit = "max_iters" if counts_iterations else "max_epochs"
    if counts_iterations and cfg.train_cfg.get("max_epochs") is not None:
        loop = str(cfg.train_cfg.get("type", "EpochBasedTrainLoop"))
        key, other = ("max_iters", "max_epochs") if "Iter" in loop else ("max_epochs", "max_iters")
        raise UserError(
            f"train_cfg has max_iters={cfg.train_cfg.max_iters} and max_epochs={cfg.train_cfg.max_epochs}, and a run "
            f"has one length; its loop is {loop}, so set train_cfg.{key} and leave {other} out."
        )
    _count(cfg, "train_cfg", unit)
    optimizer = cfg.optim_wrapper.get("optimizer")
    if not isinstance(optimizer, dict):
        raise UserError(
            f"{cfg.filename} has no optim_wrapper.optimizer; name one, such as dict(type='AdamW', lr=1e-4)."
        )
    learning_rate = optimizer.get("lr")
    if not isinstance(learning_rate, int | float) or not 0 <= learning_rate < math.inf:
        raise UserError(f"optim_wrapper.optimizer.lr must be a number of at least 0, not {learning_rate!r}.")
    tuned = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    if auto_scale_lr:
        if tuned is None:
            raise UserError(
                f"--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {cfg.filename}, and it has none."
            )
        cfg.auto_scale_lr.enable = True
    enabled = bool((cfg.get("auto_scale_lr") or {}).get("enable", False))
    iterations = math.ceil(images / (per_device * world_size))
    accumulation = cfg.optim_wrapper.get("accumulative_counts")
    if accumulation is None:
        fits = tuned is None or enabled or per_device * world_size >= tuned
        wanted = 1 if fits else round(tuned / (per_device * world_size))
        # Gradients never carry over into the next epoch; a schedule of iterations has no epochs.
        accumulation = wanted if counts_iterations else min(wanted, iterations)
        cfg.optim_wrapper.accumulative_counts = accumulation
        _stretch_schedule(cfg, accumulation)
    else:
        _count(cfg, "optim_wrapper", "accumulative_counts")
    length = cfg.train_cfg[unit]
    steps_per_epoch = math.ceil(iterations / accumulation)
    ends = [
        (scheduler["type"], scheduler["end"] * steps_per_epoch)
        if scheduler.get("by_epoch", True)
        else (scheduler["type"], scheduler["end"] // accumulation)
        for scheduler in _schedulers(cfg)
        if scheduler.get("end") is not None
    ]
    steps = length // accumulation if counts_iterations else length * steps_per_epoch
    schedule_steps = max((end for name, end in ends if name != "LinearLR"), default=0)
    if any(scheduler.get("end") is None and scheduler["type"] != "LinearLR" for scheduler in _schedulers(cfg)):
        schedule_steps = max(schedule_steps, steps)  # it goes on for as long as the run
    return BatchPlan(
        per_device,
        world_size,
        accumulation,
        tuned,
        learning_rate,
        enabled,
        steps_per_epoch,
        warm_up_steps=max((end for name, end in ends if name == "LinearLR"), default=0),
        schedule_steps=schedule_steps,
        steps=steps,
        length=unit,
    )


def _count(cfg: Config, part: str, key: str) -> int:
    value = cfg[part].get(key)
    if not isinstance(value, int) or value < 1:
        raise UserError(f"{part}.{key} must be a whole number of at least 1, not {value}.")
    return value


def _schedulers(cfg: Config) -> list[ConfigDict]:
    """The schedules of the learning rate; a config may give one alone, without a list."""
    schedulers = cfg.get("param_scheduler") or []
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers
    if not isinstance(schedulers, list | tuple) or not all(isinstance(part, dict) for part in schedulers):
        raise UserError(f"param_scheduler must be a list of schedules, not {schedulers!r}.")
    return list(schedulers)


_LOOP_COUNTS = ("max_iters", "val_begin", "val_interval", "dynamic_intervals")
"""What its loop of iterations counts."""


def _stretch_schedule(cfg: Config, factor: int) -> None:
    if factor == 1:
        return
    for scheduler in _schedulers(cfg):
        if not scheduler.get("by_epoch", True):
            _stretch(scheduler, ("begin", "end", *COUNTED_BY_SCHEDULES), factor)
            if "Exponential" in str(scheduler["type"]) and "gamma" in scheduler:  # a factor for every iteration
                scheduler.gamma **= 1 / factor
    if cfg.train_cfg.get("max_iters") is not None:
        if str(cfg.train_cfg.get("type", "IterBasedTrainLoop")).endswith(("IterBasedTrainLoop", "ResumableIterLoop")):
            cfg.train_cfg.setdefault("val_interval", _VAL_INTERVAL)
        _stretch(cfg.train_cfg, _LOOP_COUNTS, factor)
        checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint")
        if checkpoint and not checkpoint.get("by_epoch", True):
            _stretch(checkpoint, ("interval", "save_begin"), factor)


def _stretch(settings: ConfigDict, keys: Sequence[str], factor: int) -> None:
    for key in keys:
        if settings.get(key) is not None:
            settings[key] = _times(settings[key], factor)


def _times(counts: object, factor: int) -> object:
    if isinstance(counts, list | tuple):
        return type(counts)(_times(each, factor) for each in counts)
    return counts * factor
