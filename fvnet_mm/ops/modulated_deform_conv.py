"""Modulated deformable convolution (Zhu et al., 'Deformable ConvNets v2', CVPR 2019).

Offsets are those of :mod:`fvnet_mm.ops.deform_conv`; masks are (N, G * kH * kW, outH, outW) with G deformable
groups. ``columns`` and ``ones`` are the workspace of mmcv's kernels and not used.
"""

from torch import Tensor

from fvnet_mm.ops.deform_kernel import Geometry, convolve, convolve_backward


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Modulated deformable convolution: every sample is multiplied by its mask.

    Args:
        input: (N, C, H, W).
        weight: (outC, C / group, kernel_h, kernel_w).
        bias: (outC,), or empty if not ``with_bias``.
        ones: Not used.
        offset: (N, 2 * deformable_group * kernel_h * kernel_w, outH, outW).
        mask: (N, deformable_group * kernel_h * kernel_w, outH, outW).
        output: Written in place, (N, outC, outH, outW).
        columns: Not used.
        kernel_h: Kernel height, as ``weight`` has it.
        kernel_w: Kernel width, as ``weight`` has it.
        stride_h: Vertical stride.
        stride_w: Horizontal stride.
        pad_h: Vertical padding.
        pad_w: Horizontal padding.
        dilation_h: Vertical dilation.
        dilation_w: Horizontal dilation.
        group: Groups of channels.
        deformable_group: Groups of channels that share offsets and masks.
        with_bias: Whether to add the bias.
    """
    geometry = Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), group, deformable_group)
    output.copy_(convolve(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Gradients of :func:`modulated_deform_conv_forward` with respect to everything.

    Args:
        input: (N, C, H, W).
        weight: (outC, C / group, kernel_h, kernel_w).
        bias: (outC,), or empty if not ``with_bias``.
        ones: Not used.
        offset: (N, 2 * deformable_group * kernel_h * kernel_w, outH, outW).
        mask: (N, deformable_group * kernel_h * kernel_w, outH, outW).
        columns: Not used.
        grad_input: The input's gradient is added to it.
        grad_weight: The weight's gradient is added to it.
        grad_bias: The bias's gradient is added to it if ``with_bias``.
        grad_offset: Written in place.
        grad_mask: Written in place.
        grad_output: Gradient of the output, (N, outC, outH, outW).
        kernel_h: As in the forward pass, like all that follow.
        kernel_w: Kernel width.
        stride_h: Vertical stride.
        stride_w: Horizontal stride.
        pad_h: Vertical padding.
        pad_w: Horizontal padding.
        dilation_h: Vertical dilation.
        dilation_w: Horizontal dilation.
        group: Groups of channels.
        deformable_group: Groups of channels that share offsets and masks.
        with_bias: Whether there is a bias.
    """
    geometry = Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), group, deformable_group)
    gradients = convolve_backward(grad_output, input, weight, offset, mask, geometry)
    grad_input += gradients.input.to(grad_input.dtype)
    grad_weight += gradients.weight.to(grad_weight.dtype)
    grad_offset.copy_(gradients.offset)
    grad_mask.copy_(gradients.mask)
    if with_bias:
        grad_bias += gradients.bias.to(grad_bias.dtype)
