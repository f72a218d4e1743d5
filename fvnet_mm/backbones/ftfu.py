"""Fluid Temporal Flow Unit: a liquid time-constant neuron at every position and channel, solved exactly."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arch import is_number
from .conv_norm import ConvNorm, fuse_conv_norms
from .fluid_step import fluid_step


def closed_form_step(h: Tensor, a: Tensor, f: Tensor, tau: Tensor | float, dt: Tensor | float = 1.0) -> Tensor:
    """Moves the state of a liquid time-constant neuron by ``dt``, exactly, while its input is held.

    The neuron obeys (Hasani et al., *Liquid Time-constant Networks*, AAAI 2021, equation 1)::

        dh/dt = -(1/tau + f) * h + f * a

    With ``f`` and ``a`` constant over the step (zero-order hold) the equation is linear and its solution is::

        lam = 1/tau + f        h* = f * a / lam        h(t + dt) = h* + (h(t) - h*) * exp(-dt * lam)

    so nothing is iterated or approximated. The result is a convex combination of ``h``, ``a`` and 0: it never
    exceeds ``max(|h|, |a|)``, whatever the step.

    All arguments broadcast against each other, as in ``(N, C, H, W)`` features with ``(C, 1, 1)`` constants.
    Time has no unit of its own: only the ratios of ``dt``, ``tau`` and ``1 / f`` matter.

    Args:
        h: State at the start of the step.
        a: Attractor, the value that the input pulls the state to.
        f: Conductance of the input, ``f >= 0``: the rate at which it pulls.
        tau: Time constant of the leak, ``tau > 0``; ``math.inf`` is no leak.
        dt: Length of the step, ``dt >= 0``; 0 is the identity and ``math.inf`` gives the equilibrium ``h*``.

    Returns:
        State at the end of the step, in the dtype of ``h``. Half-precision inputs are computed in float32.

    Raises:
        ValueError: ``tau`` or ``dt`` is a number outside its range. Tensors are not checked, because that
            would make a GPU wait.
    """
    if isinstance(tau, (int, float)) and not tau > 0:
        raise ValueError(f"tau must be greater than 0, but is {tau}.")
    if isinstance(dt, (int, float)) and not dt >= 0:
        raise ValueError(f"dt must be 0 or greater, but is {dt}.")
    dtype = torch.promote_types(torch.promote_types(h.dtype, a.dtype), f.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    limits = torch.finfo(dtype)
    state, attractor, conductance = h.to(dtype), a.to(dtype), f.to(dtype)
    leak = tau.to(dtype).reciprocal() if isinstance(tau, Tensor) else 1.0 / tau
    step = dt.to(dtype).clamp(max=limits.max) if isinstance(dt, Tensor) else min(dt, limits.max)
    # The smallest normal number keeps the division defined where neither leak nor input moves the state;
    # a finite step keeps the gradient defined where the exponential has reached 0.
    rate = conductance + (leak + limits.tiny)
    equilibrium = conductance / rate * attractor
    return torch.lerp(equilibrium, state, torch.exp(rate * -step)).to(h.dtype)


class FTFU(nn.Module):
    """Fluid Temporal Flow Unit: (N, C, H, W) -> (N, C, H, W).

    The feature map is the state ``x`` of one liquid time-constant neuron per position and channel. Its
    neighbourhood sets where the state flows and how fast::

        a = x + attractor(x)              depthwise convolution
        f = softplus(conductance(x))      depthwise convolution
        y = closed_form_step(x, a, f, tau, dt)

    The attractor is an offset from the state, so that the leak is the only thing that forgets. Without gradients the
    step is written into the outputs of the convolutions: a forward hook on them has to copy what it wants to keep.

    Args:
        channels: Number of channels C.
        kernel_size: Odd side of the attractor's kernel, in pixels.
        conductance_kernel_size: Odd side of the conductance's kernel, in pixels.
        tau: Initial time constants of the first and the last channel, a geometric ladder in between, in units
            of ``dt = 1``.
        dt: Length of the step, finite and above 0.
        norm_cfg: Norm behind each convolution.

    Raises:
        ValueError: ``tau`` or ``dt`` is out of range.

    Attributes:
        log_tau: Learnable logarithm of the time constants, (C,). One-dimensional like biases and norms, so
            that ``paramwise_cfg=dict(flat_decay_mult=0.0)`` keeps them all from weight decay.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        conductance_kernel_size: int = 3,
        tau: Sequence[float],
        dt: float = 1.0,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        if not is_number(dt) or not 0 < dt < math.inf:
            raise ValueError(f"dt must be a finite number above 0, but is {dt}.")
        self.channels = channels
        self.dt = dt
        self.log_tau = self.initial_log_tau(channels, *checked_tau(tau))
        self.attractor = ConvNorm(channels, channels, kernel_size, groups=channels, norm_cfg=norm_cfg)
        self.conductance = self.build_conductance(channels, conductance_kernel_size, norm_cfg)

    def initial_log_tau(self, channels: int, fast: float, slow: float) -> nn.Parameter:
        """Logarithms of the time constants at the start: what an ablation of them overrides."""
        return nn.Parameter(torch.linspace(math.log(fast), math.log(slow), channels))

    def build_conductance(self, channels: int, kernel_size: int, norm_cfg: dict) -> nn.Module:
        """The module that the conductance comes from, which an ablation may override."""
        return ConvNorm(channels, channels, kernel_size, groups=channels, norm_cfg=norm_cfg)

    @property
    def tau(self) -> Tensor:
        """Time constants of the leak, (C, 1, 1)."""
        return self.log_tau.exp().view(-1, 1, 1)

    @property
    def leak(self) -> Tensor:
        """Rates of the leak, 1 / tau, (C, 1, 1)."""
        return self.log_tau.neg().exp().view(-1, 1, 1)

    def offset_and_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attractor minus state, and conductance before the softplus, each (N, C, H, W). An ablation may override it.

        They are new tensors, because without gradients the step overwrites them.
        """
        return self.attractor(x), self.conductance(x)

    def conductances(self, x: Tensor) -> Tensor:
        """Rate ``f >= 0`` at which the input pulls the state, (N, C, H, W), at least in float32."""
        _, z = self.offset_and_z(x)
        return F.softplus(in_float32(z))

    def effective_time_constant(self, x: Tensor) -> Tensor:
        """Time in which a difference from equilibrium shrinks by e: tau / (1 + tau * f), (N, C, H, W).

        Small where the unit flows fast: a map of what the input makes it react to.
        """
        tau = self.tau
        return tau / (1.0 + tau * self.conductances(x))

    def forward(self, x: Tensor) -> Tensor:
        return fluid_step(x, *self.offset_and_z(x), self.leak, self.dt)

    def fuse(self) -> nn.Module:
        """The same function in eval mode with its norms folded: a :class:`FusedFTFU` where there can be one."""
        fused = copy.deepcopy(self)
        fuse_conv_norms(fused)
        convolutions = (fused.attractor, fused.conductance)
        overridden = any(getattr(type(self), name) is not getattr(FTFU, name) for name in ("forward", "offset_and_z"))
        if overridden or not all(isinstance(conv, nn.Conv2d) for conv in convolutions):
            return fused
        sides = {conv.kernel_size for conv in convolutions}
        return FusedFTFU(*convolutions, fused.leak.detach(), self.dt) if len(sides) == 1 else fused

    def extra_repr(self) -> str:
        return f"channels={self.channels}, dt={self.dt}"


def in_float32(x: Tensor) -> Tensor:
    """``x`` at least in float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class SiLUUnit(nn.Module):
    """The limit of an FTFU without leak whose conductance is its attractor's offset: (N, C, H, W) -> (N, C, H, W).

    With the offset v, a = x + v, f = softplus(v), 1/tau = 0 and dt = 1 the step is x + (1 - sigmoid(-v)) v::

        y = x + SiLU(v)

    It takes one depthwise convolution and few passes over the feature map.

    Args:
        channels: Number of channels C.
        kernel_size: Odd side of the kernel, in pixels.
        tau: Not used; there, so that all units are built alike.
        norm_cfg: Norm behind the convolution.
    """

    def __init__(self, channels: int, kernel_size: int = 3, *, tau: Sequence[float], norm_cfg: dict) -> None:
        super().__init__()
        self.attractor = ConvNorm(channels, channels, kernel_size, groups=channels, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.silu(self.attractor(x))


class FusedFTFU(nn.Module):
    """An FTFU for inference: (N, C, H, W) -> (N, C, H, W), its rates of leak computed once.

    On a CPU a convolution of a small map takes hardly more than its call, so there the two convolutions run as one,
    over the map concatenated with itself.

    Args:
        attractor: Depthwise, with bias.
        conductance: The same with as large a kernel.
        leak: Rates of the leak, (C, 1, 1) or (1, 1, 1).
        dt: Length of the step.
    """

    SMALL = 2**16
    """Values of a map up to which copying it costs less than a call; measured on two cores, the least of many sizes."""

    def __init__(self, attractor: nn.Conv2d, conductance: nn.Conv2d, leak: Tensor, dt: float) -> None:
        super().__init__()
        self.channels = attractor.in_channels
        self.padding = attractor.padding
        self.dt = dt
        self.weight = nn.Parameter(torch.cat((attractor.weight, conductance.weight)))
        self.bias = nn.Parameter(torch.cat((attractor.bias, conductance.bias)))
        self.register_buffer("leak", leak)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu and x.numel() <= self.SMALL:
            both = self._convolve(torch.cat((x, x), dim=1), self.weight, self.bias)
            offset, z = both.chunk(2, dim=1)
        else:
            parts = zip(self.weight.chunk(2), self.bias.chunk(2), strict=True)
            offset, z = (self._convolve(x, weight, bias) for weight, bias in parts)
        return fluid_step(x, offset, z, self.leak, self.dt)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=self.padding, groups=x.shape[1])

    def extra_repr(self) -> str:
        return f"channels={self.channels}, dt={self.dt}"


def checked_tau(tau: Sequence[float]) -> tuple[float, float]:
    """Fastest and slowest of a ladder of time constants, or a ValueError that says what is allowed."""
    pair = isinstance(tau, Sequence) and len(tau) == 2 and all(map(is_number, tau))
    if not pair or not 0 < tau[0] <= tau[1] < math.inf:
        raise ValueError(f"tau must be two finite numbers above 0, the faster first, but is {tau}.")
    return tau[0], tau[1]
