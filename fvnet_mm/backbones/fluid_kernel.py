"""The closed-form step of an FTFU on a GPU: one Triton kernel forward, one backward.

Eager PyTorch takes ten kernels and as many passes over memory forward, and more than twice that backward. What
``torch.compile`` makes of the step alone is about as fast as these (docs/speedups.md), but compiled anew for every size
of a map, until it gives up. Where a whole trunk is compiled, the step is fused with its neighbours, and
:func:`~.fluid_step.fluid_step` leaves it to the compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .fluid_step import _FluidStep

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Of the maps, in any combination; the kernels compute in float32."""

TILE = 1024
"""Values that one program computes."""

LAST_WIDTH = 64
"""Channels of such a tile where channels are next to each other in memory, at most."""


@triton.jit
def _softplus(z):
    small = tl.exp(-tl.abs(z))
    return tl.maximum(z, 0.0) + tl.where(small < 1e-3, small - 0.5 * small * small, tl.log(1.0 + small))


@triton.jit
def _tile(rows, columns, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LAST: tl.constexpr):
    """Where the values of this program are, which of them exist, and the channel of each."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < rows) & (column < columns)
    channel = tl.broadcast_to(column, [ROWS, COLUMNS]) if LAST else tl.broadcast_to(row % channels, [ROWS, COLUMNS])
    return row * columns + column, inside, channel


@triton.jit
def _forward(
    x_at, offset_at, z_at, leak_at, y_at, dt, rows, columns, channels,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    at, inside, channel = _tile(rows, columns, channels, ROWS, COLUMNS, LAST)
    x = tl.load(x_at + at, inside, 0.0).to(tl.float32)
    offset = tl.load(offset_at + at, inside, 0.0).to(tl.float32)
    pull = _softplus(tl.load(z_at + at, inside, 0.0).to(tl.float32))
    rate = pull + tl.load(leak_at + channel, inside, 1.0)
    equilibrium = pull / rate * (x + offset)
    tl.store(y_at + at, equilibrium + (x - equilibrium) * tl.exp(-dt * rate), inside)


@triton.jit
def _backward(
    x_at, offset_at, z_at, leak_at, grad_at, to_x_at, to_offset_at, to_z_at, to_leak_at, dt, rows, columns, channels,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """The derivatives that :class:`~.fluid_step._FluidStep` states; that of the leak summed over the tile."""
    at, inside, channel = _tile(rows, columns, channels, ROWS, COLUMNS, LAST)
    x = tl.load(x_at + at, inside, 0.0).to(tl.float32)
    attractor = x + tl.load(offset_at + at, inside, 0.0).to(tl.float32)
    z = tl.load(z_at + at, inside, 0.0).to(tl.float32)
    leak = tl.load(leak_at + channel, inside, 1.0)
    grad = tl.load(grad_at + at, inside, 0.0).to(tl.float32)
    pull = _softplus(z)
    rate = pull + leak
    share = pull / rate
    gate = tl.exp(-dt * rate)
    moved = 1.0 - gate
    tl.store(to_offset_at + at, grad * share * moved, inside)
    tl.store(to_x_at + at, grad * (share * moved + gate), inside)
    spread = attractor * moved / rate
    to_pull = grad * (spread * leak / rate + dt * gate * (share * attractor - x))
    tl.store(to_z_at + at, to_pull * tl.sigmoid(z), inside)
    to_leak = tl.where(inside, to_pull - grad * spread, 0.0)
    if LAST:
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        tl.store(to_leak_at + tl.program_id(0) * columns + column, tl.sum(to_leak, 0), column < columns)
    else:
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        tl.store(to_leak_at + row * tl.num_programs(1) + tl.program_id(1), tl.sum(to_leak, 1), row < rows)


@dataclass(frozen=True)
class _Layout:
    """A map as a matrix in the order of its memory: a plane to a row, or with channels last a pixel to a row."""

    last: bool
    rows: int
    columns: int
    channels: int
    tile: tuple[int, int]

    @classmethod
    def of(cls, x: Tensor) -> _Layout:
        n, channels, height, width = x.shape
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        rows, columns = (n * height * width, channels) if last else (n * channels, height * width)
        span = min(LAST_WIDTH if last else TILE, triton.next_power_of_2(columns))
        return cls(last, rows, columns, channels, (TILE // span, span))

    @property
    def programs(self) -> tuple[int, int]:
        return triton.cdiv(self.rows, self.tile[0]), triton.cdiv(self.columns, self.tile[1])

    @property
    def arguments(self) -> tuple[int | bool, ...]:
        """The last ones of a kernel."""
        return self.rows, self.columns, self.channels, *self.tile, self.last

    def laid_out(self, *maps: Tensor) -> tuple[Tensor, ...]:
        memory = torch.channels_last if self.last else torch.contiguous_format
        return tuple(each.contiguous(memory_format=memory) for each in maps)


def serves(*maps: Tensor) -> bool:
    """Whether the kernels can compute with these maps: not empty, (N, C, H, W), in float32 or less."""
    return all(each.dim() == 4 and each.numel() > 0 and each.dtype in DTYPES for each in maps)


def kernel_step(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor, dt: float) -> Tensor:
    """What :func:`~.fluid_step.fluid_step` computes, with its arguments; all maps of one size. It overwrites none."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, offset, z, leak)):
        return _KernelStep.apply(x, offset, z, leak, dt)
    return _run_forward(x, offset, z, leak, dt)


def _rates(leak: Tensor, channels: int) -> Tensor:
    return leak.float().expand(channels, 1, 1).contiguous()


def _run_forward(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor, dt: float) -> Tensor:
    layout = _Layout.of(x)
    x, offset, z = layout.laid_out(x, offset, z)
    y = torch.empty_like(x)
    with torch.cuda.device_of(x):  # Triton launches on the current device, wherever the maps are
        _forward[layout.programs](x, offset, z, _rates(leak, layout.channels), y, dt, *layout.arguments)
    return y


class _KernelStep(_FluidStep):
    """That function, keeping what it keeps, by the kernels."""

    @staticmethod
    def forward(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor, dt: float) -> Tensor:
        return _run_forward(x, offset, z, leak, dt)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, offset, z, leak = ctx.saved_tensors
        layout = _Layout.of(x)
        x, offset, z, grad = layout.laid_out(x, offset, z, grad)
        to_x, to_offset, to_z = torch.empty_like(x), torch.empty_like(offset), torch.empty_like(z)
        tiles = layout.programs
        # Sums of tiles, added up in a fixed order: atomic additions would make every run another one.
        sums = (tiles[0], layout.columns) if layout.last else (layout.rows, tiles[1])
        to_leak = torch.empty(sums, dtype=torch.float32, device=x.device)
        rates = _rates(leak, layout.channels)
        with torch.cuda.device_of(x):
            _backward[tiles](x, offset, z, rates, grad, to_x, to_offset, to_z, to_leak, ctx.dt, *layout.arguments)
        by_channel = to_leak.sum(0) if layout.last else to_leak.view(-1, layout.channels, tiles[1]).sum((0, 2))
        return to_x, to_offset, to_z, by_channel.view(-1, 1, 1).sum_to_size(leak.shape).to(leak.dtype), None
