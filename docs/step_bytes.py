"""Bytes that an FTFU's closed-form step reads and writes, operator by operator, against the fewest possible.

python docs/step_bytes.py             writes them into docs/speedups.md
python docs/step_bytes.py --check     exits with 1 where the page is stale
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

import torch
import torch.nn.functional as F
from marked import table, update_parts
from step_speed import BOTH_MAPS, FORWARD_MAPS
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fvnet_mm.backbones.fluid_step import fluid_step
from fvnet_mm.backbones.ftfu import closed_form_step

PAGE = Path(__file__).with_name("speedups.md")
SHAPE = (2, 64, 32, 32)
"""Of the maps: counts per element do not depend on it, as long as the leak's are few beside a map's."""
SAVED_MAPS = 3
"""Maps that the backward pass needs at least: the step's three inputs."""

Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def as_written(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor) -> Tensor:
    return closed_form_step(x, x + offset, F.softplus(z), 1 / leak)


def as_one_function(x: Tensor, offset: Tensor, z: Tensor, leak: Tensor) -> Tensor:
    return fluid_step(x, offset, z, leak, dt=1.0)


STEPS = {"operators as the equation has them": as_written, "one function with its own gradient": as_one_function}


class Traffic(TorchDispatchMode):
    """Sums up the bytes of all tensors that operators read and write while it is active.

    What an operator reads and writes is counted once each, as though nothing stayed in a cache. Views and fresh
    buffers move nothing.
    """

    bytes = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if not (func.is_view or func in (torch.ops.aten.empty_like.default, torch.ops.aten.new_empty.default)):
            given = {name: value for name, value in (kwargs or {}).items() if name != "out"}
            read = {id(leaf): leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)}
            written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self.bytes += sum(map(moved, (*read.values(), *written)))
        return result


def moved(tensor: Tensor) -> int:
    """Bytes of a tensor's own elements: what it repeats by a stride of 0 is there once."""
    return prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride) * tensor.itemsize


def traffic(step: Step, dtype: torch.dtype) -> tuple[float, float, float]:
    """Bytes per element of a map: in inference, in training with the backward pass, and kept for the latter."""
    maps = [torch.randn(SHAPE).to(dtype) for _ in range(4)]
    leak = torch.rand(SHAPE[1], 1, 1)
    copies = [each.clone() for each in maps[:3]]  # inference overwrites them
    with torch.no_grad(), Traffic() as inference:
        step(*copies, leak)
    operands = [each.requires_grad_() for each in (*maps[:3], leak)]
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = moved(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), Traffic() as training:
        output = step(*operands)
        torch.autograd.grad(output, operands, maps[3])
    elements = prod(SHAPE)
    return tuple(count / elements for count in (inference.bytes, training.bytes, sum(kept.values())))


def counts_of_steps() -> str:
    header = ("an FTFU's step", "type", "inference", "training, forward and backward", "kept for the backward pass")
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        counts = {name: traffic(step, dtype) for name, step in STEPS.items()}
        counts["the fewest possible: the Triton kernels"] = tuple(
            number * dtype.itemsize for number in (FORWARD_MAPS, BOTH_MAPS, SAVED_MAPS)
        )
        for name, row in counts.items():
            rows.append((name, str(dtype).removeprefix("torch."), *(f"{count:.0f}" for count in row)))
    return table(header, "llrrr", rows)


def main() -> None:
    update_parts(__doc__, "python docs/step_bytes.py", lambda: {(PAGE, "bytes"): counts_of_steps()})


if __name__ == "__main__":
    main()
