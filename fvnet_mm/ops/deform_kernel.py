"""torchvision's deformable convolution and its gradients, with mmcv's convention at the image's border.

Where an offset puts a sample exactly on the line one pixel above or left of the image, torchvision gives the
offset's derivative from inside, mmcv 0. Offsets that start at zero put all of the padding there; mmcv's 0 is
kept.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from fvnet_mm.ops.precision import compute_dtype


@dataclass(frozen=True)
class Geometry:
    """Strides, paddings and dilations as (rows, columns), and the two kinds of groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deformable_groups: int


class Gradients(NamedTuple):
    """What torchvision's backward operator returns, in its order; each of the shape of its operand."""

    input: Tensor
    weight: Tensor
    offset: Tensor
    mask: Tensor
    bias: Tensor


def convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Deformable convolution of (N, C, H, W), with ones for a mask and zeros for a bias that is None.

    Returns:
        (N, outC, outH, outW), float64 for a float64 input and float32 for any other.
    """
    return torch.ops.torchvision.deform_conv2d(*_operands(input, weight, offset, mask, bias, geometry))


def convolve_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: Geometry,
) -> Gradients:
    """Gradients of :func:`convolve` with respect to all its tensors; that of a mask that is None has no meaning.

    Returns:
        The gradients, float64 for a float64 input and float32 for any other.
    """
    operands = _operands(input, weight, offset, mask, None, geometry)
    gradients = Gradients(*torch.ops.torchvision._deform_conv2d_backward(grad_output.to(operands[0].dtype), *operands))
    gradients.offset.masked_fill_(_sample_positions(operands[2], weight.shape[-2:], geometry) == -1, 0)
    return gradients


def _operands(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: Geometry,
) -> tuple[Tensor | int | bool, ...]:
    """The operands of torchvision's operator, in its order, with stand-ins for a missing mask or bias."""
    dtype = compute_dtype(input)
    return (
        input.to(dtype),
        weight.to(dtype),
        offset.to(dtype),
        input.new_zeros((input.size(0), 1), dtype=dtype) if mask is None else mask.to(dtype),
        input.new_zeros(weight.size(0), dtype=dtype) if bias is None else bias.to(dtype),
        *geometry.stride,
        *geometry.padding,
        *geometry.dilation,
        geometry.groups,
        geometry.deformable_groups,
        mask is not None,
    )


def _sample_positions(offset: Tensor, kernel_size: torch.Size, geometry: Geometry) -> Tensor:
    """Row or column in the input at which each offset lets the kernel sample, of the shape of ``offset``."""
    images, _, *output_size = offset.shape
    rows, columns = (
        (torch.arange(output) * stride - padding) + (torch.arange(kernel) * dilation)[:, None]
        for output, kernel, stride, padding, dilation in zip(
            output_size, kernel_size, geometry.stride, geometry.padding, geometry.dilation, strict=True
        )
    )
    grid = torch.stack(torch.broadcast_tensors(rows[:, None, :, None], columns[None, :, None, :]), dim=2)
    offset = offset.view(images, geometry.deformable_groups, *kernel_size, 2, *output_size)
    return (offset + grid.to(offset.device)).flatten(1, 4)
