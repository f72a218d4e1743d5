"""Batch norms whose running statistics stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def hold_norms(module: nn.Module) -> None:
    """Puts the batch norms of a module into eval mode, in which they use and keep their running statistics."""
    for each in module.modules():
        if isinstance(each, _BatchNorm):
            each.eval()


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
