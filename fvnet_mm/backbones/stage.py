"""What FVNet puts around its blocks: the stem, and stages that begin with downsampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from mmcv.cnn import build_activation_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .conv_norm import ConvNorm
from .mpfb import MPFB


class Stem(nn.Sequential):
    """Two 3x3 convolutions of stride 2: (N, 3, H, W) -> (N, C, H/4, W/4), rounded up."""

    def __init__(self, in_channels: int, channels: int, *, norm_cfg: dict, act_cfg: dict) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, channels // 2, 3, stride=2, norm_cfg=norm_cfg)
        self.act = build_activation_layer(act_cfg)
        self.conv2 = ConvNorm(channels // 2, channels, 3, stride=2, norm_cfg=norm_cfg)


class Downsample(nn.Sequential):
    """Depthwise 3x3 of stride 2, then pointwise: (N, C, H, W) -> (N, C', H/2, W/2), rounded up."""

    def __init__(self, in_channels: int, out_channels: int, *, norm_cfg: dict) -> None:
        super().__init__()
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
            if self.with_cp and x.requires_grad:
                x = checkpoint(
                    block,
                    x,
                    use_reentrant=False,
                    context_fn=lambda b=block: (nullcontext(), keep_statistics(b)),
                )
            else:
                x = block(x)
        return x


@contextmanager
def keep_statistics(module: nn.Module) -> Iterator[None]:
    """Lets a block be computed again without counting its batch twice in the running statistics."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, num_batches in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)
