"""Whether a model's backbone fits what reads it: number, order, channels and strides of its feature maps.

And whether the heads read as many channels as an FPN gives.
"""

import logging
import traceback
from collections.abc import Sequence
from functools import reduce

import torch
from mmengine.logging import print_log
from mmpretrain.models import GlobalAveragePooling
from torch import nn

from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.engine.building import BROKEN, in_words
from fvnet_mm.engine.memory import is_out_of_memory
from fvnet_mm.errors import UserError, enumeration

PROBE = 128
"""Height and width, in pixels, of the blank image that a backbone is tried on."""

_FINEST_FIRST = {"FPN", "UPerHead"}
"""Parts, of mmdet or mmseg, that take feature maps alone, the finest first. YOLOv3's neck reads the coarsest first."""

_WANTED = "a tuple or list of tensors (N, C, H, W) is wanted, one for each of out_indices, the finest first"

_READERS_OF_AN_FPN = {
    "bbox_head": "in_channels",
    "rpn_head": "in_channels",
    "decode_head": "in_channels",
    "auxiliary_head": "in_channels",
    "roi_head.bbox_roi_extractor": "out_channels",
    "roi_head.bbox_head": "in_channels",
    "roi_head.mask_roi_extractor": "out_channels",
    "roi_head.mask_head": "in_channels",
}
"""Parts of a model that read its maps, or regions of them, and what each calls their channels."""


class _NotRun(UserError):
    """A backbone that fails on the blank image."""


