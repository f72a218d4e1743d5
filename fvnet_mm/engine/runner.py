"""mmengine's runner with a quiet start, models that are checked when built, and weights that load loudly."""

import difflib
import logging
import traceback
from collections.abc import Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger, print_log
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from fvnet_mm.engine.checkpoint import MapLocation, check_coverage
from fvnet_mm.errors import UserError


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
        self._quiet = _OnlyWarnings()
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(self._quiet)
                handler.addFilter(_not_about_mmengine_itself)
        return logger

    def open_console(self) -> None:
        """Lets log lines through to the console from here on."""
        for handler in self.logger.handlers:
            handler.removeFilter(self._quiet)

    def build_model(self, model: nn.Module | dict[str, object]) -> nn.Module:
        return model if isinstance(model, nn.Module) else build_model(ConfigDict(model))

    def train(self) -> nn.Module:
        self.open_console()
        return super().train()

    def val(self) -> dict[str, float]:
        self.open_console()
        return super().val()

    def test(self) -> dict[str, float]:
        self.open_console()
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
        model = self.model.module if hasattr(self.model, "module") else self.model
        state_dict = checkpoint.get("state_dict", checkpoint)
        check_coverage(model, state_dict, str(filename), complete=self._resume or self._needs_all_weights)
        return checkpoint


class _OnlyWarnings(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


def _not_about_mmengine_itself(record: logging.LogRecord) -> bool:
    """Drops what mmengine says of its deprecated classes, and of best checkpoints, which the suite never keeps."""
    return not record.getMessage().startswith(('"FileClient"', '"HardDiskBackend"', "Since `metrics` is an empty dict"))


def build_model(config: ConfigDict) -> nn.Module:
    """Builds a model and makes certain that its neck and heads fit its backbone.

    Raises:
        UserError: A type is not registered, an argument is refused by the part that it was meant for, or the
            channels that the backbone gives are not those that the neck expects.
    """
    try:
        model = MODELS.build(config)
    except KeyError as error:
        missing = _unregistered_type(config)
        if missing is None:
            raise
        close = difflib.get_close_matches(missing, _registered_names(), n=3, cutoff=0.5)
        hint = f"the closest names are {', '.join(close)}" if close else "is its module in custom_imports?"
        raise UserError(f"the config names a model part {missing!r} that is not registered; {hint}.") from error
    except (ValueError, TypeError, AssertionError) as error:
        print_log(traceback.format_exc(), "current")  # for the author of a backbone; the log file keeps it
        raise UserError(f"the model of the config cannot be built: {error}") from error
    check_channels(model)
    return model


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
    """Raises a UserError unless the neck (or, without one, the head) takes what the backbone gives."""
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
