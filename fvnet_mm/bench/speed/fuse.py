"""Re-parameterising trunks for inference, each in the way that its authors or library offer."""

from __future__ import annotations

import copy

import torch
from timm.models import reparameterize_model
from torch import Tensor, nn

from fvnet_mm.backbones import FVNet, TimmBackbone
from fvnet_mm.errors import UserError

NOT_FUSED = "not fused"

_TOLERANCE = 1e-2
"""Of outputs, relative to the greatest; float32 rounding in deep trunks stays well below, a wrong fold does not."""

_METHODS = ("fuse", "reparameterize", "switch_to_deploy")
"""What timm's re-parameterisation looks for in a module."""


def fuse_trunk(trunk: nn.Module) -> tuple[nn.Module, str]:
    """A trunk in its form for inference, and how it came about: 'FVNet.fuse', 'timm', or 'not fused'.

    Trunks that offer nothing are returned as they are. The others get statistics of batch norms at random first (a
    fresh norm is the identity, and leaving it out would go unnoticed), and must give the same outputs afterwards.

    Raises:
        UserError: They do not.
    """
    if isinstance(trunk, FVNet):
        how = "FVNet.fuse"
    elif isinstance(trunk, TimmBackbone) and any(hasattr(m, name) for m in trunk.modules() for name in _METHODS):
        how = "timm"
    else:
        return trunk, NOT_FUSED
    _draw_statistics(trunk)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = trunk(images)
        fused = trunk.fuse() if isinstance(trunk, FVNet) else _fuse_timm(trunk)
        worst = max(_distance(*pair) for pair in zip(fused(images), expected, strict=True))
    if not worst <= _TOLERANCE:
        raise UserError(
            f"re-parameterised by {how} the trunk {type(trunk).__name__} gives other outputs (by {worst:.1%}); "
            "measure it without --fuse."
        )
    return fused, how


def _fuse_timm(trunk: TimmBackbone) -> TimmBackbone:
    fused = copy.deepcopy(trunk)
    own = getattr(fused.timm_model, "fuse", None)
    if own is not None:
        own()
    else:
        reparameterize_model(fused.timm_model, inplace=True)
    return fused.eval()


def _draw_statistics(trunk: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in trunk.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_var is not None:
            norm.running_mean.uniform_(-0.1, 0.1, generator=generator)
            norm.running_var.uniform_(0.8, 1.25, generator=generator)


def _distance(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())
