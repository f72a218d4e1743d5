"""Multi-Phase Fluid Block: units of several reaches and time scales in parallel."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from .cells import add_to_cells, cell_means
from .conv_norm import ConvNorm, fuse_conv_norms
from .ftfu import FTFU, SiLUUnit, checked_tau

UNITS: dict[str, type[nn.Module]] = {"FTFU": FTFU, "SiLUUnit": SiLUUnit}
"""What a phase can hold, by name, built as ``Unit(channels, kernel_size, tau=..., norm_cfg=..., **options)``."""

UnitOptions = str | Mapping[str, object]
"""Name of a unit, or a dict of its name under 'type' and options of its own."""


class Phase(NamedTuple):
    """Spatial reach of one phase of a block.

    Attributes:
        kernel_size: Odd side of the attractor's kernel, in cells of the phase's grid.
        grid: Side of a cell, in pixels of the feature map, a power of two: 1 for the feature map itself.
    """

    kernel_size: int
    grid: int = 1


class FluidPhase(nn.Module):
    """A unit that flows on its own grid: (N, C, H, W) -> (N, C, H, W).

    On a coarse grid the unit sees averages over the grid's cells, and every pixel moves by what its cell
    moved: the phase reaches further and costs ``1 / grid**2``, and no detail is lost.
    """

    def __init__(self, unit: nn.Module, grid: int = 1) -> None:
        super().__init__()
        self.unit = unit
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        if self.grid == 1:
            return self.unit(x)
        cells = cell_means(x, self.grid)
        return add_to_cells(x, self.unit(cells) - cells, self.grid)

    def extra_repr(self) -> str:
        return f"grid={self.grid}"


class FeedForward(nn.Module):
    """Pointwise expansion, activation, pointwise projection: (N, C, H, W) -> (N, C, H, W).

    Args:
        channels: Number of channels C.
        expansion: Hidden channels per channel.
        conv: Add to the hidden map its depthwise 3x3 convolution before the activation.
        norm_cfg: Norm behind each convolution.
        act_cfg: The activation.
        layer_scale: Initial weight of the last norm.
    """

    def __init__(
        self,
        channels: int,
        expansion: float,
        *,
        conv: bool,
        norm_cfg: dict,
        act_cfg: dict,
        layer_scale: float,
    ) -> None:
        super().__init__()
        hidden = round(channels * expansion)
        self.expand = ConvNorm(channels, hidden, norm_cfg=norm_cfg)
        self.depthwise = ConvNorm(hidden, hidden, 3, groups=hidden, norm_cfg=norm_cfg) if conv else None
        self.act = build_activation_layer(act_cfg)
        self.project = ConvNorm(hidden, channels, norm_cfg=norm_cfg, norm_weight=layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x)
        if self.depthwise is not None:
            x = x + self.depthwise(x)
        return self.project(self.act(x))

    def fuse(self) -> nn.Module:
        """The same function in eval mode with its norms folded, and with the sum in the depthwise convolution."""
        fused = copy.deepcopy(self)
        fuse_conv_norms(fused)
        if not isinstance(fused.depthwise, nn.Conv2d):
            return fused
        with torch.no_grad():
            fused.depthwise.weight[:, :, 1, 1] += 1
        return nn.Sequential(fused.expand, fused.depthwise, fused.act, fused.project)


class MPFB(nn.Module):
    """Multi-Phase Fluid Block: (N, C, H, W) -> (N, C, H, W).

    The channels are split into phases, fast to slow, each with a reach of its own. The slowest is an
    :class:`~.ftfu.FTFU`, the others are the limit of one without leak, :class:`~.ftfu.SiLUUnit`; where several are
    FTFUs, each has its section of one geometric ladder of time constants. A pointwise convolution mixes the phases,
    and a feed-forward follows, both on residual branches::

        x = x + mix(concat(phase_1(x_1), ..., phase_P(x_P)))
        x = x + feed_forward(x)

    The weight of the last norm of each branch is its layer scale.

    Args:
        channels: Number of channels C, at least one per phase.
        phases: Reach of each phase, fast to slow.
        expansion: Hidden channels of the feed-forward per channel.
        tau: Initial time constants of the fastest and the slowest channel: the ends of the ladder over all phases.
        unit: What each phase holds otherwise, one for all or one per phase: a name of :data:`UNITS`, or a dict with
            options of its own, ``dict(type='FTFU', dt=2.0)``.
        conv_ffn: Give the feed-forward a depthwise convolution.
        drop_path: Probability of dropping a residual branch for a sample in training.
        layer_scale: Initial layer scale of both branches.
        norm_cfg: Norm behind each convolution.
        act_cfg: Activation of the feed-forward.

    Raises:
        ValueError: There are no phases or more than channels, there is no such unit or not one per phase, or
            ``tau`` is out of range.
    """

    def __init__(
        self,
        channels: int,
        phases: Sequence[Phase],
        *,
        expansion: float,
        tau: Sequence[float],
        unit: UnitOptions | Sequence[UnitOptions] | None = None,
        conv_ffn: bool,
        drop_path: float = 0.0,
        layer_scale: float,
        norm_cfg: dict,
        act_cfg: dict,
    ) -> None:
        super().__init__()
        if not 0 < len(phases) <= channels:
            raise ValueError(f"a block of {channels} channels can have 1 to {channels} phases, not {len(phases)}.")
        self.widths = phase_widths(channels, len(phases))
        fast, slow = checked_tau(tau)
        log_fast, log_slow = math.log(fast), math.log(slow)
        rungs = [math.exp(log_fast + (log_slow - log_fast) * p / len(phases)) for p in range(len(phases) + 1)]
        units = units_of(unit, len(phases))
        self.phases = nn.ModuleList(
            FluidPhase(
                build_unit(options, width, phase.kernel_size, tau=(rungs[p], rungs[p + 1]), norm_cfg=norm_cfg),
                grid=phase.grid,
            )
            for p, (options, width, phase) in enumerate(zip(units, self.widths, phases, strict=True))
        )
        self.mix = ConvNorm(channels, channels, norm_cfg=norm_cfg, norm_weight=layer_scale)
        self.feed_forward = FeedForward(
            channels, expansion, conv=conv_ffn, norm_cfg=norm_cfg, act_cfg=act_cfg, layer_scale=layer_scale
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        flows = [phase(part) for phase, part in zip(self.phases, x.split(self.widths, dim=1), strict=True)]
        x = x + self.drop_path(self.mix(torch.cat(flows, dim=1)))
        return x + self.drop_path(self.feed_forward(x))


def phase_widths(channels: int, phases: int) -> list[int]:
    """Channels of each phase: equal shares in multiples of 16, which SIMD likes; the last takes the rest."""
    unit = 16 if channels >= 16 * phases else 1
    width = channels // phases // unit * unit
    return [width] * (phases - 1) + [channels - width * (phases - 1)]


def units_of(unit: UnitOptions | Sequence[UnitOptions] | None, phases: int) -> list[dict[str, object]]:
    """What each of ``phases`` phases holds, its name under 'type'.

    None is :class:`~.ftfu.FTFU` in the slowest phase and :class:`~.ftfu.SiLUUnit` in the others.

    Raises:
        ValueError: It is not one for all or one for each, or one is neither a name nor a dict with a name.
    """
    if unit is None:
        unit = ["SiLUUnit"] * (phases - 1) + ["FTFU"]
    units = unit if isinstance(unit, (list, tuple)) else [unit] * phases
    if len(units) != phases:
        raise ValueError(f"unit must be one for all or one for each of {phases} phases, not {len(units)}.")
    for each in units:
        if not isinstance(each, str) and not (isinstance(each, Mapping) and "type" in each):
            raise ValueError(f"a unit is a name or a dict with its name under 'type', but one is {each!r}.")
    return [dict(type=each) if isinstance(each, str) else dict(each) for each in units]


def build_unit(
    options: Mapping[str, object], channels: int, kernel_size: int, *, tau: Sequence[float], norm_cfg: dict
) -> nn.Module:
    """A unit from its name and options.

    Raises:
        ValueError: There is no unit of that name.
    """
    settings = dict(options)
    name = settings.pop("type")
    if name not in UNITS:
        raise ValueError(f"unit '{name}' does not exist; choose one of {', '.join(UNITS)}.")
    return UNITS[name](channels, kernel_size, tau=tau, norm_cfg=norm_cfg, **settings)
