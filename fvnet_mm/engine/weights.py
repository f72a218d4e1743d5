"""Pretrained weights: one initialiser for every trunk, which says what it loaded and refuses what does not fit.

mmengine's own lets any file pass for any network: names that do not match are a warning in the log, and the
training starts from random numbers. Importing this module puts :class:`PretrainedWeights` in its place, under the
name that configs use already.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from fvnet_mm.engine.building import unwrapped
from fvnet_mm.engine.checkpoint import MapLocation, read_checkpoint
from fvnet_mm.engine.download import locate
from fvnet_mm.engine.state_dicts import some_of, under_prefix, weights_in, wrapper_prefixes
from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of

_LIBRARIES_OWN = ("pretrained", "checkpoint_path")  # what mmseg, mmpretrain and timm call such a setting


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded into a module, for the record of a run.

    Attributes:
        source: Path or URL as the config names it.
        sha256: Of the file.
        container: Which part of the file, see :class:`~fvnet_mm.engine.state_dicts.FileContent`.
        averaged: Whether the weights are a moving average over the training.
        prefix: What was taken off the names in the file.
        tensors_loaded: Number of tensors filled.
        tensors_total: Number of tensors of the module; counters of batch norms are left out of both.
        share: Share of the module's values (parameters and buffers) that were filled.
        distilled: Whether a teacher took part in the pretraining; None where the config does not say.
    """

    source: str
    sha256: str
    container: str
    averaged: bool
    prefix: str
    tensors_loaded: int
    tensors_total: int
    share: float
    distilled: bool | None

    def __str__(self) -> str:
        kind = "" if self.distilled is None else "distilled, " if self.distilled else "plain, "
        kind += "averaged, " if self.averaged else ""
        return (
            f"loaded {self.tensors_loaded} of {self.tensors_total} tensors, {percent(self.share)} of parameters, "
            f"sha256 {self.sha256[:8]}, {kind}from {self.source}"
        )


@dataclass(frozen=True)
class PretrainedPart:
    """A part of a model config that starts from weights of its own.

    Attributes:
        part: Where it stands in the config, such as ``backbone``; empty for the whole model.
        checkpoint: Path or URL.
        sha256: As the config states it.
        distilled: As the config states it.
    """

    part: str
    checkpoint: str
    sha256: str | None
    distilled: bool | None


