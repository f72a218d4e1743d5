"""Recomputing blocks in the backward pass, which keeps their inputs alone."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .norms import keep_statistics


def run_block(block: nn.Module, x: Tensor, with_cp: bool) -> Tensor:
    """``block(x)``; ``with_cp`` keeps only ``x`` for the backward pass, which computes the block again."""
    if not (with_cp and torch.is_grad_enabled()):
        return block(x)
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), keep_statistics(block)))
