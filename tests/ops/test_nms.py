from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv import _ext
from mmcv.ops import batched_nms, nms, nms_match, soft_nms
from torch import Tensor
from torchvision.ops import box_iou

GOLDEN_SCENES = [f"s{seed}_n{boxes}" for seed in (0, 1) for boxes in (1, 17, 400, 3000)]
METHODS = ("naive", "linear", "gaussian")

# IoUs of boxes with small whole coordinates are ratios of small numbers, never within rounding of these.
THRESHOLDS = (2**0.5 / 7, 2**0.5 / 3, 2**0.5 / 2)


def golden_scene(golden: Mapping[str, np.ndarray], scene: str) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.from_numpy(golden[f"{scene}_{name}"]) for name in ("boxes", "scores", "idxs"))


@pytest.mark.parametrize("scene", GOLDEN_SCENES)
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_golden(golden: Mapping[str, np.ndarray], scene: str, threshold: float, offset: int) -> None:
    boxes, scores, _ = golden_scene(golden, scene)
    dets, kept = nms(boxes, scores, threshold, offset=offset)
    np.testing.assert_array_equal(kept, golden[f"{scene}_nms_off{offset}_thr{threshold}"])
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[kept])


@pytest.mark.parametrize("scene", GOLDEN_SCENES)
def test_nms_with_score_threshold_golden(golden: Mapping[str, np.ndarray], scene: str) -> None:
    boxes, scores, _ = golden_scene(golden, scene)
    _, kept = nms(boxes, scores, 0.5, score_threshold=0.3, max_num=50)
    np.testing.assert_array_equal(kept, golden[f"{scene}_nms_score0.3_max50"])


@pytest.mark.parametrize("scene", GOLDEN_SCENES)
def test_batched_nms_golden(golden: Mapping[str, np.ndarray], scene: str) -> None:
    dets, kept = batched_nms(*golden_scene(golden, scene), {"type": "nms", "iou_threshold": 0.5})
    np.testing.assert_array_equal(kept, golden[f"{scene}_batched_keep"])
    np.testing.assert_allclose(dets, golden[f"{scene}_batched_dets"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scene", [scene for scene in GOLDEN_SCENES if not scene.endswith("3000")])
@pytest.mark.parametrize("method", METHODS)
def test_soft_nms_golden(golden: Mapping[str, np.ndarray], scene: str, method: str) -> None:
    boxes, scores, _ = golden_scene(golden, scene)
    dets, kept = soft_nms(boxes, scores, iou_threshold=0.3, sigma=0.5, min_score=1e-3, method=method)
    np.testing.assert_array_equal(kept, golden[f"{scene}_soft_{method}_inds"])
    np.testing.assert_allclose(dets, golden[f"{scene}_soft_{method}_dets"], rtol=0, atol=1e-5)


def test_golden_file_is_tested_whole(golden: Mapping[str, np.ndarray]) -> None:
    scenes = {"_".join(name.split("_")[:2]) for name in golden if "_n" in name and "_roi" not in name}
    assert scenes == set(GOLDEN_SCENES)


@st.composite
def scored_boxes(draw: st.DrawFn, equal_scores: bool = False) -> tuple[Tensor, Tensor]:
    """Up to 24 crowded boxes with whole coordinates; scores all different unless ``equal_scores``."""
    corner, size = st.integers(0, 12), st.integers(1, 10)
    rows = draw(st.lists(st.tuples(corner, corner, size, size), min_size=0, max_size=24))
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float32).reshape(-1, 4)
    if equal_scores:
        levels = draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows)))
    else:
        levels = draw(st.permutations(range(1, len(rows) + 1)))
    return boxes, torch.tensor(levels, dtype=torch.float32) / (len(rows) + 4)


def pair_iou(a: np.ndarray, b: np.ndarray, offset: int) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0)
    area_a, area_b = ((x2 - x1 + offset) * (y2 - y1 + offset) for x1, y1, x2, y2 in (a, b))
    return width * height / (area_a + area_b - width * height)


