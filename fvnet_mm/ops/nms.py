"""Non-maximum suppression: greedy, soft, and with the suppressed boxes grouped by their suppressor.

Boxes are (x1, y1, x2, y2) in pixels. ``offset`` is added to every width and height: 0 for continuous
coordinates, 1 for coordinates that are indices of the first and last pixel of a box.
"""

import numpy as np
import torch
import torchvision
from torch import Tensor

from fvnet_mm.ops.precision import as_float32, compute_dtype

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2
"""The ways of :func:`softnms` to lower a score, by the numbers that mmcv passes."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: Boxes, (N, 4), on any device, of any floating-point type.
        scores: Scores, (N,).
        iou_threshold: A box goes if its IoU with a kept box of higher score is greater than this.
        offset: 0 or 1, added to widths and heights.

    Returns:
        Indices of the kept boxes, (K,) int64 on the device of ``boxes``, by descending score.
    """
    dtype = compute_dtype(boxes, scores)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    if offset:
        # Moving x2 and y2 adds the offset to widths, heights and intersections alike. Coordinates stay in the
        # type given: whole pixels are exact in float32, and so are ties of their IoUs with the threshold.
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, as_float32(iou_threshold))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017): lowers the scores of overlapping boxes instead of dropping them.

    Takes the box of the highest score again and again and multiplies the scores of those that remain by a
    weight of their IoU with it: ``naive`` 0 from ``iou_threshold`` on, ``linear`` 1 - IoU from
    ``iou_threshold`` on, ``gaussian`` exp(-IoU^2 / sigma).
    Boxes whose score falls below ``min_score`` are dropped. Two boxes without area have the IoU 0; compiled
    mmcv makes the score NaN there in the gaussian method.

    Args:
        boxes: Boxes, (N, 4), on the CPU.
        scores: Scores, (N,), on the CPU.
        dets: Written in place, (N, 5): the first K rows become x1, y1, x2, y2 and the lowered score of the
            kept boxes, in the order in which they were taken.
        iou_threshold: Least IoU that lowers a score (naive and linear).
        sigma: Width of the gaussian.
        min_score: Least score to stay.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0 or 1, added to widths and heights.

    Returns:
        Indices of the kept boxes, (K,) int64, in the order of ``dets``.

    Raises:
        ValueError: ``method`` is none of the three.
    """
    if method not in (NAIVE, LINEAR, GAUSSIAN):
        raise ValueError(f"softnms knows the methods 0 (naive), 1 (linear) and 2 (gaussian), not {method}.")
    dtype = compute_dtype(boxes, scores)
    corners = boxes.detach().to(dtype).numpy().T
    # One column a candidate: corners, area, score. Those taken stand in front, those dropped are overwritten.
    state = np.vstack([corners, _areas(corners, offset), scores.detach().to(dtype).numpy()])
    index = np.arange(state.shape[1])
    threshold, least = as_float32(iou_threshold), as_float32(min_score)

    taken, end = 0, state.shape[1]
    while taken < end:
        best = taken + int(state[5, taken:end].argmax())
        state[:, [taken, best]] = state[:, [best, taken]]
        index[[taken, best]] = index[[best, taken]]
        chosen, taken = state[:, taken], taken + 1

        remaining = state[:, taken:end]
        overlap = _iou(chosen[:5], remaining[:5], offset)
        if method == GAUSSIAN:
            remaining[5] *= np.exp(-(overlap * overlap) / as_float32(sigma))
        else:
            lowered = overlap >= threshold
            remaining[5, lowered] *= 1 - overlap[lowered] if method == LINEAR else 0
        dropped = remaining[5] < least
        if dropped.any():
            end -= int(dropped.sum())
            # The last ones move into the gaps, as in compiled mmcv: among equal scores the first place wins.
            gaps = np.flatnonzero(dropped[: end - taken])
            movers = np.flatnonzero(~dropped[end - taken :])[::-1] + (end - taken)
            remaining[:, gaps] = remaining[:, movers]
            index[taken + gaps] = index[taken + movers]

    dets[:end] = torch.from_numpy(state[[0, 1, 2, 3, 5], :end].T).to(dets)
    return torch.from_numpy(index[:end])


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy non-maximum suppression that reports which boxes each kept box suppressed.

    Unlike in :func:`nms`, an IoU equal to the threshold suppresses, as in compiled mmcv.

    Args:
        dets: Boxes with scores (x1, y1, x2, y2, score), (N, 5), on the CPU.
        iou_threshold: A box joins the group of a kept box of higher score if their IoU is this or greater.

    Returns:
        One list of indices for each kept box, kept boxes by descending score: the kept box, then those it
        suppressed by descending score.
    """
    dets = dets.to(compute_dtype(dets))
    corners = dets[:, :4].numpy().T
    boxes = np.vstack([corners, _areas(corners, offset=0)])
    remaining = dets[:, 4].sort(descending=True, stable=True).indices.numpy()
    threshold = as_float32(iou_threshold)

    groups = []
    while remaining.size:
        kept, others = remaining[0], remaining[1:]
        suppressed = _iou(boxes[:, kept], boxes[:, others], offset=0) >= threshold
        groups.append([int(kept), *others[suppressed].tolist()])
        remaining = others[~suppressed]
    return groups


def _areas(corners: np.ndarray, offset: int) -> np.ndarray:
    x1, y1, x2, y2 = corners
    return (x2 - x1 + offset) * (y2 - y1 + offset)


def _iou(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """IoU of one box, (5,), with others, (5, N), rows x1, y1, x2, y2, area; 0 where the union has no area."""
    width = np.maximum(np.minimum(box[2], others[2]) - np.maximum(box[0], others[0]) + offset, 0)
    height = np.maximum(np.minimum(box[3], others[3]) - np.maximum(box[1], others[1]) + offset, 0)
    intersection = width * height
    union = box[4] + others[4] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)
