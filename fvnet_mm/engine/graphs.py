"""Backbone and neck as CUDA graphs: small networks trained without a wait for Python between their kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from fvnet_mm.engine.memory import is_out_of_memory
from fvnet_mm.errors import UserError

_LEAVE = "leave --cuda-graphs (or graph_trunk in the config) away"


class GraphedTrunkHook(Hook):
    """Captures backbone and neck in a training's first step and replays them in all others.

    A small network is some thousand kernels of microseconds, which a GPU has done with before Python has launched the
    next. Replayed, the kernels of a pass, forward or backward, are launched at once. They are the same, in the same
    order; evaluation, heads and losses are computed as ever (:func:`torch.cuda.make_graphed_callables`).

    A graph has its maps and gradients at fixed places in memory. Therefore a part is called once in a step, all images
    have one size, and gradients are not accumulated over batches. A smaller last batch of an epoch is computed without
    the graph. What Python decides is decided at the capture: what is frozen, the momentum of norms, hooks within a
    part. Passes that warm up draw from the generators, so that dropped paths are others than without graphs.
    """

    def __init__(self) -> None:
        self.parts: list[GraphedPart] = []

    def before_train(self, runner: Runner) -> None:
        """Prepares the capture.

        Raises:
            UserError: Something of this training does not go with graphs.
        """
        batches = runner.cfg.optim_wrapper.get("accumulative_counts", 1)
        if is_model_wrapper(runner.model):
            raise UserError(f"CUDA graphs are for a training of one process, without --launcher; {_LEAVE}.")
        if batches > 1:
            raise UserError(
                f"CUDA graphs cannot add up the gradients of {batches} batches; load them as one "
                f"(train_dataloader.batch_size), or {_LEAVE}."
            )
        if isinstance(runner.optim_wrapper, AmpOptimWrapper):
            raise UserError(
                f"CUDA graphs are of float32 here and the optimizer's wrapper of mixed precision; {_LEAVE}."
            )
        if runner.train_dataloader.pin_memory:  # by a thread that uses CUDA, too
            raise UserError(f"a capture fails beside train_dataloader.pin_memory=True; set it to False, or {_LEAVE}.")
        trunk = runner.cfg.model.get("backbone") or {}
        if trunk.get("frozen_stages", -1) >= 0 or trunk.get("with_cp"):  # caches and random states outside of a graph
            raise UserError(
                f"CUDA graphs need frozen_stages=-1 and with_cp=False of a backbone; set these, or {_LEAVE}."
            )
        for name in ("backbone", "neck"):
            part = getattr(runner.model, name, None)
            if isinstance(part, nn.Module):
                self.parts.append(GraphedPart(name, part))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        for part in self.parts:
            part.used = False


class GraphedPart:
    """A part of a model that is captured before its first pass in training.

    Args:
        name: Of the part, for messages.
        module: Takes tensors, or sequences of tensors, and nothing else.

    Attributes:
        used: Whether it was called in this step; a second call would overwrite what the first keeps for its gradient.

    Raises:
        UserError: When it is called: it cannot be captured, is called twice in a step, or for images of another size
            than the first.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.used = name, False
        self._sizes: list[tuple[int, ...]] = []
        self._replay: Callable[..., object] = module.forward
        self._hook = module.register_forward_pre_hook(self._capture)

    def _capture(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        self._hook.remove()
        # Gradients come from the stream that captured, and autograd waits for it.
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream does not match")
        try:
            samples = tree_map(lambda x: x.detach().clone().requires_grad_(x.requires_grad), inputs)
            with _buffers_kept(module):
                torch.cuda.make_graphed_callables(module, samples, allow_unused_input=True)
        except (
            RuntimeError,
            AssertionError,
            AttributeError,
            TypeError,
        ) as error:  # torch's own words for what it can't
            if is_out_of_memory(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"the {self.name} cannot be captured as a CUDA graph ({reason}); {_LEAVE}.") from error
        self._sizes, self._replay = _sizes(samples), module.forward
        module.forward = partial(self._forward, module)

    def _forward(self, module: nn.Module, *inputs: object) -> object:
        if not (module.training and torch.is_grad_enabled()):
            return type(module).forward(module, *inputs)
        if self.used:
            raise UserError(f"the {self.name} is called twice in a step, which a CUDA graph does not allow; {_LEAVE}.")
        self.used = True
        sizes = _sizes(inputs)
        if sizes == self._sizes:
            return self._replay(*inputs)
        if [each[1:] for each in sizes] == [each[1:] for each in self._sizes]:
            return type(module).forward(module, *inputs)
        raise UserError(
            f"the {self.name} was captured as a CUDA graph for inputs of {self._sizes[0]} and gets {sizes[0]}; train "
            f"on images of one size (a fixed crop), or {_LEAVE}."
        )


def _sizes(inputs: Sequence[object]) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in tree_leaves(inputs)]


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undoes what passes that only warm up have done to running statistics."""
    before: list[Tensor] = [buffer.clone() for buffer in module.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
