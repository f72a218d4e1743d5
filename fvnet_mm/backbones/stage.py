"""What FVNet puts around its blocks: the stem, and stages that begin with downsampling."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import build_activation_layer
from torch import Tensor, nn

from .conv_norm import ConvNorm
from .mpfb import MPFB
from .recompute import run_block


class Stem(nn.Sequential):
    """3x3 convolutions, two of them of stride 2: (N, 3, H, W) -> (N, C, H/4, W/4), rounded up.

    Args:
        in_channels: Channels of the image.
        channels: Number of channels C.
        deep: Put a third convolution between the two, at stride 2, where textures are still whole.
        norm_cfg: Norm behind each convolution.
        act_cfg: Activation between them.
    """

    def __init__(self, in_channels: int, channels: int, *, deep: bool, norm_cfg: dict, act_cfg: dict) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvNorm(in_channels, half, 3, stride=2, norm_cfg=norm_cfg)
        self.act1 = build_activation_layer(act_cfg)
        if deep:
            self.conv2 = ConvNorm(half, half, 3, norm_cfg=norm_cfg)
            self.act2 = build_activation_layer(act_cfg)
        self.conv3 = ConvNorm(half, channels, 3, stride=2, norm_cfg=norm_cfg)


class Downsample(nn.Sequential):
    """Halves a map and changes its channels: (N, C, H, W) -> (N, C', H/2, W/2), rounded up.

    Args:
        in_channels: Number of channels C.
        out_channels: Number of channels C'.
        dense: By one 3x3 convolution over all channels, rather than a depthwise and a pointwise one.
        norm_cfg: Norm behind each convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dense: bool, norm_cfg: dict) -> None:
        super().__init__()
        if dense:
            self.conv = ConvNorm(in_channels, out_channels, 3, stride=2, norm_cfg=norm_cfg)
        else:
            self.depthwise = ConvNorm(in_channels, in_channels, 3, stride=2, groups=in_channels, norm_cfg=norm_cfg)
            self.pointwise = ConvNorm(in_channels, out_channels, norm_cfg=norm_cfg)


class Stage(nn.Module):
    """Blocks at one stride, behind the downsampling that leads there: (N, C, H, W) -> (N, C', H/s, W/s)."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[MPFB], with_cp: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = run_block(block, x, self.with_cp)
        return x
