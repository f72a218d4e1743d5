"""Recomputing blocks in the backward pass, which keeps their inputs alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """``block(x)``, keeping only ``x`` for the backward pass, which computes the block again."""
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), keep_statistics(block)))


@contextmanager
def keep_statistics(module: nn.Module) -> Iterator[None]:
    """Lets a block be computed again without counting its batch twice in the running statistics."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, num_batches in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)