def naive_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    kept = []
    for candidate in np.argsort(-scores, kind="stable"):
        if all(pair_iou(boxes[candidate], boxes[other], offset) <= threshold for other in kept):
            kept.append(int(candidate))
    return kept


@settings(max_examples=100, deadline=None)
@given(scored_boxes(), st.sampled_from(THRESHOLDS), st.sampled_from([0, 1]))
def test_nms_equals_the_definition(scene: tuple[Tensor, Tensor], threshold: float, offset: int) -> None:
    boxes, scores = scene
    _, kept = nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == naive_nms(boxes.double().numpy(), scores.numpy(), threshold, offset)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_nms_survivors_keep_apart_and_the_rest_overlap_a_better_one(seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, 60, 2, generator=generator, dtype=torch.float64) * 50
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.rand(60, generator=generator)
    _, kept = nms(boxes, scores, threshold)
    overlap = box_iou(boxes, boxes[kept])
    assert (overlap[kept] - torch.eye(len(kept))).max() <= threshold + 1e-6
    assert scores[kept].diff().le(0).all()
    dropped = torch.ones(60, dtype=torch.bool).index_fill(0, kept, False)
    suppressors = (overlap >= threshold - 1e-6) & (scores[kept] > scores[:, None])
    assert suppressors[dropped].any(dim=1).all()


@settings(max_examples=50, deadline=None)
@given(scored_boxes(), st.integers(1, 4), st.sampled_from(THRESHOLDS))
def test_batched_nms_treats_classes_independently(scene: tuple[Tensor, Tensor], classes: int, threshold: float) -> None:
    boxes, scores = scene
    if len(boxes) == 0:
        return
    labels = torch.arange(len(boxes)) % classes
    _, kept = batched_nms(boxes, scores, labels, {"type": "nms", "iou_threshold": threshold})
    expected = []
    for label in range(classes):
        members = torch.nonzero(labels == label).squeeze(1)
        expected += members[nms(boxes[members], scores[members], threshold)[1]].tolist()
    assert kept.tolist() == sorted(expected, key=lambda index: -scores[index])


@pytest.mark.parametrize("tenths", range(1, 10))
def test_iou_equal_to_the_threshold_counts_in_soft_nms_and_nms_match_only(tenths: int) -> None:
    boxes, scores = torch.tensor([[0.0, 0, 10, 1], [0.0, 0, tenths, 1]]), torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, tenths / 10)[1].tolist() == [0, 1]
    assert nms(boxes - torch.tensor([0, 0, 1, 1]), scores, tenths / 10, offset=1)[1].tolist() == [0, 1]
    assert soft_nms(boxes, scores, tenths / 10, method="naive")[1].tolist() == [0]
    dets = torch.cat([boxes, scores[:, None]], dim=1)
    assert [group.tolist() for group in nms_match(dets, tenths / 10)] == [[0, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_boxes_are_compared_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    corner, size = torch.rand(2, 200, 2, generator=generator) * 100
    boxes, scores = torch.cat([corner, corner + size], dim=1).to(dtype), torch.rand(200, generator=generator)
    _, kept = nms(boxes, scores, 0.5)
    assert 0 < len(kept) < 200
    assert torch.equal(kept, nms(boxes.float(), scores, 0.5)[1])

    rounded = scores.to(dtype)
    dets, kept = nms(boxes, rounded, 0.5)
    assert torch.equal(dets, torch.cat([boxes, rounded[:, None]], dim=1)[kept])
    assert torch.equal(kept, nms(boxes.float(), rounded.float(), 0.5)[1])

    soft, _ = soft_nms(boxes, scores, method="gaussian")
    assert soft.dtype == dtype
    reference, _ = soft_nms(boxes.float(), scores, method="gaussian")
    torch.testing.assert_close(soft, reference.to(dtype), rtol=0, atol=0)


def test_numpy_in_numpy_out() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]], dtype=np.float32)
    scores = np.array([0.5, 0.9, 0.7], dtype=np.float32)
    for function in (nms, soft_nms):
        dets, kept = function(boxes, scores, iou_threshold=0.5)
        assert isinstance(dets, np.ndarray)
        assert kept.tolist()[:2] == [1, 2]