@WEIGHT_INITIALIZERS.register_module(name="Pretrained", force=True)
class PretrainedWeights:
    """Fills a module from a checkpoint file, whoever wrote it.

    Used as ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of any module, after all its other initialisation.
    The averaged weights are taken where a file holds both, as published accuracies are theirs. Of their names, the
    prefix is taken off that leaves the best fit, with or without the module's own
    ``convert_state_dict(state_dict) -> state_dict`` for another library's names. A classifier, and whatever else the
    module does not have, is left aside. What was loaded is kept as the module's ``weights_report``.

    Args:
        checkpoint: Path, http(s) URL, or a name such as ``torchvision://resnet50``.
        prefix: The part of the file to take, such as ``backbone``; by default the one that fits best.
        expected_share: Least share of the module's values, in (0, 1], that the file must fill.
        distilled: Whether a teacher took part in the pretraining; for the record.
        sha256: What the file must hash to, or the first 8 or more digits of it.
        map_location: Where the file is read to.

    Raises:
        UserError: The file cannot be had, fills less than ``expected_share``, or holds values that are not finite.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        expected_share: float = 0.95,
        distilled: bool | None = None,
        sha256: str | None = None,
        map_location: MapLocation = "cpu",
    ) -> None:
        if not 0 < expected_share <= 1:
            raise UserError(
                f"expected_share={expected_share} of the weights from {checkpoint} is no share; "
                "write a number above 0 and at most 1."
            )
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.expected_share = expected_share
        self.distilled = distilled
        self.sha256 = sha256
        self.map_location = map_location

    def __call__(self, module: nn.Module) -> None:
        path = locate(self.checkpoint, self.sha256)
        content = weights_in(read_checkpoint(path, self.map_location), self.checkpoint)
        prefix, tensors = _best_fit(module, content.tensors, self.prefix, self.checkpoint)
        own = {name: tensor.numel() for name, tensor in _weights_of(module)}
        filled, misfits = _fill(module, tensors)
        share = sum(own[name] for name in filled) / max(sum(own.values()), 1)
        report = WeightsReport(
            source=str(self.checkpoint),
            sha256=sha256_of(path),
            container=content.container,
            averaged=content.averaged,
            prefix=prefix,
            tensors_loaded=len(filled),
            tensors_total=len(own),
            share=share,
            distilled=self.distilled,
        )
        gaps = _gaps((name for name in own if name not in filled), misfits)
        if share < self.expected_share:
            raise UserError(
                f"{self.checkpoint} fills only {len(filled)} of {len(own)} tensors, {percent(share)} of parameters, "
                f"of {_network_name(module)} ({percent(self.expected_share)} are expected); {gaps}; "
                f"the file has {len(content.tensors)} tensors, such as {some_of(content.tensors)}: "
                "give weights of this very network, or state a lower expected_share in init_cfg."
            )
        broken = [name for name, tensor in _weights_of(module) if name in filled and not tensor.isfinite().all()]
        if broken:
            raise UserError(
                f"{self.checkpoint} holds values that are no finite numbers, in {some_of(broken)}: the training that "
                "wrote it diverged, or the file is damaged; take another one."
            )
        module.weights_report = report
        if is_main_process():
            MMLogger.get_current_instance().info(f"{report}{gaps and '; '}{gaps}", extra={"announced": True})
        if hasattr(module, "_params_init_info"):  # mmengine's account of what initialised which parameter
            update_init_info(module, init_info=str(report))


def loaded_weights(model: nn.Module) -> dict[str, WeightsReport]:
    """What :class:`PretrainedWeights` loaded into a model and its parts, by the part's name ('' for itself)."""
    model = unwrapped(model)
    reports = ((name, getattr(module, "weights_report", None)) for name, module in model.named_modules())
    return {name: report for name, report in reports if isinstance(report, WeightsReport)}


def pretrained_checkpoints(model: Mapping[str, object]) -> list[PretrainedPart]:
    """The weights that a model config names in any ``init_cfg``.

    Raises:
        UserError: An ``init_cfg`` has an argument that :class:`PretrainedWeights` does not know, or lacks one.
    """
    found = []
    for path, config in _dicts_in(model):
        if not _is_pretrained(config):
            continue
        try:
            weights = PretrainedWeights(**{key: value for key, value in config.items() if key not in ("type", "name")})
        except TypeError as error:
            reason = str(error).replace("PretrainedWeights.__init__() ", "")
            raise UserError(f"init_cfg of the {path or 'model'}: {reason}.") from error
        found.append(PretrainedPart(path, weights.checkpoint, weights.sha256, weights.distilled))
    return found


def fetch_pretrained(model: Mapping[str, object]) -> list[str]:
    """Has all weights that a model config names at hand before anything is built, and says which they are.

    Raises:
        UserError: One of them cannot be had, or its hash is wrong.
    """
    notes = []
    for part in pretrained_checkpoints(model):
        locate(part.checkpoint, part.sha256)
        notes.append(f"{part.part or 'model'} from {part.checkpoint}")
    for path, config in _dicts_in(model):
        notes += [f"{path or 'model'} {key}={config[key]}" for key in _LIBRARIES_OWN if config.get(key)]
    return notes


def remove_pretrained(model: dict[str, object]) -> None:
    """Takes every mention of pretrained weights out of a model config, in place, for training from scratch.

    Removed are ``init_cfg`` of type 'Pretrained', alone or in a list, and the libraries' own settings
    ``pretrained`` and ``checkpoint_path``. The weights of a teacher (``model.teacher.checkpoint``) stay.
    """
    for _, config in list(_dicts_in(model)):
        for key in _LIBRARIES_OWN:
            config.pop(key, None)
        for key, value in list(config.items()):
            if _is_pretrained(value):
                del config[key]
            elif isinstance(value, list | tuple) and any(map(_is_pretrained, value)):
                config[key] = type(value)(part for part in value if not _is_pretrained(part))


