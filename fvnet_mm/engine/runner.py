"""mmengine's runner with a quiet start, models that are checked when built, and weights that load loudly."""

import difflib
import itertools
import logging
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from mmengine.config import ConfigDict
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.optim import BaseOptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from fvnet_mm.engine.acceleration import accelerate_model, merge_groups, without_fused
from fvnet_mm.engine.building import building, unwrapped
from fvnet_mm.engine.checkpoint import MapLocation, check_coverage
from fvnet_mm.engine.compatibility import check_fit
from fvnet_mm.engine.download import locate
from fvnet_mm.engine.epochs import ResumableEpochLoop
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing, sha256_of
from fvnet_mm.records import Weights


@RUNNERS.register_module()
class SuiteRunner(Runner):
    """The runner of every tool of the suite; configs name it with ``runner_type = 'SuiteRunner'``.

    Beside what mmengine's does: the console shows nothing but warnings until the run begins (the log file keeps
    the environment, the whole config and the list of hooks); a model that cannot work is refused when it is
    built (:func:`build_model`); a checkpoint that is resumed or tested must fill the whole model.

    Attributes:
        fine_tuned_from: The checkpoint that a training was begun from with ``load_from``.
    """

    fine_tuned_from: Weights | None = None
    _needs_all_weights = False

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **settings: object) -> MMLogger:
        logger = super().build_logger(log_level, log_file, **settings)
        self._quiet = _Quiet()
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(self._quiet)
                handler.addFilter(_for_the_console)
        return logger

    def announce(self, text: str) -> None:
        """Logs a text and shows it, quiet or not."""
        self.logger.info(text, extra={"announced": True})

    def build_model(self, model: nn.Module | dict[str, object]) -> nn.Module:
        if isinstance(model, nn.Module):
            return model
        return accelerate_model(build_model(ConfigDict(model), self.cfg.get("levels", ())), self.cfg)

    def build_train_loop(self, loop: object) -> BaseLoop:
        with building("training loop and its data", self.cfg.to_dict()):
            return super().build_train_loop(resumable(loop))

    def build_val_loop(self, loop: object) -> BaseLoop:
        with building("evaluation and its data", self.cfg.to_dict()):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: object) -> BaseLoop:
        with building("test and its data", self.cfg.to_dict()):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: object) -> BaseOptimWrapper:
        with building("optimizer", dict(optim_wrapper=optim_wrapper)):
            wrapper = super().build_optim_wrapper(without_fused(optim_wrapper, self.model))
        for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            if not each.optimizer.state:
                merge_groups(each.optimizer)
        return wrapper

    def build_param_scheduler(self, scheduler: object) -> list[object]:
        with building("learning-rate schedule", self.cfg.to_dict()):
            return super().build_param_scheduler(scheduler)

    def resume_from(self, checkpoint: Path) -> None:
        """Makes the training go on from a checkpoint; the config keeps what the run began with."""
        self._load_from, self._resume = str(checkpoint), True

    def resume(self, filename: str, *arguments: object, **settings: object) -> None:
        try:
            super().resume(filename, *arguments, **settings)
        except ValueError as error:
            if "parameter group" not in str(error):
                raise
            raise UserError(
                f"{filename} holds the state of an optimizer whose parameters were grouped otherwise; resume with the "
                "config and the version of fvnet_mm that it was trained with, or start from its weights with "
                "--cfg-options load_from=PATH."
            ) from error
        if isinstance(self.train_loop, ResumableEpochLoop):
            self.train_loop.enter(self._meta)

    def _init_model_weights(self) -> None:
        if not self._resume:  # else all weights come from the checkpoint
            with building("initial weights"):
                super()._init_model_weights()

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
        with redirect_stdout(StringIO()) as remarks:
            checkpoint = super().load_checkpoint(filename, map_location, strict, list(revise_keys))
        if remarks.getvalue():
            self.logger.info(remarks.getvalue())
        model = unwrapped(self.model)
        state_dict = checkpoint.get("state_dict", checkpoint)
        for pattern, replacement in revise_keys:
            state_dict = {re.sub(pattern, replacement, name): tensor for name, tensor in state_dict.items()}
        self._meta = checkpoint.get("meta", {})
        complete = self._resume or self._needs_all_weights
        share = check_coverage(model, state_dict, str(filename), complete)
        if not complete:
            digest = sha256_of(locate(str(filename)))
            self.fine_tuned_from = Weights(part="", source=str(filename), sha256=digest, share=share)
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
        """Writes the whole config, at once or not at all: a training's into the work dir, a test's beside its log.

        A test may run in the work dir of the training, whose config it must not write over.
        """
        folder = self.work_dir if self.cfg.get("train_cfg") else self.log_dir
        with replacing(Path(folder) / f"{self.cfg.get('config_name', self.timestamp)}.py") as temporary:
            self.cfg.dump(temporary)


