"""Deformable convolution (Dai et al., 'Deformable Convolutional Networks', ICCV 2017).

``input`` is (N, C, H, W), ``weight`` (outC, C / group, kH, kW), the output (N, outC, outH, outW). ``offset`` is
(N, 2 * deformable_group * kH * kW, outH, outW): for each group of channels that share offsets and each kernel element
first the row's offset and then the column's, in pixels. A gradient has the shape of what it is of. Kernel sides, which
``weight`` has, too, strides (``dW``, ``dH``), paddings and dilations are given for columns and then for rows.
``columns``, ``ones`` and ``im2col_step`` are the workspace of mmcv's kernels and not used.
"""

import torch
from torch import Tensor

from fvnet_mm.ops.deform_kernel import Geometry, convolve, convolve_backward


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Deformable convolution without bias, written into ``output``."""
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    output.copy_(convolve(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Gradients of :func:`deform_conv_forward`: the input's is added to ``gradInput``, the offsets' is written into
    ``gradOffset``."""
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    gradients = convolve_backward(gradOutput, input, weight, offset, None, geometry)
    gradInput += gradients.input.to(gradInput.dtype)
    gradOffset.copy_(gradients.offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Gradient of :func:`deform_conv_forward` with respect to the weight, times ``scale``, added to ``gradWeight``.

    torchvision computes all gradients in one operator, so that a backward pass through mmcv's layer, which
    asks for the input's and the weight's in turn, costs two.
    """
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    # The weight's gradient does not depend on the weight; its shape is all that the operator needs to know.
    gradients = convolve_backward(gradOutput, input, torch.zeros_like(gradWeight), offset, None, geometry)
    gradWeight.add_(gradients.weight.to(gradWeight.dtype), alpha=scale)
