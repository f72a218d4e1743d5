"""How large a network is and how much it multiplies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Number of scalars in a module's parameters, trainable or frozen, shared ones once; no buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, *inputs: tuple[int, ...] | Tensor) -> int:
    """Multiply-accumulate operations of one forward pass in eval mode; a fused multiply-add is one.

    Counted by :class:`torch.utils.flop_counter.FlopCounterMode`: convolutions, matrix products and attention.
    Not counted: everything element-wise (activations, norms, the closed-form step of an FTFU), pooling,
    interpolation, and biases.

    The pass runs on the meta device, without computing or allocating anything, where every operator of the
    module allows that, and on the module's own device otherwise. The module is left as it was.

    Args:
        module: Network to count.
        *inputs: Its positional inputs: tensors, or shapes of float32 tensors, batch included.

    Returns:
        MACs of the whole batch.
    """
    try:
        return _count(module, inputs, torch.device("meta"))
    except (NotImplementedError, RuntimeError):
        # An operator without a meta kernel, or one that looks at values.
        parameter = next(module.parameters(), None)
        return _count(module, inputs, torch.device("cpu") if parameter is None else parameter.device)


def _count(module: nn.Module, inputs: tuple[tuple[int, ...] | Tensor, ...], device: torch.device) -> int:
    tensors = [x.to(device) if isinstance(x, Tensor) else torch.zeros(x, device=device) for x in inputs]
    state = {name: value.to(device) for name, value in module.state_dict(keep_vars=True).items()}
    with _eval_mode(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(module, state, tuple(tensors))
    return counter.get_total_flops() // 2


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode that leaves every submodule in the mode it was in."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training
