"""Regions of interest that need the same number of samples, batched together.

Max pooling of regions looks at a grid of samples whose size differs from region to region. Regions with equal
grids are one tensor operation; so many of them at a time that the samples fit into a bounded amount of
memory.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

MAX_SAMPLES = 2**23
"""Samples held at a time, unless one region alone has more: 32 MiB of float32."""


def batches_of_equal_grid(
    grid_height: Tensor, grid_width: Tensor, samples_per_cell: int
) -> Iterator[tuple[Tensor, int, int]]:
    """Splits regions into batches in which all sampling grids have the same size.

    Args:
        grid_height: Rows of samples of each region, (K,) int64.
        grid_width: Columns of samples of each region, (K,) int64.
        samples_per_cell: Values that one cell of the grid stands for: bins times channels.

    Yields:
        Indices of the regions of a batch, (B,) int64, and their grid's height and width, both 1 at least.
        Regions with an empty grid are in no batch.
    """
    if grid_height.numel() == 0:
        return
    sizes, group, counts = torch.unique(
        torch.stack([grid_height, grid_width], dim=1), dim=0, return_inverse=True, return_counts=True
    )
    members_by_size = group.argsort(stable=True).split(counts.tolist())
    for (height, width), members in zip(sizes.tolist(), members_by_size, strict=True):
        if height > 0 and width > 0:
            regions_at_a_time = max(1, MAX_SAMPLES // (height * width * max(1, samples_per_cell)))
            for batch in members.split(regions_at_a_time):
                yield batch, height, width
