"""RoIPool (Girshick, 'Fast R-CNN', ICCV 2015) with mmcv's bins: the maximum over the pixels a bin touches.

mmcv does not round a region to whole pixels before it divides it into bins; torchvision's operator of the
same name does, and gives other results. The forward pass is therefore written here. Regions are (index of the
image in the batch, x1, y1, x2, y2), (K, 5), in pixels of the image; x2 and y2 are the last pixel, so that
widths are x2 - x1 + 1.
"""

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from fvnet_mm.ops.precision import compute_dtype
from fvnet_mm.ops.regions import batches_of_equal_grid

NO_PIXEL = -1
"""What ``argmax`` holds where a bin is empty."""


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Takes the maximum of a feature map over each bin of each region.

    A bin that has no pixel in the feature map, and every bin of a region without width or height, becomes 0
    and passes no gradient. (Compiled mmcv leaves ``argmax`` untouched in a region without width or height,
    which sends that region's gradient to the pixel in the upper left corner.)

    Args:
        input: Feature map, (N, C, H, W).
        rois: Regions, (K, 5).
        output: Written in place, (K, C, pooled_height, pooled_width).
        argmax: Written in place, int32, of the shape of ``output``: index y * W + x of the pixel that won; -1
            where the bin is empty.
        pooled_height: Bins in a column.
        pooled_width: Bins in a row.
        spatial_scale: Feature-map pixels per image pixel.
    """
    dtype = compute_dtype(input)
    regions = rois.to(dtype)
    channels, height, width = input.shape[1:]
    pixels = input.to(dtype).permute(0, 2, 3, 1).reshape(-1, channels)
    first_row = regions[:, 0].long() * height
    corners = (regions[:, 1:] + regions.new_tensor([0, 0, 1, 1])) * spatial_scale
    left, top, right, bottom = corners.unbind(1)
    y_first, y_end = _bins(top, bottom, pooled_height, height)
    x_first, x_end = _bins(left, right, pooled_width, width)
    has_area = (right > left) & (bottom > top)

    output.zero_()
    argmax.fill_(NO_PIXEL)
    for batch, rows, columns in batches_of_equal_grid(
        (y_end - y_first).amax(1) * has_area,
        (x_end - x_first).amax(1),
        pooled_height * pooled_width * channels,
    ):
        y = y_first[batch, :, None] + torch.arange(rows, device=rois.device)
        x = x_first[batch, :, None] + torch.arange(columns, device=rois.device)
        # The bins of a region differ in size; the smaller ones look past their end and mask what they find.
        row_in_bin, column_in_bin = y < y_end[batch, :, None], x < x_end[batch, :, None]
        in_bin = row_in_bin[:, :, None, :, None] & column_in_bin[:, None, :, None, :]
        y, x = y.clamp(max=height - 1)[:, :, None, :, None], x.clamp(max=width - 1)[:, None, :, None, :]
        samples = pixels[(first_row[batch, None, None, None, None] + y) * width + x]
        samples = samples.masked_fill_(~in_bin.unsqueeze(-1), -torch.inf).flatten(3, 4)
        # Of equal pixels max() names the first, the order of mmcv's loop.
        best, winner = samples.max(dim=3)
        position = (y * width + x).flatten(3, 4).gather(3, winner)
        found = in_bin.flatten(3, 4).any(dim=3, keepdim=True)
        output[batch] = torch.where(found, best, 0).permute(0, 3, 1, 2).to(output.dtype)
        argmax[batch] = torch.where(found, position, NO_PIXEL).permute(0, 3, 1, 2).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of :func:`roi_pool_forward` with respect to the feature map, added to ``grad_input``, (N, C, H, W).

    Each bin's gradient goes to the pixel that won, as the forward pass saved it in ``argmax``. Regions get none.
    On CUDA the order of additions is not deterministic.
    """
    dtype = compute_dtype(grad_input)
    grad_input += torch.ops.torchvision._roi_pool_backward(
        grad_output.to(dtype),
        rois.to(dtype),
        argmax,
        spatial_scale,
        pooled_height,
        pooled_width,
        *grad_input.shape,
    ).to(grad_input.dtype)


def _bins(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """First pixel of each bin along one direction and the pixel after its last, (K, bins), in 0..size."""
    bin_size = ((end - start) / bins)[:, None]
    edges = torch.arange(bins + 1, device=start.device) * bin_size + start[:, None]
    first = edges[:, :-1].floor().clamp(0, size)
    return first.long(), edges[:, 1:].ceil().clamp(0, size).long()
