"""What the processes of a distributed run decide, and say, together."""

from collections.abc import Callable
from typing import TypeVar

import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_comm_device, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

from fvnet_mm.errors import UserError

Decision = TypeVar("Decision")


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; every process must ask."""
    if get_world_size() == 1:
        return flag
    votes = torch.tensor([int(flag)], device=get_comm_device())
    all_reduce(votes, op="max")
    return bool(votes.item())


def decided_by_main(decide: Callable[[], Decision]) -> Decision:
    """What the main process decides, in every process; every process must ask.

    Args:
        decide: Called in the main process alone.

    Raises:
        UserError: ``decide`` has raised it; all processes do.
    """
    answer: list[object] = [None, None]
    if is_main_process():
        try:
            answer[0] = decide()
        except UserError as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


class MeanLossHook(Hook):
    """Makes the losses that are logged those of the whole batch: their means over the processes."""

    priority = "HIGHEST"  # before mmengine takes them down

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        if get_world_size() == 1 or not outputs:
            return
        values = torch.stack([value.detach().float() for value in outputs.values()]).to(get_comm_device())
        all_reduce(values, op="mean")
        outputs.update(zip(outputs, values.unbind(), strict=True))
