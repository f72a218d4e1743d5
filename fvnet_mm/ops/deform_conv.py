"""Deformable convolution (Dai et al., 'Deformable Convolutional Networks', ICCV 2017).

Offsets are (N, 2 * G * kH * kW, outH, outW) with G deformable groups: for each kernel element first the row's
offset and then the column's, in pixels. ``columns``, ``ones`` and ``im2col_step`` are the workspace of mmcv's
kernels and not used.
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
    """Deformable convolution without bias.

    Args:
        input: (N, C, H, W).
        weight: (outC, C / group, kH, kW).
        offset: (N, 2 * deformable_group * kH * kW, outH, outW).
        output: Written in place, (N, outC, outH, outW).
        columns: Not used.
        ones: Not used.
        kW: Kernel width, as ``weight`` has it.
        kH: Kernel height, as ``weight`` has it.
        dW: Horizontal stride.
        dH: Vertical stride.
        padW: Horizontal padding.
        padH: Vertical padding.
        dilationW: Horizontal dilation.
        dilationH: Vertical dilation.
        group: Groups of channels.
        deformable_group: Groups of channels that share offsets.
        im2col_step: Not used.
    """
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
    """Gradients of :func:`deform_conv_forward` with respect to the input and the offsets.

    Args:
        input: (N, C, H, W).
        offset: (N, 2 * deformable_group * kH * kW, outH, outW).
        gradOutput: Gradient of the output, (N, outC, outH, outW).
        gradInput: The input's gradient is added to it.
        gradOffset: Written in place, of the shape of ``offset``.
        weight: (outC, C / group, kH, kW).
        columns: Not used.
        kW: As in the forward pass, like all that follow.
        kH: Kernel height.
        dW: Horizontal stride.
        dH: Vertical stride.
        padW: Horizontal padding.
        padH: Vertical padding.
        dilationW: Horizontal dilation.
        dilationH: Vertical dilation.
        group: Groups of channels.
        deformable_group: Groups of channels that share offsets.
        im2col_step: Not used.
    """
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
    """Gradient of :func:`deform_conv_forward` with respect to the weight.

    torchvision computes all gradients in one operator, so that a backward pass through mmcv's layer, which
    asks for the input's and the weight's in turn, costs two.

    Args:
        input: (N, C, H, W).
        offset: (N, 2 * deformable_group * kH * kW, outH, outW).
        gradOutput: Gradient of the output, (N, outC, outH, outW).
        gradWeight: The weight's gradient times ``scale`` is added to it, (outC, C / group, kH, kW).
        columns: Not used.
        ones: Not used.
        kW: As in the forward pass, like all that follow.
        kH: Kernel height.
        dW: Horizontal stride.
        dH: Vertical stride.
        padW: Horizontal padding.
        padH: Vertical padding.
        dilationW: Horizontal dilation.
        dilationH: Vertical dilation.
        group: Groups of channels.
        deformable_group: Groups of channels that share offsets.
        scale: Factor of the gradient.
        im2col_step: Not used.
    """
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    # The weight's gradient does not depend on the weight; its shape is all that the operator needs to know.
    gradients = convolve_backward(gradOutput, input, torch.zeros_like(gradWeight), offset, None, geometry)
    gradWeight.add_(gradients.weight.to(gradWeight.dtype), alpha=scale)
