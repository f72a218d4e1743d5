"""Which part of a model is the first whose output is no finite number."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils._pytree import tree_leaves

from fvnet_mm.engine.building import unwrapped


class Outputs:
    """What the outputs of some modules were like, in the order in which they came.

    Whether they are finite is seen on the device that computed them, and asked for only by :attr:`first`.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[str, torch.Tensor]] = []

    @contextmanager
    def watched(self, modules: Iterable[tuple[str, nn.Module]]) -> Iterator["Outputs"]:
        """Looks at the modules, given with their names, until the end of the block."""
        hooks = [module.register_forward_hook(self._note(name)) for name, module in modules]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def note(module: nn.Module, inputs: object, outputs: object) -> None:
            for leaf in tree_leaves(outputs):
                if torch.is_tensor(leaf) and leaf.is_floating_point():
                    value = leaf.detach()
                    # Not -inf, by which heads mask logits.
                    self._seen.append((name, (torch.isnan(value) | torch.isposinf(value)).any()))

        return note

    @property
    def first(self) -> str | None:
        """Name of the first module with an output that was not finite, or None."""
        return next((name for name, bad in self._seen if bad), None)


@torch.no_grad()
def first_in_training(
    model: nn.Module, wrapper: OptimWrapper, batches: Iterable[DATA_BATCH]
) -> tuple[str | None, str | None]:
    """Repeats passes of a training, to see where they went wrong.

    Buffers, such as the statistics of norms, are left as they were. In a distributed run every process must call this
    with as many batches, since norms and losses speak to each other.

    Args:
        model: Without its wrapper of a distributed run.
        wrapper: Of its optimizer, which knows the precision.
        batches: Of the loader.

    Returns:
        Name of the innermost module that was the first with an output that is no finite number, or None where all were
        finite this time; and why the passes could not be repeated, or None.
    """
    inner = [(name, module) for name, module in model.named_modules() if name]
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    failure = None
    # A compiled part calls no hook of its modules.
    with Outputs().watched(inner) as outputs, torch.compiler.set_stance("force_eager"):
        try:
            for batch in batches:
                with wrapper.optim_context(model):
                    model._run_forward(model.data_preprocessor(batch, True), mode="loss")
        except Exception as error:  # a diagnosis that fails must not hide what it is about
            failure = f"{type(error).__name__}: {error}"
    for buffer, value in before:
        buffer.copy_(value)
    return outputs.first, failure


class FiniteEvaluationHook(Hook):
    """Warns of an evaluation in which the model does not give finite numbers, seen from its first batch.

    A detector finds nothing then and a segmentor one class everywhere, which looks like a model that has learnt
    nothing. Neither later batches nor modules within backbone, neck and heads are looked at, so that it costs nothing.
    """

    def __init__(self) -> None:
        self._outputs = Outputs()
        self._watch = self._outputs.watched(())

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        if batch_idx == 0:
            model = unwrapped(runner.model)
            # A compiled part calls its hooks or not, as it was when it was compiled; what reads it is not compiled.
            parts = [(name, part) for name, part in model.named_children() if part._compiled_call_impl is None]
            self._outputs = Outputs()
            self._watch = self._outputs.watched(parts)
            self._watch.__enter__()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: object = None
    ) -> None:
        if batch_idx == 0:
            self._watch.__exit__(None, None, None)
            if (part := self._outputs.first) is not None:
                runner.logger.warning(
                    f"in this evaluation the {part} gives numbers that are not finite (NaN or infinite), seen in its "
                    "first batch: the figures say nothing of the model"
                )

    before_test_iter, after_test_iter = before_val_iter, after_val_iter
