"""Augmentation of whole batches on the device that they are on: flips, and crops of scaled images."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

FILL = 114
"""Grey level of what is outside of an image, as in mmdet's mosaics."""

IGNORED = 255
"""Label of what is outside of a label map."""


class BatchAugmentation(NamedTuple):
    """What happens to each image of a batch of N.

    Attributes:
        flipped: (N,) bool, whether left and right are exchanged.
        zoom: (N,) factors by which images are scaled before a window of the old size is cut out of them, or None.
        shift: (N, 2), where the window is, x before y: from -1 at one end to 1 at the other; None without zoom. A
            smaller image lies likewise in the window.
    """

    flipped: torch.Tensor
    zoom: torch.Tensor | None = None
    shift: torch.Tensor | None = None


def draw_augmentation(count: int, flip: float, zoom: tuple[float, float] | None) -> BatchAugmentation:
    """Draws what happens to ``count`` images from torch's generator of the CPU, so that the device does not matter.

    Args:
        count: Images of the batch.
        flip: Share of flipped ones.
        zoom: Least and largest factor, each as likely as any between them; None for none.
    """
    flipped = torch.rand(count) < flip
    if zoom is None:
        return BatchAugmentation(flipped)
    low, high = zoom
    factors = low + (high - low) * torch.rand(count)
    return BatchAugmentation(flipped, factors, 2 * torch.rand(count, 2) - 1)


def augment_images(images: torch.Tensor, augmentation: BatchAugmentation) -> torch.Tensor:
    """Augments images (N, C, H, W), uint8; bilinearly where they are scaled, and then :data:`FILL` outside of them."""
    if augmentation.zoom is None:
        return flip_rows(images, augmentation.flipped)
    grid = _grid(images, augmentation)
    # Zeros are what is taken outside.
    centred = F.grid_sample(images.float() - FILL, grid, padding_mode="zeros", align_corners=False)
    return (centred + FILL).round_().clamp_(0, 255).to(torch.uint8)


def augment_labels(labels: torch.Tensor, augmentation: BatchAugmentation) -> torch.Tensor:
    """Augments label maps (N, H, W), uint8, as their images; :data:`IGNORED` outside of them."""
    if augmentation.zoom is None:
        return flip_rows(labels, augmentation.flipped)
    grid = _grid(labels, augmentation)
    below = labels[:, None].float() - IGNORED
    taken = F.grid_sample(below, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return (taken[:, 0] + IGNORED).round_().to(torch.uint8)


def flip_rows(batch: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
    """Reverses the last dimension of those entries of the first for which ``flipped`` (N,) is true."""
    chosen = flipped.to(batch.device).view(-1, *[1] * (batch.dim() - 1))
    return torch.where(chosen, batch.flip(-1), batch)


def _grid(batch: torch.Tensor, augmentation: BatchAugmentation) -> torch.Tensor:
    """(N, H, W, 2): where each pixel of the window is taken from, in ``grid_sample``'s coordinates."""
    smaller = 1 / augmentation.zoom
    sign = 1 - 2 * augmentation.flipped.float()
    transform = torch.zeros(len(batch), 2, 3)
    transform[:, 0, 0], transform[:, 1, 1] = smaller * sign, smaller
    transform[:, :, 2] = augmentation.shift * (1 - smaller)[:, None]
    size = (len(batch), 1, *batch.shape[-2:])
    return F.affine_grid(transform.to(batch.device), size, align_corners=False)
