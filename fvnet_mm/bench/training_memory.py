"""What training keeps of a forward pass: the bytes that autograd saves for backward."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def saved_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Bytes of the storages that a forward pass saves for backward, each once however many tensors are views of it.

    Parameters and buffers are left out: they are there without a pass. The inputs count where an operator saves them.
    So do not: gradients, the optimizer's state, and what operators need for a moment.

    Args:
        module: In the mode that it is in.
        *inputs: Its positional inputs.
    """
    own = {_address(tensor) for tensor in (*module.parameters(), *module.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}  # kept, since an address is one storage's only while it lives

    def note(tensor: Tensor) -> Tensor:
        saved[_address(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        module(*inputs)
    return sum(storage.nbytes() for address, storage in saved.items() if address not in own)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
