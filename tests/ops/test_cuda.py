"""The operators on CUDA against themselves on the CPU, which the other tests compare with compiled mmcv."""

from collections.abc import Callable

import pytest
import torch
from mmcv.ops import (
    batched_nms,
    deform_conv2d,
    modulated_deform_conv2d,
    nms,
    nms_match,
    roi_align,
    roi_pool,
    sigmoid_focal_loss,
    soft_nms,
    softmax_focal_loss,
)
from torch import Tensor

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def crowded_boxes() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner, size = torch.rand(2, 300, 2, generator=generator) * 100
    return torch.cat([corner, corner + size], dim=1), torch.rand(300, generator=generator)


@pytest.mark.parametrize("offset", [0, 1])
def test_nms(offset: int) -> None:
    boxes, scores = crowded_boxes()
    dets, kept = nms(boxes.to(DEVICE), scores.to(DEVICE), 0.4, offset=offset)
    assert kept.device.type == DEVICE
    expected_dets, expected = nms(boxes, scores, 0.4, offset=offset)
    assert torch.equal(kept.cpu(), expected)
    assert torch.equal(dets.cpu(), expected_dets)
    half = nms(boxes.half().to(DEVICE), scores.to(DEVICE), 0.4, offset=offset)[1]
    assert torch.equal(half.cpu(), nms(boxes.half(), scores, 0.4, offset=offset)[1])


def test_other_suppression() -> None:
    boxes, scores = crowded_boxes()
    labels, config = torch.arange(300) % 3, {"type": "nms", "iou_threshold": 0.4}
    kept = batched_nms(boxes.to(DEVICE), scores.to(DEVICE), labels.to(DEVICE), config)[1]
    assert torch.equal(kept.cpu(), batched_nms(boxes, scores, labels, config)[1])
    kept = soft_nms(boxes.to(DEVICE), scores.to(DEVICE))[1]
    assert kept.device.type == DEVICE
    assert torch.equal(kept.cpu(), soft_nms(boxes, scores)[1])
    dets = torch.cat([boxes, scores[:, None]], dim=1)
    matches = nms_match(dets.to(DEVICE), 0.4)
    assert [group.tolist() for group in matches] == [group.tolist() for group in nms_match(dets, 0.4)]


ROIS = torch.tensor([[0, 4.3, 5.1, 20.7, 30.2], [1, -6.2, 3.3, 9.4, 17.9], [1, 30.1, 20.2, 49.3, 41.8]])
FEATURES = random(2, 3, 9, 11)
CLASS_WEIGHTS = random(5).abs()
TARGET = torch.tensor([0, 1, 2, 3, 4, 2])
OFFSET, MASK = random(2, 18, 9, 11), random(2, 9, 9, 11).sigmoid()
CASES: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], tuple[object, ...]]] = {
    **{
        f"roi_align_{mode}_{ratio}": (roi_align, (FEATURES, ROIS), ((3, 2), 0.25, ratio, mode, True))
        for mode in ("avg", "max")
        for ratio in (0, 2)
    },
    "roi_pool": (roi_pool, (FEATURES, ROIS), ((3, 2), 0.25)),
    "sigmoid_focal_loss": (
        lambda x, t, w: sigmoid_focal_loss(x, t, 2.0, 0.25, w, "sum"),
        (random(6, 5), TARGET, CLASS_WEIGHTS),
        (),
    ),
    "softmax_focal_loss": (
        lambda x, t, w: softmax_focal_loss(x, t, 2.0, 0.25, w, "sum"),
        (random(6, 5), TARGET, CLASS_WEIGHTS),
        (),
    ),
    "deform_conv": (deform_conv2d, (FEATURES, OFFSET, random(4, 3, 3, 3)), (1, 1)),
    "modulated_deform_conv": (
        modulated_deform_conv2d,
        (FEATURES, OFFSET, MASK, random(4, 3, 3, 3), random(4)),
        (1, 1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_output_and_gradient(case: str) -> None:
    operator, operands, arguments = CASES[case]
    results = []
    for device in ("cpu", DEVICE):
        first, *others = (operand.to(device) for operand in operands)
        first = first.clone().requires_grad_()
        output = operator(first, *others, *arguments)
        assert output.device.type == device
        output.square().sum().backward()
        results.append((output.detach().cpu(), first.grad.cpu()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("roi")])
def test_pooling_in_half_precision(case: str, dtype: torch.dtype) -> None:
    operator, (features, rois), arguments = CASES[case]
    features, rois = features.to(dtype), rois.to(dtype)
    output = operator(features.to(DEVICE), rois.to(DEVICE), *arguments)
    expected = operator(features, rois, *arguments)
    torch.testing.assert_close(output.cpu(), expected, rtol=torch.finfo(dtype).eps, atol=1e-4)
