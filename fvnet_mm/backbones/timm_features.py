"""Which features a timm model has, and what a trial run says of it as a trunk."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping
from functools import cache
from typing import NamedTuple

import timm
import torch
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg
from torch import Tensor, nn

from .arch import STRIDES
from .position_bias import make_any_size
from .position_table import make_positions_any_size

_TRIAL_SIZES = {1: (257, 193), STRIDES[-1]: (9 * STRIDES[-1], 11 * STRIDES[-1])}
"""By what they are divisible by: height and width of images that are no multiples of usual windows."""

_REFUSALS = (AssertionError, IndexError, RuntimeError, ValueError)
"""What timm's models raise for images of a size that they do not take."""


class Level(NamedTuple):
    """The last features of a model at one stride."""

    index: int
    """Place among timm's features."""

    channels: int

    module: str
    """Name of the module that gives them."""


class Trial(NamedTuple):
    """What a trial run says of a trunk. Parameters are given by name."""

    size_divisor: int
    """What height and width of images must be divisible by."""

    unused: frozenset[str]
    """Parameters on which no output depends."""

    frozen: frozenset[str]
    """Parameters of the frozen stages."""


def check_name(model_name: str) -> None:
    """Raises ValueError where timm has no such model, or no such tag of its weights."""
    if not timm.is_model(model_name):
        close = difflib.get_close_matches(model_name.lower(), timm.list_models(), n=5)
        hint = f"the closest are {', '.join(close)}" if close else "timm.list_models() lists all"
        raise ValueError(f"timm has no model '{model_name}'; {hint}.")
    try:
        get_pretrained_cfg(model_name)
    except RuntimeError as error:
        tags = ", ".join(get_arch_pretrained_cfgs(model_name))
        raise ValueError(f"timm has no weights '{model_name}'; it has {tags}.") from error


@cache
def classifier(model_name: str) -> nn.Module:
    """The complete model on the meta device. It is shared: leave it as it is."""
    check_name(model_name)
    with torch.device("meta"):
        return timm.create_model(model_name)


def constructor_parameters(model_name: str) -> Mapping[str, inspect.Parameter]:
    """What the constructor of a model's class takes."""
    return inspect.signature(type(classifier(model_name))).parameters


def requested_levels(model_name: str, out_indices: tuple[int, ...]) -> list[Level]:
    """Features at the strides of some stages.

    Raises:
        ValueError: There is no such model, or it has no features at one of these strides.
    """
    levels = _levels(model_name)
    strides = [STRIDES[i] for i in out_indices]
    if not set(strides) <= set(levels):
        possible = tuple(i for i, stride in enumerate(STRIDES) if stride in levels)
        raise ValueError(
            f"timm's '{model_name}' has features at {_in_words(levels)}, but out_indices={out_indices} asks for "
            f"{_in_words(strides)}; choose a model with four stages{f' or out_indices={possible}' if possible else ''}."
        )
    return [levels[stride] for stride in strides]


def pyramid_channels(model_name: str) -> tuple[int | None, ...]:
    """Channels of the last features at strides 4, 8, 16 and 32; None where there are none.

    Raises:
        ValueError: There is no such model, or it has no pyramid of features.
    """
    levels = _levels(model_name)
    return tuple(levels[stride].channels if stride in levels else None for stride in STRIDES)


def _levels(model_name: str) -> dict[int, Level]:
    """The last features by stride."""
    model = classifier(model_name)
    if not hasattr(model, "feature_info") or not hasattr(model, "forward_intermediates"):
        raise ValueError(f"timm's '{model_name}' gives its last features only; a trunk needs a pyramid of them.")
    infos = getattr(model.feature_info, "info", model.feature_info)
    return {info["reduction"]: Level(index, info["num_chs"], info["module"]) for index, info in enumerate(infos)}


def _in_words(strides: Collection[int]) -> str:
    *first, last = map(str, strides)
    return f"strides {', '.join(first)} and {last}" if first else f"stride {last}"


def create_trunk(model_name: str, indices: list[int], **options: float) -> nn.Module:
    """A model that takes any image size, as far as possible, without what lies behind the last of some features."""
    if "dynamic_img_size" in constructor_parameters(model_name):
        options["dynamic_img_size"] = True
    model = timm.create_model(model_name, num_classes=0, **options)
    make_any_size(model)
    make_positions_any_size(model)
    model.prune_intermediate_layers(indices, prune_norm=True)
    return model


def features(model: nn.Module, x: Tensor, indices: list[int]) -> list[Tensor]:
    """Features of a model, each (N, C, H / stride, W / stride)."""
    return model.forward_intermediates(
        x, indices=indices, norm=False, stop_early=True, output_fmt="NCHW", intermediates_only=True
    )


@cache
def try_out(model_name: str, in_channels: int, out_indices: tuple[int, ...], frozen_stages: int) -> Trial:
    """Runs an empty copy of a trunk, in training mode and on the meta device.

    Raises:
        ValueError: The model cannot be this trunk.
    """
    indices = [level.index for level in requested_levels(model_name, out_indices)]
    with torch.device("meta"):
        model = create_trunk(model_name, indices, in_chans=in_channels).train()
    for size_divisor, size in _TRIAL_SIZES.items():
        image = torch.zeros(2, in_channels, *size, device="meta")
        try:
            used = _needed(model, image, indices)
        except _REFUSALS as error:
            refusal = error
            continue
        unused = frozenset(name for name, _ in model.named_parameters()) - used
        return Trial(size_divisor, unused, _frozen(model_name, model, image, frozen_stages))
    reason = str(refusal).partition("\n")[0] or type(refusal).__name__
    raise ValueError(
        f"timm's '{model_name}' does not take images of any size, as a trunk must; choose another model "
        f"(at {size[0]}x{size[1]}: {reason})."
    ) from refusal


def _frozen(model_name: str, model: nn.Module, image: Tensor, frozen_stages: int) -> frozenset[str]:
    if frozen_stages < 0:
        return frozenset()
    stages = {stage: level for stage, stride in enumerate(STRIDES) if (level := _levels(model_name).get(stride))}
    last = max((stage for stage in stages if stage < frozen_stages), default=None)
    if last is not None:
        return _needed(model, image, [stages[last].index])
    first = stages[min(stages)]
    return frozenset(name for name in _needed(model, image, [first.index]) if not name.startswith(f"{first.module}."))


def _needed(model: nn.Module, image: Tensor, indices: list[int]) -> frozenset[str]:
    """Trainable parameters that some features depend on."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.enable_grad():
        outputs = features(model, image, indices)
        gradients = torch.autograd.grad([output.sum() for output in outputs], parameters.values(), allow_unused=True)
    return frozenset(name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None)
