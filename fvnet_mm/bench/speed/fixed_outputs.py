"""The same work after the network for every detector: what its heads give is replaced by fixed numbers.

With random weights no score passes a detector's threshold, or all do, and so the time of decoding, non-maximum
suppression and masks would hang on chance. Here the heads compute, and hand on numbers that depend on nothing but
shapes: all models have the same boxes.
"""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import AnchorHead
from mmdet.models.roi_heads import StandardRoIHead
from torch import Tensor, nn

from fvnet_mm.errors import UserError

DENSE_CANDIDATES = 200
"""Scores above the threshold, of every image and level: about 1000 candidates for the non-maximum suppression."""

REGION_SHARE = 0.2
"""Share of the proposals that are no background: 200 of 1000."""


def fix_outputs(model: nn.Module) -> None:
    """Makes a detector's heads hand on fixed scores, and boxes that are their anchors or proposals; others are left.

    Raises:
        UserError: It is a detector of a kind that is not known here.
    """
    regions = getattr(model, "roi_head", None)
    dense = getattr(model, "rpn_head" if regions is not None else "bbox_head", None)
    if dense is None:
        return
    if not isinstance(dense, AnchorHead) or not (regions is None or isinstance(regions, StandardRoIHead)):
        raise UserError(
            f"predict of a {type(model).__name__} with {type(dense).__name__} cannot be timed on random weights: how "
            "much it computes depends on scores, which are fixed for anchor heads and the standard RoI head alone; "
            "use --what trunk model."
        )
    dense.register_forward_hook(_FixedDense(softmax=not dense.use_sigmoid_cls))
    if regions is not None and regions.with_bbox:
        regions.bbox_head.register_forward_hook(_FixedRegions())


class _FixedDense:
    """Forward hook of an anchor head: maps of scores and of offsets, a pair of lists with one of each per level."""

    def __init__(self, softmax: bool) -> None:
        self._softmax = softmax
        self._made: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, head: AnchorHead, _: object, outputs: object) -> tuple[list[Tensor], list[Tensor]]:
        if not isinstance(outputs, tuple) or len(outputs) != 2 or self._softmax:
            raise UserError(
                f"predict of {type(head).__name__} cannot be timed on random weights: it gives more than sigmoid "
                "scores and boxes; use --what trunk model."
            )
        scores, offsets = outputs
        return [self._scores(level) for level in scores], [torch.zeros_like(level) for level in offsets]

    def _scores(self, like: Tensor) -> Tensor:
        key = (like.shape, like.dtype, like.device)
        if key not in self._made:
            generator = torch.Generator().manual_seed(0)
            flat = torch.empty(len(like), like[0].numel()).uniform_(-10, -5, generator=generator)
            for image in flat:
                chosen = torch.randperm(image.numel(), generator=generator)[:DENSE_CANDIDATES]
                image[chosen] = torch.empty(len(chosen)).uniform_(-2, 4, generator=generator)
            self._made[key] = flat.view_as(like).to(like)
        return self._made[key].clone()


class _FixedRegions:
    """Forward hook of a box head: logits (regions, classes + 1), the background last, and offsets."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, _head: nn.Module, _: object, outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        logits, offsets = outputs
        key = (logits.shape, logits.dtype, logits.device)
        if key not in self._made:
            generator = torch.Generator().manual_seed(0)
            regions, classes = logits.shape
            fixed = torch.zeros(regions, classes)
            fixed[:, -1] = 10
            objects = torch.randperm(regions, generator=generator)[: round(REGION_SHARE * regions)]
            # Above the background by margins that differ, as scores of a trained head do.
            margins = torch.empty(len(objects)).uniform_(0, 5, generator=generator)
            fixed[objects, torch.randint(classes - 1, (len(objects),), generator=generator)] = 10 + margins
            self._made[key] = fixed.to(logits)
        return self._made[key].clone(), torch.zeros_like(offsets)
