"""mmengine's runner with a quiet start, models that are checked when built, and weights that load loudly."""

import difflib
import itertools
import logging
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.dist import master_only
from mmengine.logging import MMLogger, print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from fvnet_mm.engine.checkpoint import MapLocation, check_coverage
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing


@RUNNERS.register_module()
class SuiteRunner(Runner):
    """The runner of every tool of the suite; configs name it with ``runner_type = 'SuiteRunner'``.

    Beside what mmengine's does: the console shows nothing but warnings until the run begins (the log file keeps
    the environment, the whole config and the list of hooks); a model that cannot work is refused when it is
    built (:func:`build_model`); a checkpoint that is resumed or tested must fill the whole model.
    """

    _needs_all_weights = False

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **settings: object) -> MMLogger:
        logger = super().build_logger(log_level, log_file, **settings)
        self._quiet = _Quiet()
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(self._quiet)
                handler.addFilter(_not_about_mmengine_itself)
        return logger

    def announce(self, text: str) -> None:
        """Logs a text and shows it, quiet or not."""
        self.logger.info(text, extra={"announced": True})

    def build_model(self, model: nn.Module | dict[str, object]) -> nn.Module:
        return model if isinstance(model, nn.Module) else build_model(ConfigDict(model))

    def build_train_loop(self, loop: object) -> BaseLoop:
        with building("training loop and its data"):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: object) -> BaseLoop:
        with building("evaluation and its data"):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: object) -> BaseLoop:
        with building("test and its data"):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: object) -> BaseOptimWrapper:
        with building("optimizer"):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: object) -> list[object]:
        with building("learning-rate schedule"):
            return super().build_param_scheduler(scheduler)

    def call_hook(self, fn_name: str, **arguments: object) -> None:
        if fn_name == "before_run":  # everything is built
            for handler in self.logger.handlers:
                handler.removeFilter(self._quiet)
        super().call_hook(fn_name, **arguments)

    def test(self) -> dict[str, float]:
        self._needs_all_weights = True
        return super().test()

    def load_checkpoint(
        self,
        filename: str,
        map_location: MapLocation = "cpu",
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r"^module.", ""),),
    ) -> dict[str, object]:
        checkpoint = super().load_checkpoint(filename, map_location, strict, list(revise_keys))
        model = self.model.module if is_model_wrapper(self.model) else self.model
        state_dict = checkpoint.get("state_dict", checkpoint)
        for pattern, replacement in revise_keys:
            state_dict = {re.sub(pattern, replacement, name): tensor for name, tensor in state_dict.items()}
        complete = self._resume or self._needs_all_weights
        check_coverage(model, state_dict, str(filename), complete)
        if self._resume and not {"meta", "optimizer"} <= checkpoint.keys():
            raise UserError(
                f"{filename} holds weights only and no state of a training to resume; "
                "to start from its weights use --cfg-options load_from=PATH instead of --resume."
            )
        if complete:
            self._check_classes(checkpoint, str(filename))
        return checkpoint

    def _check_classes(self, checkpoint: dict[str, dict], source: str) -> None:
        """Refuses a checkpoint whose classes are others, or in another order, than those of the data."""
        trained = checkpoint.get("meta", {}).get("dataset_meta", {}).get("classes")
        loop = self._train_loop if self._resume else self._test_loop
        classes = loop.dataloader.dataset.metainfo.get("classes")
        if trained is None or classes is None or tuple(trained) == tuple(classes):
            return
        pairs = itertools.zip_longest(trained, classes)
        number, (was, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise UserError(
            f"{source} was trained on {len(trained)} classes and the data has {len(classes)}; the first difference is "
            f"class {number}, {was!r} then and {now!r} now: give it the data it was trained on, in the same order."
        )

    @master_only
    def dump_config(self) -> None:
        """Writes the whole config into the work dir, at once or not at all."""
        with replacing(Path(self.work_dir) / Path(self.cfg.filename or f"{self.timestamp}.py").name) as temporary:
            self.cfg.dump(temporary)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or hasattr(record, "announced")


def _not_about_mmengine_itself(record: logging.LogRecord) -> bool:
    """Drops what mmengine says of its deprecated classes, and of best checkpoints, which the suite never keeps."""
    return not record.getMessage().startswith(('"FileClient"', '"HardDiskBackend"', "Since `metrics` is an empty dict"))


def build_model(config: ConfigDict) -> nn.Module:
    """Builds a model and makes certain that its neck fits its backbone.

    Raises:
        UserError: A type is not registered, an argument is refused by the part that it was meant for, or the
            channels that the backbone gives are not those that the neck expects.
    """
    with building("model"):
        try:
            model = MODELS.build(config)
        except KeyError as error:
            missing = _unregistered_type(config)
            if missing is None:
                raise
            close = difflib.get_close_matches(missing, _registered_names(), n=3, cutoff=0.5)
            hint = f"the closest names are {', '.join(close)}" if close else "is its module in custom_imports?"
            raise UserError(f"the config names a model part {missing!r} that is not registered; {hint}.") from error
    check_channels(model)
    return model


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turns what a part of the config breaks when it is built into a sentence; the log file keeps the traceback.

    Raises:
        UserError: With the part's own message, or the line that it stumbled over if it gives none.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, ImportError) as error:
        print_log(traceback.format_exc(), "current")
        message = str(error.args[0]) if error.args else ""
        if not message or message.endswith(": "):  # a bare assertion, with the registry's prefix or without
            frame = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
            message += f"{frame.line} ({Path(frame.filename).name}, line {frame.lineno})"
        raise UserError(f"the {what} of the config cannot be built: {message}") from error


def _registered_names() -> list[str]:
    names = set(MODELS.module_dict)
    for scope, child in MODELS.children.items():
        names |= {*child.module_dict, *(f"{scope}.{name}" for name in child.module_dict)}
    return sorted(names)


def _unregistered_type(config: object) -> str | None:
    """The first ``type`` anywhere in a model config that no registry knows."""
    if isinstance(config, dict):
        name = config.get("type")
        if isinstance(name, str) and MODELS.get(name) is None and name.split(".")[-1] not in _registered_names():
            return name
        config = list(config.values())
    if isinstance(config, list | tuple):
        return next((found for value in config if (found := _unregistered_type(value))), None)
    return None


@torch.no_grad()
def backbone_channels(backbone: nn.Module) -> list[int]:
    """Channels of a backbone's outputs, seen by running it on one blank image of 64 x 64 pixels."""
    training = {name: module.training for name, module in backbone.named_modules()}
    backbone.eval()
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    outputs = backbone(torch.zeros(1, 3, 64, 64, device=device))
    for name, module in backbone.named_modules():
        module.training = training[name]
    return [feature.shape[1] for feature in outputs]


def check_channels(model: nn.Module) -> None:
    """Raises a UserError unless the neck takes what the backbone gives."""
    backbone = getattr(model, "backbone", None)
    neck = getattr(model, "neck", None)
    wanted = getattr(neck, "in_channels", None)
    if backbone is None or not isinstance(wanted, list | tuple):
        return
    given = backbone_channels(backbone)
    if list(wanted) != given:
        raise UserError(
            f"the backbone {type(backbone).__name__} gives {given} channels but the neck {type(neck).__name__} "
            f"expects {list(wanted)}; write neck=dict(in_channels={given}) in the config."
        )
