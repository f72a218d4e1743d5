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
from mmengine.optim import BaseOptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import BaseLoop, Runner
from mmpretrain.models import GlobalAveragePooling
from torch import nn

from fvnet_mm.engine.acceleration import accelerate_model, merge_groups
from fvnet_mm.engine.checkpoint import MapLocation, check_coverage
from fvnet_mm.engine.download import locate, sha256_of
from fvnet_mm.engine.epochs import ResumableEpochLoop
from fvnet_mm.engine.memory import allocation_in_words, is_out_of_memory
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing
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
        return model if isinstance(model, nn.Module) else accelerate_model(build_model(ConfigDict(model)), self.cfg)

    def build_train_loop(self, loop: object) -> BaseLoop:
        with building("training loop and its data"):
            return super().build_train_loop(resumable(loop))

    def build_val_loop(self, loop: object) -> BaseLoop:
        with building("evaluation and its data"):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: object) -> BaseLoop:
        with building("test and its data"):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: object) -> BaseOptimWrapper:
        with building("optimizer"):
            wrapper = super().build_optim_wrapper(optim_wrapper)
        for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            if not each.optimizer.state:
                merge_groups(each.optimizer)
        return wrapper

    def build_param_scheduler(self, scheduler: object) -> list[object]:
        with building("learning-rate schedule"):
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
        checkpoint = super().load_checkpoint(filename, map_location, strict, list(revise_keys))
        model = self.model.module if is_model_wrapper(self.model) else self.model
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
    # mmseg's table of all classes, after every evaluation.
    "per class results:",
    "\n+-",
)


def _for_the_console(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_FOR_THE_FILE_ALONE)


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
            missing = re.search(r"([^\s'\"`]+) is not in the \S+ registry", str(error))
            if missing is None:
                raise
            missing = missing[1]
            close = difflib.get_close_matches(missing, _registered_names(), n=3, cutoff=0.5)
            hint = f"the closest names are {', '.join(close)}" if close else "is its module in custom_imports?"
            raise UserError(f"the config names a model part {missing!r} that is not registered; {hint}.") from error
        check_channels(model)
    return model


_BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError),
    *(KeyError, MemoryError, RuntimeError, TypeError, ValueError),
)
"""What a wrong value breaks when a part of the config is built."""


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turns what a part of the config breaks when it is built into a sentence; the log file keeps the traceback.

    Raises:
        UserError: With the part's own message, or the line that it stumbled over if it gives none.
    """
    try:
        yield
    except _BROKEN as error:
        print_log(traceback.format_exc(), "current")
        if is_out_of_memory(error):
            raise UserError(
                f"memory does not suffice to build the {what} of the config ({allocation_in_words(error)}): make it "
                "smaller, free some, or choose another device (CUDA_VISIBLE_DEVICES)."
            ) from error
        message = str(error.args[0]) if error.args else ""
        if not message or message.endswith(": "):  # a bare assertion, with the registry's prefix or without
            frame = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
            message += f"{frame.line} ({Path(frame.filename).name}, line {frame.lineno})"
        elif type(error) is KeyError and message.isidentifier():
            message = f"{message!r} is missing"
        raise UserError(f"the {what} of the config cannot be built: {message}") from error


def _registered_names() -> list[str]:
    names = set(MODELS.module_dict)
    for scope, child in MODELS.children.items():
        names |= {*child.module_dict, *(f"{scope}.{name}" for name in child.module_dict)}
    return sorted(names)


@torch.no_grad()
def backbone_channels(backbone: nn.Module) -> list[int]:
    """Channels of a backbone's outputs, seen by running it on one blank image of 128 x 128 pixels.

    The list is empty where outputs are no feature maps (some of mmseg's transformers give pairs of them and a token).
    """
    training = {name: module.training for name, module in backbone.named_modules()}
    backbone.eval()
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    outputs = backbone(torch.zeros(1, 3, 128, 128, device=device))
    for name, module in backbone.named_modules():
        module.training = training[name]
    features = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [feature.shape[1] for feature in features] if all(map(torch.is_tensor, features)) else []


def check_channels(model: nn.Module) -> None:
    """Raises a UserError unless the neck, or the heads where no neck reads them, take what the backbone gives."""
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        return
    readers = _readers(model)
    if not readers:
        return
    given = backbone_channels(backbone)
    if not given:
        return
    if getattr(backbone, "output_img", False):  # DetectoRS hands on the image, too
        given = given[1:]
    for name, (part, wanted, index) in readers.items():
        if max(index or [0]) >= len(given) or (index is None and len(wanted) > len(given)):
            raise UserError(
                f"the backbone {type(backbone).__name__} gives {len(given)} outputs ({given} channels) but the {name} "
                f"{type(part).__name__} reads {len(wanted)} (up to number {max(index or [len(wanted) - 1])}, from 0); "
                "choose a backbone with strides 4, 8, 16 and 32, or fewer levels."
            )
        several = isinstance(part.in_channels, list | tuple)
        offered = given if index is None else [given[i] for i in index]
        if wanted not in (offered, offered[::-1]):  # YOLOv3's neck reads the coarsest first
            raise UserError(
                f"the backbone {type(backbone).__name__} gives {offered} channels but the {name} {type(part).__name__} "
                f"expects {wanted}; write {name}=dict(in_channels={offered if several else offered[0]}) in the config."
            )


def _readers(model: nn.Module) -> dict[str, tuple[nn.Module, list[int], list[int] | None]]:
    """What reads a backbone's outputs: the part, the channels it expects, and which outputs (None for all)."""
    neck = getattr(model, "neck", None)
    if neck is not None and isinstance(getattr(neck, "in_channels", None), list | tuple):
        return {"neck": (neck, list(neck.in_channels), None)}
    readers = {}
    for name in ("decode_head", "auxiliary_head"):
        head = getattr(model, name, None)
        if neck is None and head is not None and hasattr(head, "in_index"):
            index, wanted = (
                list(value) if isinstance(value, list | tuple) else [value]
                for value in (head.in_index, head.in_channels)
            )
            if len(index) == len(wanted):  # else mmseg's "resize_concat", which knows the sum alone
                readers[name] = (head, wanted, index)
    head = getattr(model, "head", None)
    if isinstance(neck, GlobalAveragePooling) and isinstance(getattr(head, "in_channels", None), int):
        readers["head"] = (head, [head.in_channels], [-1])
    return readers
