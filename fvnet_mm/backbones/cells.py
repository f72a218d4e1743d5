"""Averages over the cells of a coarser grid, and what they move on the fine one."""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor


def cell_means(x: Tensor, side: int) -> Tensor:
    """Means over cells of ``side`` x ``side`` pixels: (N, C, H, W) -> (N, C, H / side, W / side), rounded up.

    Cells that the edge cuts off are averages of the pixels that they have.
    """
    if not _divides(x, side) or x.dtype.itemsize < 4:  # sums in half precision would overflow
        return F.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False)
    # Sums of rows, then of columns: on a CPU several times as fast as pooling, which is not vectorised there.
    for dim in (-2, -1):
        x = reduce(torch.add, x.unflatten(dim, (-1, side)).unbind(dim))
    return x / side**2


def add_to_cells(x: Tensor, change: Tensor, side: int) -> Tensor:
    """``x`` with each pixel moved by the ``change`` of its cell: (N, C, H, W) and the shape of its cell means."""
    if not _divides(x, side):
        # By a factor, not to a size: only that maps every pixel to its own cell where the last one is cut off.
        upsampled = F.interpolate(change, scale_factor=float(side))
        return x + upsampled[..., : x.shape[-2], : x.shape[-1]]
    rows = change[..., None].expand(*change.shape, side).flatten(-2)
    return (x.unflatten(-2, (-1, side)) + rows[..., None, :]).flatten(-3, -2)


def _divides(x: Tensor, side: int) -> bool:
    return x.shape[-2] % side == 0 and x.shape[-1] % side == 0