def percent(share: float) -> str:
    """A share in words. Rounded down: only all of it is 100 %."""
    return f"{math.floor(share * 1000) / 10:g} %"


def _network_name(module: nn.Module) -> str:
    """What the weights are for: the class, and of timm's models, which all have one class, timm's name."""
    model_name = getattr(module, "model_name", None)
    return f"{type(module).__name__} {model_name}" if isinstance(model_name, str) else type(module).__name__


def _weights_of(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Parameters and saved buffers, without batch norm's counters, which nothing depends on."""
    return [(name, value) for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")]


def _best_fit(
    module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str | None, source: str
) -> tuple[str, dict[str, torch.Tensor]]:
    """The prefix under which a file's tensors fill most of a module, and the tensors under the module's names."""
    if prefix:
        prefixes = [prefix if prefix.endswith(".") else f"{prefix}."]
        if not under_prefix(tensors, prefixes[0]):
            raise UserError(f"{source} has no tensors under prefix={prefix!r}; it has {some_of(tensors)}.")
    else:
        prefixes = [""] if prefix == "" else wrapper_prefixes(tensors)
    shapes = {name: tensor.shape for name, tensor in _weights_of(module)}
    convert = getattr(module, "convert_state_dict", None)
    best: tuple[int, str, dict[str, torch.Tensor]] | None = None
    for candidate in prefixes:
        under = under_prefix(tensors, candidate)
        for renamed in (under, convert(under)) if convert else (under,):
            filled = sum(shape.numel() for name, shape in shapes.items() if _shape(renamed.get(name)) == shape)
            if best is None or filled > best[0]:
                best = filled, candidate, renamed
    return best[1:]


def _shape(tensor: torch.Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def _fill(module: nn.Module, tensors: dict[str, torch.Tensor]) -> tuple[set[str], dict[str, str]]:
    """Loads what fits, after the modules' own conversions on loading (such as resized position tables).

    Returns:
        Names of the tensors filled, and those of another shape, or not of real numbers, with a note of them.
    """
    own = {name for name, _ in _weights_of(module)}
    filled: set[str] = set()
    misfits: dict[str, str] = {}

    def check(part: nn.Module, state_dict: dict[str, torch.Tensor], prefix: str, *_: object) -> None:
        for child, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            name = prefix + child
            if name not in own or name not in state_dict:
                continue
            given = state_dict[name]
            if given.shape != tensor.shape:
                misfits[name] = f"{tuple(given.shape)} instead of {tuple(tensor.shape)}"
            elif tensor.is_floating_point() and not given.is_floating_point():  # quantised; copying would truncate
                misfits[name] = f"{given.dtype} instead of {tensor.dtype}"
            else:
                filled.add(name)
                continue
            del state_dict[name]

    # Hooks run in the order of their registration, so these see what the modules' own have made.
    hooks = [part.register_load_state_dict_pre_hook(check) for part in module.modules()]
    try:
        module.load_state_dict(tensors, strict=False)
    finally:
        for hook in hooks:
            hook.remove()
    return filled, misfits


def _gaps(unfilled: Iterable[str], misfits: dict[str, str]) -> str:
    """What a file does not fill, the first of it by name."""
    missing = [name for name in unfilled if name not in misfits]
    unfit = [f"{name} ({note})" for name, note in misfits.items()]
    notes = [
        f"missing: {some_of(missing)}" if missing else "",
        f"not fitting: {some_of(unfit)}" if unfit else "",
    ]
    return "; ".join(filter(None, notes))


def _is_pretrained(config: object) -> bool:
    if not isinstance(config, dict):
        return False
    kind = config.get("type")
    return kind is PretrainedInit or (isinstance(kind, str) and kind.split(".")[-1] == "Pretrained")


def _dicts_in(config: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every dict in a model config, with the keys that lead to the part it belongs to, such as ``backbone``."""
    if isinstance(config, dict):
        yield path, config
        for key, value in config.items():
            yield from _dicts_in(value, path if key in ("init_cfg", "override") else f"{path}.{key}".lstrip("."))
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _dicts_in(value, path)
