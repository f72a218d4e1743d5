"""Backbone and neck as CUDA graphs: small networks trained without a wait for Python between their kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from fvnet_mm.errors import UserError


class GraphedTrunkHook(Hook):
    """Captures backbone and neck in a training's first step and replays them in all others.

    A small network is some thousand kernels of microseconds, which a GPU has done with before Python has launched the
    next. Replayed, the kernels of a pass, forward or backward, are launched at once. They are the same, in the same
    order; evaluation, heads and losses are computed as ever (:func:`torch.cuda.make_graphed_callables`).

    A graph has its maps and gradients at fixed places in memory. Therefore all batches must have one size, and a
    gradient is that of one batch: it cannot be accumulated over several.
    """

    def before_train(self, runner: Runner) -> None:
        """Prepares the capture.

        Raises:
            UserError: Several processes, accumulated gradients or mixed precision, which graphs do not go with.
        """
        if is_model_wrapper(runner.model):
            raise UserError("--cuda-graphs is for a training on one GPU; leave it away where several share one.")
        batches = runner.cfg.optim_wrapper.get("accumulative_counts", 1)
        if batches > 1:
            raise UserError(
                f"--cuda-graphs cannot add up the gradients of {batches} batches; load them as one "
                "(train_dataloader.batch_size), or leave it away."
            )
        if isinstance(runner.optim_wrapper, AmpOptimWrapper):
            raise UserError("--cuda-graphs computes in float32; leave it or --amp away.")
        for name in ("backbone", "neck"):
            part = getattr(runner.model, name, None)
            if isinstance(part, nn.Module):
                graph_at_first_pass(name, part)


def graph_at_first_pass(name: str, part: nn.Module) -> None:
    """Has a part of a model captured before its first pass in training.

    Args:
        name: Of the part, for messages.
        part: Takes tensors, or sequences of tensors, and nothing else.

    Raises:
        UserError: When it is called: the part cannot be captured, or a later batch has another size than the first.
    """

    def capture(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        hook.remove()
        # Gradients come from the stream that captured, and autograd waits for it.
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream does not match")
        samples = tree_map(lambda x: x.detach().clone().requires_grad_(x.requires_grad), inputs)
        try:
            with _buffers_kept(module):
                torch.cuda.make_graphed_callables(module, samples, allow_unused_input=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the {name} cannot be captured as a CUDA graph ({reason}); leave --cuda-graphs away."
            ) from error
        module.register_forward_pre_hook(_refuse_other_sizes(name, samples))

    hook = part.register_forward_pre_hook(capture)


def _refuse_other_sizes(name: str, samples: tuple[object, ...]) -> Callable[[nn.Module, tuple[object, ...]], None]:
    captured = _sizes(samples)

    def refuse(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if module.training and _sizes(inputs) != captured:
            raise UserError(
                f"the {name} was captured as a CUDA graph for inputs of {captured[0]} and gets {_sizes(inputs)[0]}; "
                "train on batches of one size (a fixed crop, and drop_last), or leave --cuda-graphs away."
            )

    return refuse


def _sizes(inputs: tuple[object, ...]) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in tree_leaves(inputs)]


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undoes what passes that only warm up have done to running statistics."""
    before: list[Tensor] = [buffer.clone() for buffer in module.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
