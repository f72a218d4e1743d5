import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from mmcv import _ext
from mmcv.ops import RoIAlign, roi_align
from torch import Tensor
from torch.autograd import gradcheck

from fvnet_mm.ops import regions

ALIGNED, SAMPLING_RATIOS, POOL_MODES = (True, False), (0, 2), ("avg", "max")

KINDS = list(itertools.product(ALIGNED, SAMPLING_RATIOS, POOL_MODES))
every_kind = pytest.mark.parametrize(("aligned", "sampling_ratio", "pool_mode"), KINDS)


def scene(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Feature maps, 2 x 3 x 9 x 11, and regions at scale 1/4: inside, over the borders, tiny, large."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 9, 11, generator=generator, dtype=torch.float64)
    rois = torch.tensor(
        [
            [0, 4.3, 5.1, 20.7, 30.2],
            [1, -6.2, 3.3, 9.4, 17.9],
            [1, 30.1, 20.2, 49.3, 41.8],
            [0, 11.2, 7.3, 12.1, 8.4],
            [1, 0.6, 0.7, 43.1, 35.2],
        ],
        dtype=torch.float64,
    )
    return features.to(dtype), rois.to(dtype)


@pytest.mark.parametrize("seed", [0, 1])
@every_kind
def test_golden(
    golden: Mapping[str, np.ndarray], seed: int, aligned: bool, sampling_ratio: int, pool_mode: str
) -> None:
    features = torch.from_numpy(golden[f"s{seed}_roi_x"]).requires_grad_()
    layer = RoIAlign((7, 5), 1 / 16, sampling_ratio, pool_mode, aligned)
    output = layer(features, torch.from_numpy(golden[f"s{seed}_rois"]))
    output.backward(torch.linspace(-1, 1, output.numel()).view_as(output))
    name = f"s{seed}_roi_al{aligned:d}_sr{sampling_ratio}_{pool_mode}"
    np.testing.assert_allclose(output.detach(), golden[f"{name}_y"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(features.grad, golden[f"{name}_gx"], rtol=0, atol=1e-5)


def test_golden_file_is_tested_whole(golden: Mapping[str, np.ndarray]) -> None:
    kinds = itertools.product((0, 1), ALIGNED, SAMPLING_RATIOS, POOL_MODES, ("y", "gx"))
    tested = {f"s{seed}_roi_al{al:d}_sr{sr}_{mode}_{what}" for seed, al, sr, mode, what in kinds}
    tested |= {f"s{seed}_{name}" for seed in (0, 1) for name in ("roi_x", "rois")}
    assert {name for name in golden if "roi" in name} == tested


@every_kind
def test_gradient(aligned: bool, sampling_ratio: int, pool_mode: str) -> None:
    features, rois = scene()
    assert gradcheck(
        lambda x: roi_align(x, rois, (3, 2), 0.25, sampling_ratio, pool_mode, aligned),
        features[:, :1].clone().requires_grad_(),
    )


def naive_sample(image: Tensor, y: float, x: float) -> Tensor:
    """Bilinear sample of (C, H, W); the border reaches one pixel out, and beyond it all is 0."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(image.size(0))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = image[:, top, left] * (left + 1 - x) + image[:, top, right] * (x - left)
    lower = image[:, bottom, left] * (left + 1 - x) + image[:, bottom, right] * (x - left)
    return upper * (top + 1 - y) + lower * (y - top)


def naive_max_roi_align(
    features: Tensor, rois: Tensor, bins: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    output = features.new_empty(len(rois), features.size(1), *bins)
    for k, (image, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (corner * scale - 0.5 * aligned for corner in corners)
        size = [bottom - top, right - left] if aligned else [max(bottom - top, 1), max(right - left, 1)]
        samples = [sampling_ratio or math.ceil(size[d] / bins[d]) for d in (0, 1)]
        for row, column in itertools.product(range(bins[0]), range(bins[1])):
            output[k, :, row, column] = torch.stack(
                [
                    naive_sample(
                        features[int(image)],
                        top + (row + (i + 0.5) / samples[0]) * size[0] / bins[0],
                        left + (column + (j + 0.5) / samples[1]) * size[1] / bins[1],
                    )
                    for i, j in itertools.product(range(samples[0]), range(samples[1]))
                ]
            ).amax(0)
    return output


@pytest.mark.parametrize("aligned", ALIGNED)
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
def test_max_pooling_equals_the_definition(aligned: bool, sampling_ratio: int) -> None:
    features, rois = scene()
    output = roi_align(features, rois, (3, 2), 0.25, sampling_ratio, "max", aligned)
    torch.testing.assert_close(
        output, naive_max_roi_align(features, rois, (3, 2), 0.25, sampling_ratio, aligned), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("y", "x"), [(-1, 3), (9, 3), (4, -1), (4, 11)])
def test_a_sample_one_pixel_outside_has_the_borders_value(y: int, x: int) -> None:
    features, _ = scene()
    region = features.new_tensor([[0, x - 1, y - 1, x + 1, y + 1]])
    output = roi_align(features, region, 1, 1.0, 1, "max", False)
    torch.testing.assert_close(output.flatten(), naive_sample(features[0], y, x), rtol=0, atol=0)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(
    dtype: torch.dtype, aligned: bool, sampling_ratio: int, pool_mode: str
) -> None:
    features, rois = scene(dtype)
    features.requires_grad_()
    output = roi_align(features, rois, (3, 2), 0.25, sampling_ratio, pool_mode, aligned)
    reference_features = features.detach().float().requires_grad_()
    reference = roi_align(reference_features, rois.float(), (3, 2), 0.25, sampling_ratio, pool_mode, aligned)
    assert output.dtype == dtype
    assert torch.equal(output, reference.to(dtype))

    upstream = torch.linspace(-1, 1, output.numel()).view_as(output)
    output.backward(upstream.to(dtype))
    reference.backward(upstream.to(dtype).float())
    if pool_mode == "avg":
        assert torch.equal(features.grad, reference_features.grad.to(dtype))
    else:
        # The winners' coordinates were saved in half precision: neighbours share otherwise, the sums agree.
        torch.testing.assert_close(
            features.grad.float().sum((2, 3)),
            reference_features.grad.sum((2, 3)),
            rtol=0,
            atol=8 * torch.finfo(dtype).eps,
        )


@pytest.mark.parametrize("pool_mode", POOL_MODES)
def test_no_regions(pool_mode: str) -> None:
    features, rois = scene()
    output = roi_align(features.requires_grad_(), rois[:0], (3, 2), 0.25, 0, pool_mode, True)
    assert output.shape == (0, 3, 3, 2)
    output.sum().backward()
    assert features.grad.count_nonzero() == 0


@pytest.mark.parametrize(("pool_mode", "value"), [("avg", 0), ("max", -10000)])
def test_region_without_area_has_no_samples(pool_mode: str, value: float) -> None:
    """The values are those of compiled mmcv on the CPU."""
    features, _ = scene()
    rois = torch.tensor([[0, 8.0, 8, 8, 8]], dtype=torch.float64)
    output = roi_align(features.requires_grad_(), rois, 2, 0.25, 0, pool_mode, True)
    assert output.eq(value).all()
    output.sum().backward()
    assert features.grad.count_nonzero() == 0


def test_max_pooling_saves_the_coordinates_of_the_first_winner() -> None:
    """A sample 0.75 pixels above the map equals those on its border row; none can be told from the first."""
    features, rois = torch.zeros(1, 1, 4, 4), torch.tensor([[0, 1.0, -1, 2, 1]])
    output, argmax_y, argmax_x = (torch.full((1, 1, 1, 1), 7.0) for _ in range(3))
    _ext.roi_align_forward(features, rois, output, argmax_y, argmax_x, 1, 1, 1.0, 4, 0, False)
    assert (output.item(), argmax_y.item(), argmax_x.item()) == (0, -0.75, 1.125)


def test_max_pooling_passes_a_nan_on() -> None:
    features, rois = scene()
    features[0, 0] = torch.nan
    output = roi_align(features, rois[:1], 2, 0.25, 2, "max", True)
    assert output[0, 0].isnan().all()
    assert output[0, 1:].isfinite().all()


def test_max_pooling_does_not_depend_on_how_regions_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rois = scene()
    together = roi_align(features, rois.repeat(3, 1), (3, 2), 0.25, 0, "max", True)
    monkeypatch.setattr(regions, "MAX_SAMPLES", 1)
    assert torch.equal(together, roi_align(features, rois.repeat(3, 1), (3, 2), 0.25, 0, "max", True))


@pytest.mark.parametrize("pool_mode", POOL_MODES)
def test_backward_of_a_transposed_gradient(pool_mode: str) -> None:
    features, rois = scene()
    weights = torch.randn(len(rois), 3, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for transposed in (False, True):
        features = features.detach().requires_grad_()
        output = roi_align(features, rois, (4, 2), 0.25, 2, pool_mode, True)
        if transposed:
            (output.transpose(2, 3) * weights).sum().backward()
        else:
            (output * weights.transpose(2, 3).contiguous()).sum().backward()
        gradients.append(features.grad)
    assert torch.equal(*gradients)
