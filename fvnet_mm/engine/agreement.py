"""What the processes of a distributed run decide, and say, together."""

import torch
from mmengine.dist import all_reduce, get_comm_device, get_world_size
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; every process must ask."""
    if get_world_size() == 1:
        return flag
    votes = torch.tensor([int(flag)], device=get_comm_device())
    all_reduce(votes, op="max")
    return bool(votes.item())


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
