"""What a phase can hold in place of an FTFU, to find out what each part of the unit is worth.

``FVNet(unit='GatedUnit')`` puts one into every phase, a list of names one into each, dicts give options. All are
(N, C, H, W) -> (N, C, H, W) and are built alike. All but :class:`SharedFTFU` have the two depthwise convolutions of an
FTFU, and so its parameters to within a few per channel. They also have its MACs, :class:`RepeatedFTFU` once per step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arch import is_whole
from .conv_norm import ConvNorm
from .ftfu import FTFU, in_float32
from .mpfb import UNITS


class FixedTauFTFU(FTFU):
    """An FTFU whose time constants stay where they start."""

    def initial_log_tau(self, channels: int, fast: float, slow: float) -> nn.Parameter:
        return super().initial_log_tau(channels, fast, slow).requires_grad_(False)


class SharedTauFTFU(FTFU):
    """An FTFU with one time constant for all of its channels, at first the middle of their ladder."""

    def initial_log_tau(self, channels: int, fast: float, slow: float) -> nn.Parameter:
        return nn.Parameter(torch.tensor([0.5 * (math.log(fast) + math.log(slow))]))


class RepeatedFTFU(FTFU):
    """An FTFU that takes several steps with the same weights, its input anew each time."""

    def __init__(self, channels: int, kernel_size: int = 3, *, steps: int = 2, **options: object) -> None:
        super().__init__(channels, kernel_size, **options)
        self.steps = checked_steps(steps)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.steps):
            x = super().forward(x)
        return x


class PooledFTFU(FTFU):
    """An FTFU that also sees the mean of each channel over the image, weighted per channel and at first by 0."""

    def __init__(self, channels: int, kernel_size: int = 3, **options: object) -> None:
        super().__init__(channels, kernel_size, **options)
        self.offset_by_mean = nn.Parameter(torch.zeros(channels))
        self.conductance_by_mean = nn.Parameter(torch.zeros(channels))

    def offset_and_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean((2, 3), keepdim=True)
        offset = self.attractor(x) + mean * self.offset_by_mean.view(-1, 1, 1)
        return offset, self.conductance(x) + mean * self.conductance_by_mean.view(-1, 1, 1)


class FreeFTFU(FTFU):
    """An FTFU whose attractor is where the convolution points, not an offset from the state: the state is forgotten."""

    def offset_and_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.attractor(x) - x, self.conductance(x)


class BoundedFTFU(FTFU):
    """A :class:`FreeFTFU` with attractors between -1 and 1, as the candidate states of a GRU."""

    def offset_and_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(self.attractor(x)) - x, self.conductance(x)


class CascadedFTFU(FTFU):
    """An FTFU whose conductance is seen in the attractor, not in the state: it reaches as far as both kernels."""

    def offset_and_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        offset = self.attractor(x)
        return offset, self.conductance(x + offset)


class SharedFTFU(FTFU):
    """An FTFU with one depthwise convolution: its conductance is an affine function of the attractor's offset."""

    def __init__(
        self, channels: int, kernel_size: int = 3, *, tau: Sequence[float], dt: float = 1.0, norm_cfg: dict
    ) -> None:
        # FTFU has an option more, the side of a kernel that is not here.
        super().__init__(channels, kernel_size, tau=tau, dt=dt, norm_cfg=norm_cfg)

    def build_conductance(self, channels: int, kernel_size: int, norm_cfg: dict) -> ChannelAffine:
        return ChannelAffine(channels)

    def offset_and_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        offset = self.attractor(x)
        return offset, self.conductance(offset)


class ChannelAffine(nn.Module):
    """weight * x + bias with a weight and a bias per channel, at first the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias.view(-1, 1, 1), x, self.weight.view(-1, 1, 1))


class TwoConvUnit(nn.Module):
    """The two depthwise convolutions of an FTFU, for units that make something else of them.

    Args:
        channels: Number of channels C.
        kernel_size: Odd side of the first kernel, in pixels; that of the second is 3.
        tau: Not used by units without time constants.
        norm_cfg: Norm behind each convolution.
    """

    def __init__(self, channels: int, kernel_size: int = 3, *, tau: Sequence[float], norm_cfg: dict) -> None:
        super().__init__()
        self.attractor = ConvNorm(channels, channels, kernel_size, groups=channels, norm_cfg=norm_cfg)
        self.conductance = ConvNorm(channels, channels, 3, groups=channels, norm_cfg=norm_cfg)


class LeaklessFTFU(TwoConvUnit):
    """An FTFU without leak, 1/tau = 0, for dt = 1: y = x + sigmoid(conductance(x)) * attractor(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, torch.sigmoid(self.conductance(x)), self.attractor(x))


class DepthwiseUnit(TwoConvUnit):
    """A residual of two plain depthwise convolutions with a GELU between them."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conductance(F.gelu(self.attractor(x)))


class GatedUnit(TwoConvUnit):
    """The update of a GRU (Cho et al., 2014) without its reset gate: y = (1 - u) x + u tanh(attractor(x)).

    With u = sigmoid(conductance(x)) that is a :class:`BoundedFTFU` without leak, 1/tau = 0, for dt = 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sigmoid(self.conductance(x)) * (torch.tanh(self.attractor(x)) - x)


class CfCUnit(FTFU):
    """The sigmoid that approximates the cell for inputs that change (Hasani et al., 2022, equation 3).

    With the attractor a = x + attractor(x) and g = sigmoid(-dt (1/tau + conductance(x)))::

        y = g x + (1 - g) a

    At dt = 1 that is an FTFU without leak whose conductance is shifted by 1/tau per channel.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, torch.sigmoid(self.dt * (self.leak + self.conductance(x))), self.attractor(x))

    def effective_time_constant(self, x: Tensor) -> Tensor:
        """Time in which the difference from the attractor shrinks by e, (N, C, H, W): the gate is that of a step."""
        return self.dt / F.softplus(self.dt * (self.leak + in_float32(self.conductance(x))))


class EulerUnit(FTFU):
    """An FTFU whose equation is integrated by explicit Euler steps of dt / steps, its input held like there.

    It diverges where the step times the rate 1/tau + f exceeds 2.
    """

    def __init__(self, channels: int, kernel_size: int = 3, *, steps: int = 4, **options: object) -> None:
        super().__init__(channels, kernel_size, **options)
        self.steps = checked_steps(steps)

    def forward(self, x: Tensor) -> Tensor:
        f = F.softplus(in_float32(self.conductance(x)))
        h = x.to(f.dtype)
        drive, rate = f * (h + self.attractor(x)), self.leak + f
        for _ in range(self.steps):
            h = h + (self.dt / self.steps) * (drive - rate * h)
        return h.to(x.dtype)


def checked_steps(steps: int) -> int:
    """``steps``, or a ValueError that says what is allowed."""
    if not is_whole(steps, 1):
        raise ValueError(f"steps must be a whole number of at least 1, but is {steps}.")
    return steps


UNITS.update(
    {
        unit.__name__: unit
        for unit in (
            FixedTauFTFU,
            SharedTauFTFU,
            LeaklessFTFU,
            RepeatedFTFU,
            PooledFTFU,
            FreeFTFU,
            BoundedFTFU,
            CascadedFTFU,
            SharedFTFU,
            DepthwiseUnit,
            GatedUnit,
            CfCUnit,
            EulerUnit,
        )
    }
)