@torch.no_grad()
def backbone_shapes(backbone: nn.Module, width: int = PROBE) -> list[torch.Size]:
    """Shapes of a backbone's outputs (1, C, H, W), seen by running it on one blank image of 128 x ``width`` pixels.

    The image has the channels that the first convolution takes.

    The list is empty where outputs are no feature maps (some of mmseg's transformers give pairs of them and a token).

    Raises:
        UserError: It cannot be run on this image, or gives neither a tensor nor a tuple or list.
    """
    name = type(backbone).__name__
    training = {module: module.training for module in backbone.modules()}
    backbone.eval()
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    channels = next((part.in_channels for part in backbone.modules() if isinstance(part, nn.Conv2d)), 3)
    try:
        outputs = backbone(torch.zeros(1, channels, PROBE, width, device=device))
    except BROKEN as error:
        if is_out_of_memory(error):
            raise
        print_log(traceback.format_exc(), "current")
        raise _NotRun(
            f"the backbone {name} fails on a blank image of {PROBE}x{width} pixels, on which every model is tried, and "
            f"a trunk must take images of any size: {in_words(error)}"
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode
    if not isinstance(outputs, torch.Tensor | list | tuple):
        raise UserError(f"the backbone {name} returns a {type(outputs).__name__}; {_WANTED}.")
    features = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [feature.shape for feature in features] if all(map(torch.is_tensor, features)) else []


def check_fit(model: nn.Module, out_indices: object = None, levels: Sequence[int] = ()) -> None:
    """Makes certain that the neck, or the heads where no neck reads them, take what the backbone gives, and the heads
    what an FPN gives.

    Args:
        model: A detector, segmentor or classifier; one without a backbone, or whose readers are unknown, passes.
        out_indices: Those of the backbone's config.
        levels: Stages that a config of the suite reads. Their strides are 4, 8, 16 and 32; where nothing in the model
            depends on them, others are worth a warning.

    Raises:
        UserError: Outputs are no feature maps, or their number, order, channels or strides are not what is read.
    """
    _check_heads(model)
    backbone = getattr(model, "backbone", None)
    readers = {} if backbone is None else _readers(model)
    if not readers:
        return
    try:
        shapes = backbone_shapes(backbone)
    except _NotRun:
        if readers.keys() == {"head"}:  # a classifier may take images of one size alone, and no neck depends on it
            return
        raise
    name = type(backbone).__name__
    strict = any(_is_a(part, _FINEST_FIRST) for part, _, _ in readers.values())
    if strict and (not shapes or any(len(shape) != 4 for shape in shapes)):
        given = f"tensors of shapes {', '.join(str(tuple(shape)) for shape in shapes)}" if shapes else "other things"
        raise UserError(f"the backbone {name} returns {given} for an image of {PROBE}x{PROBE} pixels; {_WANTED}.")
    if not shapes:
        return
    if getattr(backbone, "output_img", False):  # DetectoRS hands on the image, too
        shapes = shapes[1:]
    first, last = ([shape[axis] for shape in shapes] for axis in (1, -1))
    channels_last = any(last == wanted != first for _, wanted, _ in readers.values())
    if strict and channels_last and first == [shape[2] for shape in shapes]:
        raise UserError(
            f"the backbone {name} returns maps (N, H, W, C), with the channels last; return each as (N, C, H, W): "
            "map.permute(0, 3, 1, 2)."
        )
    sizes = [shape[-1] for shape in shapes]
    if strict and sizes != sorted(sizes, reverse=True):
        raise UserError(
            f"the backbone {name} returns maps of strides {_strides(sizes)}, coarse ones before finer ones; return the "
            "finest first."
        )
    for reader, (part, wanted, index) in readers.items():
        _check_channels(name, [shape[1] for shape in shapes], reader, part, wanted, index, out_indices)
    if not _check_strides(model, name, sizes) and len(levels) == len(sizes) and strict:
        expected = [STRIDES[level] for level in levels]
        if not _lie_at(sizes, expected):
            print_log(
                f"the backbone {name} gives maps of strides {_strides(sizes)} where the config's other trunks give "
                f"{enumeration(expected)}: the network runs, at another cost than theirs.",
                "current",
                logging.WARNING,
            )
    if strict:
        _check_oblong(backbone, _oblong_width(model))


def _oblong_width(model: nn.Module) -> int:
    """Width of a blank image that is wider than high: an odd multiple of what test images are padded to, if they are.

    So it is no multiple of more than that, as the images of a test are not.
    """
    preprocessor = getattr(model, "data_preprocessor", None)
    padding = getattr(preprocessor, "test_cfg", None) or {}  # mmseg's
    divisor = getattr(preprocessor, "pad_size_divisor", None) or padding.get("size_divisor") or 1
    times = -(-(PROBE + 32) // divisor)
    return divisor * (times + 1 - times % 2)


def _check_oblong(backbone: nn.Module, width: int) -> None:
    """Warns of a backbone that cannot be run on an oblong image.

    Raises:
        UserError: Its maps are higher than wide there: with height and width exchanged, which no square image shows.
    """
    name = type(backbone).__name__
    try:
        shapes = backbone_shapes(backbone, width)
    except _NotRun as error:
        print_log(f"{error}; a training or its evaluation stops at the first such image.", "current", logging.WARNING)
        return
    for shape in shapes:
        if len(shape) == 4 and shape[-2] > shape[-1]:
            raise UserError(
                f"the backbone {name} returns a map of {shape[-2]}x{shape[-1]} for an image of {PROBE}x{width} pixels: "
                "height and width are exchanged; return maps (N, C, H, W)."
            )


def _check_channels(
    name: str,
    given: list[int],
    reader: str,
    part: nn.Module,
    wanted: list[int],
    index: list[int] | None,
    out_indices: object,
) -> None:
    """Raises a UserError unless a part reads as many channels as the backbone gives at these outputs."""
    reading = f"the {reader} {type(part).__name__}"
    offered = given if index is None else [given[i] for i in index if i < len(given)]
    if wanted == offered or (wanted == offered[::-1] and reader == "neck" and not _is_a(part, _FINEST_FIRST)):
        return
    if isinstance(out_indices, list | tuple) and len(out_indices) != len(given):
        raise UserError(
            f"the backbone {name} returns {len(given)} maps ({given} channels) for out_indices={tuple(out_indices)}; "
            "return one for each of them, the finest first."
        )
    if len(offered) < len(wanted):
        raise UserError(
            f"the backbone {name} gives {len(given)} outputs ({given} channels) but {reading} reads {len(wanted)} "
            f"(up to number {max(index or [len(wanted) - 1])}, from 0); choose a backbone with strides 4, 8, 16 and "
            "32, or fewer levels."
        )
    several = isinstance(part.in_channels, list | tuple)
    raise UserError(
        f"the backbone {name} gives {offered} channels but {reading} expects {wanted}; correct channels in the "
        f"backbone's description if --backbone put it in, else write {reader}=dict(in_channels="
        f"{offered if several else offered[0]}) in the config."
    )


def _check_heads(model: nn.Module) -> None:
    """Raises a UserError unless all that reads an FPN's maps, or regions of them, expects as many channels."""
    neck = getattr(model, "neck", None)
    if neck is None or not _is_a(neck, {"FPN"}):
        return
    for name, key in _READERS_OF_AN_FPN.items():
        part = reduce(lambda owner, inner: getattr(owner, inner, None), name.split("."), model)
        wanted = getattr(part, key, None)
        if wanted is None or getattr(part, "input_transform", None) == "resize_concat":  # which knows the sum alone
            continue
        several = isinstance(wanted, list | tuple)
        given = [neck.out_channels] * len(wanted) if several else neck.out_channels
        if given != (list(wanted) if several else wanted):
            raise UserError(
                f"the neck FPN gives maps of {neck.out_channels} channels but the {name} {type(part).__name__} "
                f"expects {wanted}; set {name}.{key} of the model to {given}, or neck.out_channels to what it expects."
            )


def _check_strides(model: nn.Module, name: str, sizes: list[int]) -> bool:
    """Says whether the head of an FPN states the strides that it needs.

    Raises:
        UserError: The backbone's are others.
    """
    neck = getattr(model, "neck", None)
    if neck is None or not _is_a(neck, {"FPN"}):
        return False
    for head in (getattr(model, part, None) for part in ("bbox_head", "rpn_head", "decode_head")):
        stated = _stated_strides(head)
        if stated is None:
            continue
        taken = sizes[neck.start_level : neck.backbone_end_level]  # the neck computes coarser levels from these
        if not _lie_at(taken, stated[: len(taken)]):
            raise UserError(
                f"the backbone {name} gives the neck maps of strides {_strides(taken)}, which {type(head).__name__} "
                f"takes for {enumeration(stated[: len(taken)])}; correct the strides of the backbone's stages, or the "
                "head's."
            )
        return True
    return False


def _stated_strides(head: nn.Module | None) -> list[float] | None:
    """The strides at which a head places anchors, points or features, one for each of its inputs; None if unknown."""
    strides = getattr(getattr(head, "prior_generator", None), "strides", None)
    if strides is not None:
        return [stride[0] if isinstance(stride, list | tuple) else stride for stride in strides]
    strides = getattr(head, "feature_strides", None)
    in_order = strides is not None and list(head.in_index) == list(range(len(strides)))
    return list(strides) if in_order else None


def _lie_at(sizes: list[int], strides: Sequence[float]) -> bool:
    """Whether maps have the sizes that strides make of the blank image, or one pixel more or less without padding."""
    return all(abs(size - PROBE / stride) <= 1 for size, stride in zip(sizes, strides, strict=False))


def _strides(sizes: list[int]) -> str:
    return enumeration([round(PROBE / size) for size in sizes])


def _is_a(part: nn.Module, names: set[str]) -> bool:
    """Whether a part is of one of these classes; mmdet and mmseg each have some of the same name."""
    return any(base.__name__ in names for base in type(part).__mro__)


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