def test_no_boxes() -> None:
    boxes, scores = torch.zeros(0, 4), torch.zeros(0)
    for dets, kept in (nms(boxes, scores, 0.5), nms(boxes, scores, 0.5, offset=1), soft_nms(boxes, scores)):
        assert dets.shape == (0, 5)
        assert kept.shape == (0,)
        assert kept.dtype == torch.int64
    assert nms_match(torch.zeros(0, 5), 0.5) == []
    assert _ext.nms_match(torch.zeros(0, 5), 0.5) == []


def naive_soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    sigma: float,
    least: float,
    method: str,
    offset: int,
) -> tuple[list[int], list[float]]:
    """Soft-NMS one box at a time: the list shrinks from its end into the place of each box dropped."""
    left = [(float(score), index) for index, score in enumerate(scores)]
    taken = 0
    while taken < len(left):
        best = max(range(taken, len(left)), key=lambda place: (left[place][0], -place))
        left[taken], left[best] = left[best], left[taken]
        place = taken + 1
        while place < len(left):
            score, index = left[place]
            iou = pair_iou(boxes[left[taken][1]], boxes[index], offset)
            if method == "gaussian":
                score *= np.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                score *= 1 - iou if method == "linear" else 0
            if score < least:
                last = left.pop()
                if place < len(left):
                    left[place] = last
            else:
                left[place] = score, index
                place += 1
        taken += 1
    return [index for _, index in left], [score for score, _ in left]


@settings(max_examples=150, deadline=None)
@given(
    scored_boxes(equal_scores=True),
    st.sampled_from(THRESHOLDS),
    st.sampled_from([0.001, 0.13]),
    st.sampled_from(METHODS),
    st.sampled_from([0, 1]),
)
def test_soft_nms_equals_the_definition(
    scene: tuple[Tensor, Tensor], threshold: float, least: float, method: str, offset: int
) -> None:
    boxes, scores = (tensor.double() for tensor in scene)
    dets, kept = soft_nms(boxes, scores, threshold, sigma=0.5, min_score=least, method=method, offset=offset)
    indices, lowered = naive_soft_nms(boxes.numpy(), scores.numpy(), threshold, 0.5, least, method, offset)
    assert kept.tolist() == indices
    assert torch.equal(dets[:, :4], boxes[kept])
    np.testing.assert_allclose(dets[:, 4], lowered, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_soft_nms_of_boxes_without_area(method: str) -> None:
    """Their IoU is 0/0; no score may become NaN of it."""
    dets, kept = soft_nms(torch.tensor([[3.0, 3, 3, 3]] * 3), torch.tensor([0.5, 0.9, 0.7]), method=method)
    assert kept.tolist() == [1, 2, 0]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.7, 0.5]))


def test_softnms_refuses_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="not 3"):
        _ext.softnms(torch.zeros(1, 4), torch.zeros(1), torch.zeros(1, 5), 0.3, 0.5, 0.1, 3, 0)


@settings(max_examples=100, deadline=None)
@given(scored_boxes(), st.sampled_from(THRESHOLDS))
def test_nms_match_groups_by_the_first_kept_box_that_overlaps(scene: tuple[Tensor, Tensor], threshold: float) -> None:
    boxes, scores = scene
    groups = nms_match(torch.cat([boxes, scores[:, None]], dim=1), threshold)
    kept = naive_nms(boxes.double().numpy(), scores.numpy(), threshold, offset=0)
    expected = {index: [index] for index in kept}
    for index in scores.argsort(descending=True).tolist():
        if index not in expected:
            owner = next(k for k in kept if pair_iou(boxes[k].numpy(), boxes[index].numpy(), 0) > threshold)
            expected[owner].append(index)
    assert [group.tolist() for group in groups] == list(expected.values())
