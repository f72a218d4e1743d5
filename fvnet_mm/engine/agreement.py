"""What the processes of a distributed run decide together."""

import torch
from mmengine.dist import all_reduce, get_comm_device, get_world_size


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; every process must ask."""
    if get_world_size() == 1:
        return flag
    votes = torch.tensor([int(flag)], device=get_comm_device())
    all_reduce(votes, op="max")
    return bool(votes.item())
