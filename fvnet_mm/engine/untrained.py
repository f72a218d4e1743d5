"""Trainable parameters that a training never reaches: seen after its first backward pass."""

import re
from collections.abc import Callable

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from fvnet_mm.engine.building import unwrapped
from fvnet_mm.engine.state_dicts import some_of
from fvnet_mm.errors import UserError


class UntrainedHook(Hook):
    """Looks once, after the first backward pass of this process, which trainable parameters have got no gradient.

    If it is all of the trunk's, and none of them is frozen, the run ends; of others it warns, since a head may have
    parameters that only some batches need.
    """

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        runner.optim_wrapper.backward = self._looking(runner.optim_wrapper.backward, model, runner)

    def _looking(self, backward: Callable[..., None], model: nn.Module, runner: Runner) -> Callable[..., None]:
        looked = False

        def looking(loss: torch.Tensor, **settings: object) -> None:
            nonlocal looked
            backward(loss, **settings)
            if not looked:
                looked = True
                if (warning := check_gradients(model)) is not None:
                    runner.logger.warning(warning)

        return looking


def check_gradients(model: nn.Module) -> str | None:
    """What to warn of after a backward pass, if anything.

    Raises:
        UserError: Not one of the trunk's parameters has a gradient, and none of them is frozen.
    """
    trainable = trainable_parameters(model)
    untouched = [name for name, parameter in trainable if parameter.grad is None]
    trunk = [name for name, _ in model.named_parameters() if name.startswith("backbone.")]
    if trunk and set(trunk) <= set(untouched):
        raise UserError(
            f"the first backward pass has given none of the {len(trunk)} parameters of the backbone "
            f"{type(model.backbone).__name__} a gradient, so it would never learn; are its outputs detached (detach(), "
            "torch.no_grad(), with_cp)? A backbone that is to stay as it is needs requires_grad=False (frozen_stages)."
        )
    if not untouched:
        return None
    return (
        f"{len(untouched)} of {len(trainable)} trainable parameters got no gradient in the first backward pass: "
        f"{some_of(untouched)}; unless other batches reach them they stay as they are"
    )


def trainable_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Those with their names, in the order in which torch's DistributedDataParallel numbers them."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def unreduced_in_words(model: nn.Module, error: Exception) -> str | None:
    """What DistributedDataParallel says of parameters without a gradient, with their names; None for other errors."""
    text = str(error)
    if "Expected to have finished reduction" not in text:
        return None
    found = re.search(r"did not receive grad for rank (\d+): ([\d ]+)", text)
    where, which = "", "some trainable parameters"
    if found:
        names = [name for name, _ in trainable_parameters(model)]
        where, which = f" on rank {found[1]}", some_of(names[int(number)] for number in found[2].split())
    return (
        f"a pass over a batch has given no gradient{where} to {which}, for which the processes of a distributed run "
        "would wait; leave these layers out of the model or freeze them, or, if only some batches reach them, set "
        "find_unused_parameters=True in the config."
    )
