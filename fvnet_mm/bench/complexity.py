"""How large a network is and how much it multiplies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Number of scalars in a module's parameters, trainable or frozen, shared ones once; no buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, *inputs: object) -> int:
    """Multiply-accumulate operations of one forward pass in eval mode; a fused multiply-add is one.

    Counted by :class:`torch.utils.flop_counter.FlopCounterMode`: convolutions (deformable ones without the
    sampling), matrix products and attention. Not counted: everything element-wise (activations, norms, the
    closed-form step of an FTFU), pooling, RoIAlign, interpolation, and biases.

    The pass runs on the meta device, without computing or allocating anything, where every operator of the
    module allows that, and on the module's own device otherwise. The module is left as it was.

    Args:
        module: Network to count.
        *inputs: Its positional inputs: tensors, shapes of float32 tensors, batch included, or lists and tuples
            of these.

    Returns:
        MACs of the whole batch.
    """
    return count_forward(module, *inputs)[1]


def count_forward(module: nn.Module, *inputs: object) -> tuple[object, int]:
    """What a module returns, and the MACs that it took: :func:`count_macs` for a network counted part by part.

    Returns:
        The outputs, on the meta device or the module's own, and MACs of the whole batch.
    """
    try:
        return _run(module, inputs, torch.device("meta"))
    except (NotImplementedError, RuntimeError):
        # An operator without a meta kernel, or one that looks at values.
        parameter = next(module.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        if device.type == "meta":
            raise
        return _run(module, inputs, device)


def _run(module: nn.Module, inputs: tuple[object, ...], device: torch.device) -> tuple[object, int]:
    tensors = tuple(_on(device, value) for value in inputs)
    # state_dict would leave out buffers that are not saved, such as index tables of relative positions.
    state = {name: value.to(device) for name, value in (*module.named_parameters(), *module.named_buffers())}
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: _deformable_flops})
    with _eval_mode(module), torch.no_grad(), counter:
        outputs = functional_call(module, state, tensors)
    return outputs, counter.get_total_flops() // 2


def _on(device: torch.device, value: object) -> object:
    """A tensor of that shape, or these tensors, on a device."""
    if isinstance(value, Tensor):
        # Values of a meta tensor are nobody's: any will do where a device computes.
        return torch.zeros_like(value, device=device) if value.is_meta else value.to(device)
    if isinstance(value, tuple) and value and all(isinstance(size, int) for size in value):
        return torch.zeros(value, device=device)
    if isinstance(value, list | tuple):
        return type(value)(_on(device, item) for item in value)
    raise TypeError(f"an input to count with is a tensor, a shape, or a list of these, not {type(value).__name__}")


def _deformable_flops(
    x_shape: list[int], weight_shape: list[int], *_: object, out_shape: list[int], **__: object
) -> int:
    """FLOPs of a deformable convolution: those of the plain one, without the bilinear sampling."""
    batch, _, height, width = out_shape
    return 2 * batch * height * width * math.prod(weight_shape)


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