_RESUMABLE = {"EpochBasedTrainLoop": "ResumableEpochLoop", "IterBasedTrainLoop": "ResumableIterLoop"}
"""mmengine's training loops, and the suite's own in their place."""


def resumable(loop: object) -> object:
    """The config of a training loop, with the suite's own in the place of mmengine's."""
    if not isinstance(loop, dict):
        return loop
    unnamed = "EpochBasedTrainLoop" if loop.get("by_epoch", True) else "IterBasedTrainLoop"  # mmengine's shorthand
    name = str(loop.get("type", unnamed)).rpartition(".")[2]
    if name not in _RESUMABLE:
        return loop
    return {key: value for key, value in loop.items() if key != "by_epoch"} | dict(type=_RESUMABLE[name])


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or hasattr(record, "announced")


_FOR_THE_FILE_ALONE = (
    # What mmengine says of its deprecated classes, and of best checkpoints, which the suite never keeps.
    '"FileClient"',
    '"HardDiskBackend"',
    "Since `metrics` is an empty dict",
    # What mmengine prints of a checkpoint: its loader, and the names of all tensors that do not fit, which
    # check_coverage counts.
    "Loads checkpoint by ",
    # mmseg's table of all classes, after every evaluation.
    "per class results:",
    "\n+-",
)


def _for_the_console(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_FOR_THE_FILE_ALONE)


def build_model(config: ConfigDict, levels: Sequence[int] = ()) -> nn.Module:
    """Builds a model and makes certain that its neck fits its backbone.

    Args:
        config: The model's config, or that of a part.
        levels: Stages that a config of the suite reads, see :func:`~fvnet_mm.engine.compatibility.check_fit`.

    Raises:
        UserError: A type is not registered, an argument is refused by the part that it was meant for, or the
            backbone's feature maps are not those that the neck or the heads expect.
    """
    with building("model", config):
        try:
            model = MODELS.build(config)
        except KeyError as error:
            missing = re.search(r"([^\s'\"`]+) is not in the \S+ registry", str(error))
            if missing is None:
                raise
            hint = _where_registered(missing[1])
            raise UserError(f"the config names a model part {missing[1]!r} that is not registered{hint}") from error
        check_fit(model, (config.get("backbone") or {}).get("out_indices"), levels)
    return model


def _where_registered(name: str) -> str:
    """What to do about a name that was not found: the end of a sentence."""
    scope = next((scope for scope, child in MODELS.children.items() if name in child.module_dict), None)
    if scope is not None:
        return (
            f" here but in {scope} alone: write '{scope}.{name}', or, if the class is yours, register it with "
            "mmengine.registry.MODELS, where mmdet, mmseg and mmpretrain all look."
        )
    close = difflib.get_close_matches(name, _registered_names(), n=3, cutoff=0.5)
    hint = f"; the closest names are {', '.join(close)}" if close else ""
    return f"{hint}; a class of your own is registered where custom_imports names its module (docs/own_backbone.md)."


def _registered_names() -> list[str]:
    names = set(MODELS.module_dict)
    for scope, child in MODELS.children.items():
        names |= {*child.module_dict, *(f"{scope}.{name}" for name in child.module_dict)}
    return sorted(names)
