"""The same work after the network for every detector: what its heads give is replaced by fixed numbers.

With random weights no score passes a detector's threshold, or all do, and so the time of decoding, non-maximum
suppression and masks would hang on chance. Here the heads compute, and hand on numbers that depend on nothing but
shapes: all models have the same boxes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmdet.models.dense_heads import AnchorHead
from mmdet.models.roi_heads import StandardRoIHead
from torch import Tensor, nn

from fvnet_mm.errors import UserError

DENSE_CANDIDATES = 200
"""Scores above the threshold, of every image and level: about 1000 candidates for the non-maximum suppression."""

REGION_SHARE = 0.2
"""Share of the proposals that are no background: 200 of 1000."""

Outputs = tuple[list[Tensor], list[Tensor]] | tuple[Tensor, Tensor]


def fix_outputs(model: nn.Module) -> None:
    """Makes a detector's heads hand on fixed scores, and boxes that are their anchors or proposals; others are left.

    Raises:
        UserError: It is a detector of a kind that is not known here.
    """
    regions = getattr(model, "roi_head", None)
    dense = getattr(model, "rpn_head" if regions is not None else "bbox_head", None)
    if dense is None:
        return
    known = isinstance(dense, AnchorHead) and dense.use_sigmoid_cls
    if not known or not (regions is None or isinstance(regions, StandardRoIHead)):
        raise UserError(_refusal(type(dense).__name__))
    dense.register_forward_hook(_Fixed(_dense_scores))
    if regions is not None and regions.with_bbox:
        regions.bbox_head.register_forward_hook(_Fixed(_region_scores))


class _Fixed:
    """Forward hook of a head that gives scores and offsets, tensors or a list of each: fixed scores, no offsets."""

    def __init__(self, scores: Callable[[torch.Size], Tensor]) -> None:
        self._scores = scores
        self._made: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, head: nn.Module, _: object, outputs: Outputs) -> Outputs:
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise UserError(_refusal(type(head).__name__))
        scores, offsets = outputs
        if isinstance(scores, Tensor):
            return self._fixed(scores), torch.zeros_like(offsets)
        return [self._fixed(level) for level in scores], [torch.zeros_like(level) for level in offsets]

    def _fixed(self, like: Tensor) -> Tensor:
        key = (like.shape, like.dtype, like.device)
        if key not in self._made:
            self._made[key] = self._scores(like.shape).to(like)
        return self._made[key]


def _dense_scores(shape: torch.Size) -> Tensor:
    """Logits (N, anchors * classes, H, W), a few of every image above any threshold."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.empty(shape).uniform_(-10, -5, generator=generator)
    for image in logits.flatten(1):
        chosen = torch.randperm(image.numel(), generator=generator)[:DENSE_CANDIDATES]
        image[chosen] = torch.empty(len(chosen)).uniform_(-2, 4, generator=generator)
    return logits


def _region_scores(shape: torch.Size) -> Tensor:
    """Logits (regions, classes + 1), the background last: objects stand above it by margins that differ."""
    generator = torch.Generator().manual_seed(0)
    regions, classes = shape
    logits = torch.zeros(regions, classes)
    logits[:, -1] = 10
    objects = torch.randperm(regions, generator=generator)[: round(REGION_SHARE * regions)]
    margins = torch.empty(len(objects)).uniform_(0, 5, generator=generator)
    logits[objects, torch.randint(classes - 1, (len(objects),), generator=generator)] = 10 + margins
    return logits


def _refusal(head: str) -> str:
    return (
        f"predict with a {head} cannot be timed on random weights: how much it computes depends on scores, which are "
        "fixed for anchor heads with sigmoid scores and the standard RoI head alone; use --what trunk model."
    )
