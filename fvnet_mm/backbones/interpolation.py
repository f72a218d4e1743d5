"""Resizing tables of learnt values to feature maps of other sizes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Weights = Callable[[int, int, torch.dtype, torch.device], Tensor]
"""Of lengths before and after: what each entry before contributes to each one after, (entries after, before)."""


def resized_table(table: Tensor, size: tuple[int, int], weights: Weights) -> Tensor:
    """A table for a feature map of another size, each of whose entries is a weighted sum of the table's.

    Interpolation that is linear and acts on rows and columns separately is a product with two constant matrices: unlike
    that of :func:`torch.nn.functional.interpolate`, its gradient is deterministic on GPUs. It is done at least in
    float32, under autocast, too.

    Args:
        table: (channels, h, w).
        size: Height and width of the feature map.
        weights: Makes the two matrices.

    Returns:
        (channels, H, W) in the table's dtype, as large as the matrices say.
    """
    dtype = torch.promote_types(table.dtype, torch.float32)
    rows, columns = (weights(old, new, dtype, table.device) for old, new in zip(table.shape[1:], size, strict=True))
    # No matmul, which autocast would do in half precision: (C, h, w) -> (C, H, w) -> (C, H, W).
    resized = (rows[:, :, None] * table[:, None]).sum(2)
    return (columns * resized[:, :, None]).sum(3).to(table.dtype)
