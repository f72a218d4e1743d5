"""The closed-form step of an FTFU as one function with a gradient of its own."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def fluid_step(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor, dt: float) -> Tensor:
    """``closed_form_step(x, x + offset, softplus(z), 1 / leak, dt)``, moving less memory.

    It is meant for feature maps that are too large for a cache, where the time goes into passes over them and
    into fresh pages: three buffers are allocated in training and one in inference, and all else is in place.
    For the backward pass it keeps its inputs, in the dtype that they come in, and nothing else. On a GPU with Triton it
    is the kernels of :mod:`~.fluid_kernel`, unless the trunk is compiled, traced or exported.

    Args:
        x: State and origin of the attractor, (N, C, H, W).
        offset: Attractor minus state, (N, C, H, W). Overwritten where no gradient is wanted.
        z: Conductance before the softplus, (N, C, H, W). Overwritten where no gradient is wanted.
        leak: Rates of the leak, 1 / tau > 0, (C, 1, 1) or (1, 1, 1).
        dt: Length of the step, a finite number above 0.

    Returns:
        State at the end of the step, in the dtype of ``x``. Half-precision inputs are computed in float32. It
        can be differentiated once.
    """
    if x.is_cuda and not torch.compiler.is_compiling() and not torch.jit.is_tracing() and _triton_is_there():
        from . import fluid_kernel  # triton is needed to define them

        if fluid_kernel.serves(x, offset, z):
            return fluid_kernel.kernel_step(x, offset, z, leak, dt)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, offset, z, leak)):
        return _FluidStep.apply(x, offset, z, leak, dt)
    return _step(x, offset, z, leak, dt, own=True)


@cache
def _triton_is_there() -> bool:
    """It comes with PyTorch for NVIDIA GPUs, but not on Windows."""
    return find_spec("triton") is not None


def _step(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor, dt: float, own: bool) -> Tensor:
    """The step; ``own`` says that ``offset`` and ``z`` may be overwritten."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    state, leak = x.to(dtype), leak.to(dtype)
    conductance = _softplus(z.to(dtype), own)
    rate = conductance + leak
    offset = offset.to(dtype)
    attractor = offset.add_(state) if own else offset + state
    equilibrium = attractor.mul_(conductance.div_(rate))
    return equilibrium.lerp_(state, rate.mul_(-dt).exp_()).to(x.dtype)


def _softplus(z: Tensor, own: bool) -> Tensor:
    return torch.ops.aten.softplus.out(z, out=z) if own else F.softplus(z)


class _FluidStep(torch.autograd.Function):
    """With f = softplus(z), lam = leak + f, p = f / lam, g = exp(-dt lam), a = x + offset and m = 1 - g::

    y          = g x + m p a
    dy/doffset = m p
    dy/dx      = m p + g
    dy/df      = a m leak / lam^2 + dt g (p a - x)          dy/dz = dy/df sigmoid(z)
    dy/dleak   = dy/df - a m / lam
    """

    @staticmethod
    def forward(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor, dt: float) -> Tensor:
        return _step(x, offset, z, leak, dt, own=False)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple, output: Tensor) -> None:
        *tensors, ctx.dt = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, offset, z, leak = ctx.saved_tensors
        dtype = torch.promote_types(x.dtype, torch.float32)
        state, exponent, rates, upstream = x.to(dtype), z.to(dtype), leak.to(dtype), grad.to(dtype)
        pull = F.softplus(exponent)
        lam = pull + rates
        share = pull.div_(lam)
        gate = (lam * -ctx.dt).exp_()
        moved = 1 - gate
        to_offset = share * moved
        attractor = state + offset.to(dtype)
        spread = moved.div_(lam).mul_(attractor)  # a m / lam
        ahead = torch.addcmul(state, share, attractor, value=-1, out=attractor)  # x - p a
        to_f = torch.div(rates, lam, out=lam).mul_(spread).addcmul_(gate, ahead, value=-ctx.dt).mul_(upstream)
        to_leak = to_f.sum_to_size(leak.shape) - spread.mul_(upstream).sum_to_size(leak.shape)
        to_offset.mul_(upstream)
        to_x = torch.addcmul(to_offset, gate, upstream, out=gate)
        to_z = torch.ops.aten.softplus_backward(to_f, exponent, 1, 20)  # F.softplus has these defaults
        return (
            to_x.to(x.dtype),
            to_offset.to(offset.dtype),
            to_z.to(z.dtype),
            to_leak.to(leak.dtype),
            None,
        )
