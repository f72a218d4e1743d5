import itertools
import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIPool, roi_pool
from torch import Tensor
from torch.autograd import gradcheck

from fvnet_mm.ops import regions


def feature_maps(dtype: torch.dtype = torch.float64) -> Tensor:
    """Feature maps of 2 images, 3 x 9 x 11, all values different."""
    values = torch.randperm(2 * 3 * 9 * 11, generator=torch.Generator().manual_seed(0))
    return values.view(2, 3, 9, 11).to(dtype) / 8 - 30


def naive_roi_pool(features: Tensor, rois: Tensor, bins: tuple[int, int], scale: float) -> Tensor:
    output = features.new_zeros(len(rois), features.size(1), *bins)
    for k, (image, left, top, right, bottom) in enumerate(rois.tolist()):
        start, end = (top * scale, left * scale), ((bottom + 1) * scale, (right + 1) * scale)
        if end[0] <= start[0] or end[1] <= start[1]:
            continue
        for place in itertools.product(range(bins[0]), range(bins[1])):
            pixels = []
            for d in (0, 1):
                size = (end[d] - start[d]) / bins[d]
                first, after = (
                    math.floor(place[d] * size + start[d]),
                    math.ceil((place[d] + 1) * size + start[d]),
                )
                pixels.append(slice(max(first, 0), max(after, 0)))
            found = features[int(image), :, pixels[0], pixels[1]].flatten(1)
            if found.size(1):
                output[k, :, place[0], place[1]] = found.amax(1)
    return output


coordinates = st.integers(-64, 400).map(lambda eighths: eighths / 8)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), *[coordinates] * 4), min_size=1, max_size=6),
    st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 8])),
    st.sampled_from([1, 0.25, 0.125]),
)
def test_equals_the_definition(rois: list[tuple[float, ...]], bins: tuple[int, int], scale: float) -> None:
    """Regions of any kind: over the border, outside, without area. Eighths keep the bins' edges exact."""
    features, rois = feature_maps(), torch.tensor(rois, dtype=torch.float64)
    assert torch.equal(roi_pool(features, rois, bins, scale), naive_roi_pool(features, rois, bins, scale))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 10), st.integers(0, 8), st.integers(0, 9), st.integers(0, 9)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([1, 2, (4, 2)]),
)
def test_equals_torchvision_where_regions_are_whole_pixels(
    boxes: list[tuple[int, ...]], bins: int | tuple[int, int]
) -> None:
    features = feature_maps(torch.float32)
    rois = torch.tensor([(image, x, y, x + w, y + h) for image, x, y, w, h in boxes], dtype=torch.float32)
    assert torch.equal(RoIPool(bins)(features, rois), torchvision.ops.roi_pool(features, rois, bins))


ROIS = [
    [0, 4.3, 5.1, 20.7, 30.2],
    [1, -6.2, 3.3, 9.4, 17.9],
    [1, 30.1, 20.2, 49.3, 41.8],
    [0, 60, 60, 70, 70],
]


def test_gradient() -> None:
    rois = torch.tensor(ROIS, dtype=torch.float64)
    assert gradcheck(lambda x: roi_pool(x, rois, (3, 2), 0.25), feature_maps()[:, :1].clone().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    features, rois = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0)), torch.tensor(ROIS)
    features, rois = features.to(dtype).requires_grad_(), rois.to(dtype)
    output = roi_pool(features, rois, (3, 2), 0.25)
    assert output.dtype == dtype
    assert torch.equal(output, roi_pool(features.float(), rois.float(), (3, 2), 0.25).to(dtype))
    output.sum().backward()
    assert features.grad.dtype == dtype
    assert features.grad.sum() == output.count_nonzero()


@pytest.mark.parametrize("corners", [(8.0, 8, 4, 20), (8.0, 8, 20, 7), (200.0, 8, 240, 20)])
def test_region_without_pixels_is_zero_and_passes_no_gradient(corners: tuple[float, ...]) -> None:
    features = (feature_maps() - 1000).requires_grad_()
    output = roi_pool(features, torch.tensor([[0, *corners]], dtype=torch.float64), 2, 0.25)
    assert output.count_nonzero() == 0
    output.sum().backward()
    assert features.grad.count_nonzero() == 0


def test_no_regions() -> None:
    features = feature_maps().requires_grad_()
    output = roi_pool(features, torch.zeros(0, 5, dtype=torch.float64), (3, 2), 0.25)
    assert output.shape == (0, 3, 3, 2)
    output.sum().backward()
    assert features.grad.count_nonzero() == 0


def test_of_equal_pixels_the_first_gets_the_gradient() -> None:
    features = torch.zeros(1, 1, 4, 4, requires_grad=True)
    roi_pool(features, torch.tensor([[0, 1.0, 1, 2, 2]]), 1, 1.0).sum().backward()
    assert features.grad.nonzero().tolist() == [[0, 0, 1, 1]]


def test_does_not_depend_on_how_regions_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rois = feature_maps(), torch.tensor(ROIS * 3, dtype=torch.float64)
    together = roi_pool(features, rois, (3, 2), 0.25)
    monkeypatch.setattr(regions, "MAX_SAMPLES", 1)
    assert torch.equal(together, roi_pool(features, rois, (3, 2), 0.25))
