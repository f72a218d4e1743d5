"""RoIAlign (He et al., 'Mask R-CNN', ICCV 2017): bins of bilinear samples, averaged or maximised.

Average pooling is torchvision's operator. Max pooling, which torchvision does not have, is written here.
Regions are (index of the image in the batch, x1, y1, x2, y2), (K, 5), in pixels of the image.
"""

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from fvnet_mm.ops.precision import compute_dtype
from fvnet_mm.ops.regions import batches_of_equal_grid

MAX_POOLING, AVERAGE_POOLING = 0, 1
"""The values of ``pool_mode`` that mmcv passes."""

NO_SAMPLE = -1.0
"""What ``argmax_y`` and ``argmax_x`` hold where a bin has no sample.

This is mmcv's mark. A winning row of exactly -1, the last that still counts as inside, reads the same and
passes no gradient either."""


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pools a feature map over regions into bins of a fixed number.

    A sample up to one pixel outside the feature map takes the border's value; one farther outside is 0. In
    max pooling a region of no width or height under adaptive sampling has no samples: its bins become the
    value that compiled mmcv starts its maximum with, -10000 on the CPU and the lowest float32 on other
    devices.

    Args:
        input: Feature map, (N, C, H, W).
        rois: Regions, (K, 5).
        output: Written in place, (K, C, aligned_height, aligned_width).
        argmax_y: Written in place in max pooling: row, in the feature map, of the sample that won, of the
            shape of ``output``; -1 where there is none. Not touched in average pooling.
        argmax_x: Likewise, the column.
        aligned_height: Bins in a column.
        aligned_width: Bins in a row.
        spatial_scale: Feature-map pixels per image pixel.
        sampling_ratio: Samples in each direction in a bin; 0 takes one per started feature-map pixel.
        pool_mode: 0 max pooling, 1 average pooling.
        aligned: Shift by half a pixel, so that pixel centres lie at integers plus 1/2 in the image. False is
            the behaviour of old checkpoints: no shift, and no region is smaller than one pixel.
    """
    dtype = compute_dtype(input)
    features, regions = input.to(dtype), rois.to(dtype)
    if pool_mode == AVERAGE_POOLING:
        output.copy_(
            torch.ops.torchvision.roi_align(
                features, regions, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
            )
        )
        return

    channels, height, width = features.shape[1:]
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
    image = regions[:, 0].long()
    top, bin_height, grid_height = _bins(
        regions[:, 2], regions[:, 4], aligned_height, spatial_scale, sampling_ratio, aligned
    )
    left, bin_width, grid_width = _bins(
        regions[:, 1], regions[:, 3], aligned_width, spatial_scale, sampling_ratio, aligned
    )
    # mmcv's start on a GPU is float32's least value, which is -inf in half precision.
    floor = -10000.0 if features.device.type == "cpu" else torch.finfo(torch.float32).min
    output.copy_(torch.full_like(output, floor, dtype=dtype))
    argmax_y.fill_(NO_SAMPLE)
    argmax_x.fill_(NO_SAMPLE)
    for batch, rows, columns in batches_of_equal_grid(
        grid_height, grid_width, aligned_height * aligned_width * channels
    ):
        y = _sample_coordinates(top[batch], bin_height[batch], aligned_height, rows)
        x = _sample_coordinates(left[batch], bin_width[batch], aligned_width, columns)
        samples = _bilinear(pixels, image[batch], y, x, height, width).flatten(3, 4)
        # Of equal samples max() names the first, the order of mmcv's loop.
        best, winner = samples.max(dim=3)
        best_y = y.unsqueeze(2).expand(-1, -1, aligned_width, -1).gather(3, winner // columns)
        best_x = x.unsqueeze(1).expand(-1, aligned_height, -1, -1).gather(3, winner % columns)
        found = ~(best <= floor)  # a NaN counts, so that it shows in the output
        for buffer, values, otherwise in (
            (output, best, floor),
            (argmax_y, best_y, NO_SAMPLE),
            (argmax_x, best_x, NO_SAMPLE),
        ):
            buffer[batch] = torch.where(found, values, otherwise).permute(0, 3, 1, 2).to(buffer.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward` with respect to the feature map; its other arguments are those.

    Max pooling hands a bin's gradient to the four neighbours of the sample that the forward pass saved,
    average pooling to those of every sample. Regions get no gradient. On CUDA the order of additions is not
    deterministic.

    Args:
        grad_output: Gradient of the output, (K, C, aligned_height, aligned_width).
        argmax_y, argmax_x: Saved by the forward pass; empty in average pooling.
        grad_input: The gradient is added to it, (N, C, H, W).
    """
    dtype = compute_dtype(grad_input)
    gradient, regions = grad_output.to(dtype), rois.to(dtype)
    images, channels, height, width = grad_input.shape
    if pool_mode == AVERAGE_POOLING:
        grad_input += torch.ops.torchvision._roi_align_backward(
            gradient,
            regions,
            spatial_scale,
            aligned_height,
            aligned_width,
            images,
            channels,
            height,
            width,
            sampling_ratio,
            aligned,
        ).to(grad_input.dtype)
        return

    gradient = torch.where(argmax_y == NO_SAMPLE, 0, gradient)
    plane = regions[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    plane = plane[:, :, None, None] * (height * width)
    total = torch.zeros_like(grad_input, dtype=dtype, memory_format=torch.contiguous_format)
    for row, row_weight in _neighbours(argmax_y.to(dtype), height):
        for column, column_weight in _neighbours(argmax_x.to(dtype), width):
            total.view(-1).index_add_(
                0,
                (plane + row * width + column).flatten(),
                (gradient * (row_weight * column_weight)).flatten(),
            )
    grad_input += total.to(grad_input.dtype)


def _bins(
    start: Tensor, end: Tensor, bins: int, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Start of each region, size of its bins and samples in a bin, all (K,), along one direction."""
    shift = 0.5 if aligned else 0.0
    start, end = start * spatial_scale - shift, end * spatial_scale - shift
    size = end - start if aligned else (end - start).clamp(min=1)
    samples = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else (size / bins).ceil()
    return start, size / bins, samples.long()


def _sample_coordinates(start: Tensor, bin_size: Tensor, bins: int, samples: int) -> Tensor:
    """Coordinates of samples along one direction, (B, bins, samples)."""
    bin_start = start[:, None] + torch.arange(bins, device=start.device) * bin_size[:, None]
    within = (torch.arange(samples, device=start.device) + 0.5) * bin_size[:, None] / samples
    return bin_start[:, :, None] + within[:, None, :]


def _neighbours(coordinate: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two pixels around a coordinate along a direction of ``size`` pixels, each with its bilinear weight.

    Up to one pixel outside, the border pixel has the whole weight; farther outside both weights are 0.
    """
    inside = (coordinate >= -1) & (coordinate <= size)
    coordinate = coordinate.clamp(0, size - 1)
    low = coordinate.floor()
    high_weight = coordinate - low
    low = low.long()
    return (low, (1 - high_weight) * inside), ((low + 1).clamp(max=size - 1), high_weight * inside)


def _bilinear(pixels: Tensor, image: Tensor, y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Samples images bilinearly on the grid of rows and columns of each region.

    Args:
        pixels: Pixels of all images of ``height`` x ``width``, (N * height * width, C).
        image: Image of each region, (B,).
        y: Rows of the samples, (B, bins_h, samples_h).
        x: Columns of the samples, (B, bins_w, samples_w).

    Returns:
        Samples, (B, bins_h, bins_w, samples_h, samples_w, C).
    """
    first_row = (image * height)[:, None, None, None, None]
    total = None
    for row, row_weight in _neighbours(y[:, :, None, :, None], height):
        for column, column_weight in _neighbours(x[:, None, :, None, :], width):
            weighted = pixels[(first_row + row) * width + column].mul_((row_weight * column_weight).unsqueeze(-1))
            total = weighted if total is None else total.add_(weighted)
    return total
