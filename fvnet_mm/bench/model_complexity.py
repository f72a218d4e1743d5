"""How large a whole detector, segmentor or classifier is and how much it multiplies, part by part."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from fvnet_mm.bench.complexity import count_forward, count_parameters
from fvnet_mm.engine.runner import build_model
from fvnet_mm.errors import UserError
from fvnet_mm.records import Complexity

DETECTION_SHAPE = (800, 1280)
"""Height and width at which published tables count detectors: mmdet's '1280x800'."""

SEGMENTATION_SHAPE = (512, 512)
"""Height and width at which published tables count Semantic FPN: the training crop."""

WIDE_SEGMENTATION_SHAPE = (512, 2048)
"""Height and width at which published tables count UperNet (Liu et al., 'Swin Transformer', table 3, and after it)."""

CLASSIFICATION_SHAPE = (224, 224)

_CUSTOMARY_SHAPES = {
    "mmdet": DETECTION_SHAPE,
    "mmseg": SEGMENTATION_SHAPE,
    "mmpretrain": CLASSIFICATION_SHAPE,
}

PROPOSALS, MASKED_PROPOSALS = 1000, 100
"""Regions that go through the box head and the mask head of a two-stage detector when it is counted.

mmdet 2's ``forward_dummy``, which its ``get_flops.py`` and so most published tables used, takes 1000 random
proposals and the first 100 of them for masks (``StandardRoIHead``: ``mask_rois = rois[:100]``). mmdet 3's
``get_flops.py`` takes the at most 1000 proposals of real images, and again the first 100 for masks."""


def customary_shape(cfg: Config) -> tuple[int, int]:
    """Height and width at which the suite counts the model of a config: 1280x800, 512x512 or 224x224, by library.

    Raises:
        UserError: Its ``default_scope`` is neither mmdet nor mmseg nor mmpretrain.
    """
    scope = cfg.get("default_scope")
    if scope not in _CUSTOMARY_SHAPES:
        known = ", ".join(_CUSTOMARY_SHAPES)
        raise UserError(f"{cfg.filename or 'the config'}: default_scope is {scope!r} and must be one of {known}.")
    return _CUSTOMARY_SHAPES[scope]


def count_model(model: nn.Module | Config, shape: tuple[int, int]) -> Complexity:
    """Counts a model at test time on one image, as :func:`fvnet_mm.bench.complexity.count_macs` counts.

    Detectors: all levels go through the dense head or the RPN; regions through the others as
    :data:`PROPOSALS` says. Not counted: what turns outputs into boxes (decoding, NMS, RoIAlign, pasting of masks).
    Segmentors: the decode head, without resizing its output to the image's size.

    Args:
        model: A model of mmdet (one-stage, or two-stage with one RoI head), mmseg (encoder and decoder) or
            mmpretrain (image classifier), or a config that has one. A config's model is built without weights.
        shape: Height and width of the image, in pixels.

    Returns:
        Of the parts in the order of the forward pass. One that does not run at test time, such as an auxiliary head,
        has parameters and no MACs.

    Raises:
        UserError: The config's model cannot be built, or it is of a kind that has no counting here.
    """
    if isinstance(model, nn.Module):
        return _count(model, shape)
    with DefaultScope.overwrite_default_scope(model.get("default_scope")):
        try:
            with torch.device("meta"):
                built = MODELS.build(model.model)
            return _count(built, shape)
        except UserError:
            raise
        except Exception:  # a part that looks at values when it is built or run; a mistake in the config shows again
            return _count(build_model(model.model), shape)


def _count(model: nn.Module, shape: tuple[int, int]) -> Complexity:
    parts = parts_of(model)
    parameters = {name: count_parameters(part) for name, part in parts.items()}
    if sum(parameters.values()) != count_parameters(model):
        known = ", ".join(parts) or "none"
        raise UserError(
            f"a {type(model).__name__} cannot be counted part by part: it has parameters outside the parts that are "
            f"known here ({known}), or parts that share them."
        )
    features, backbone_macs = count_forward(parts["backbone"], (1, 3, *shape))
    macs = {"backbone": backbone_macs}
    if "neck" in parts:
        features, macs["neck"] = count_forward(parts["neck"], features)
    for name, inputs in head_inputs(model, features):
        macs[name] = count_forward(parts[name], inputs)[1]
    return Complexity(parameters=parameters, macs=macs, shape=shape)


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a model that may have parameters, by name, in the order of the forward pass."""
    regions = getattr(model, "roi_head", None)
    candidates = {
        "backbone": getattr(model, "backbone", None),
        "neck": getattr(model, "neck", None),
        "rpn_head": getattr(model, "rpn_head", None),
        "bbox_head": getattr(model if regions is None else regions, "bbox_head", None),
        "mask_head": getattr(regions, "mask_head", None),
        "decode_head": getattr(model, "decode_head", None),
        "auxiliary_head": getattr(model, "auxiliary_head", None),
        "head": getattr(model, "head", None),
    }
    return {name: part for name, part in candidates.items() if isinstance(part, nn.Module)}


def head_inputs(model: nn.Module, features: object) -> Iterator[tuple[str, object]]:
    """The heads that run at test time, and what each is given: features, or the shape of regions of them.

    Raises:
        UserError: The model has no head that is known here, or several for a region.
    """
    regions = getattr(model, "roi_head", None)
    if regions is not None:
        if isinstance(regions.bbox_head, nn.ModuleList):
            raise UserError(f"a {type(model).__name__} cannot be counted: it has several heads for a region.")
        yield "rpn_head", features
        for name, count in (("bbox", PROPOSALS), ("mask", MASKED_PROPOSALS)):
            if getattr(regions, f"with_{name}"):
                extractor = getattr(regions, f"{name}_roi_extractor")
                yield f"{name}_head", (count, extractor.out_channels, *extractor.roi_layers[0].output_size)
        return
    for name in ("bbox_head", "decode_head", "head"):
        if isinstance(getattr(model, name, None), nn.Module):
            yield name, features
            return
    raise UserError(f"a {type(model).__name__} cannot be counted: it has no head that is known here.")
