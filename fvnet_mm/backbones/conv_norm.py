"""Convolution followed by a norm: the one place where a norm can be folded away."""

from __future__ import annotations

import copy

from mmcv.cnn import build_norm_layer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights


class ConvNorm(nn.Sequential):
    """Convolution without bias, then a norm: (N, C, H, W) -> (N, C', H/s, W/s), rounded up.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd side of the kernel, in pixels of the input grid.
        stride: Step of the kernel.
        groups: As in :class:`torch.nn.Conv2d`; ``groups == in_channels`` makes it depthwise.
        norm_cfg: An affine norm that :func:`mmcv.cnn.build_norm_layer` builds.
        norm_weight: Initial value of the norm's weight. On the last layer of a residual branch it is the
            branch's layer scale: it costs no pass over the feature map and folds into the convolution.

    Raises:
        ValueError: ``kernel_size`` is not odd, or the norm has no weight.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm_cfg: dict,
        norm_weight: float = 1.0,
    ) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"a kernel must have an odd side of at least 1, but one has {kernel_size}.")
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        # Every convolution is followed by a norm, so only the ratio of a gradient step to the weight matters.
        nn.init.trunc_normal_(conv.weight, std=(kernel_size**2 * in_channels / groups) ** -0.5)
        norm = build_norm_layer(norm_cfg, out_channels)[1]
        if norm.weight is None:
            raise ValueError(f"norm_cfg must be of a norm with a weight, but {norm_cfg} has none; try affine=True.")
        nn.init.constant_(norm.weight, norm_weight)
        super().__init__()
        self.conv = conv
        self.norm = norm

    def fuse(self) -> nn.Module:
        """The same function in eval mode as one convolution with bias; itself when the norm does not fold."""
        norm = self.norm
        if not isinstance(norm, _BatchNorm) or norm.running_var is None:
            return self
        conv = copy.deepcopy(self.conv)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        return conv


def fuse_conv_norms(module: nn.Module) -> None:
    """Replaces every module under ``module`` that has a ``fuse()``, in place, by what it returns."""
    for name, child in module.named_children():
        if callable(getattr(child, "fuse", None)):
            setattr(module, name, child.fuse())
        else:
            fuse_conv_norms(child)
