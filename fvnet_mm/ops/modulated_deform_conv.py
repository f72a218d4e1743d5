"""Modulated deformable convolution (Zhu et al., 'Deformable ConvNets v2', CVPR 2019).

Arguments are those of :mod:`fvnet_mm.ops.deform_conv`, but for rows and then for columns; masks are
(N, deformable_group * kH * kW, outH, outW), and ``bias`` is (outC,), or empty if not ``with_bias``. ``columns`` and
``ones`` are the workspace of mmcv's kernels and not used.
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
    """Modulated deformable convolution, every sample multiplied by its mask, written into ``output``."""
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
    """Gradients of :func:`modulated_deform_conv_forward`.

    Those of input, weight and (if ``with_bias``) bias are added to their buffers, those of offsets and masks written.
    """
    geometry = Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), group, deformable_group)
    gradients = convolve_backward(grad_output, input, weight, offset, mask, geometry)
    grad_input += gradients.input.to(grad_input.dtype)
    grad_weight += gradients.weight.to(grad_weight.dtype)
    grad_offset.copy_(gradients.offset)
    grad_mask.copy_(gradients.mask)
    if with_bias:
        grad_bias += gradients.bias.to(grad_bias.dtype)
