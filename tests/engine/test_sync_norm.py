import copy
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from fvnet_mm.engine.sync_norm import ProcessSyncBN


def share(rank: int, port: int, shares: list[tuple[torch.Tensor, torch.Tensor]], norm: nn.Module, out: Path) -> None:
    """One of several processes: forward and backward over its share of a batch."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(len(shares)), MASTER_ADDR="localhost", MASTER_PORT=str(port))
    dist.init_process_group("gloo")
    images, upstream = shares[rank]
    images.requires_grad_()
    result = norm(images)
    (result * upstream).sum().backward()
    found = [result.detach(), images.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    torch.save(found, out / str(rank))


@pytest.mark.parametrize("sizes", [(2, 2), (3, 1)])
def test_it_equals_a_norm_over_the_whole_batch(sizes: tuple[int, int], tmp_path: Path) -> None:
    """PyTorch's own BatchNorm2d on all images at once, in float64, with a mean that is large beside the spread."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 5, 6, generator=generator, dtype=torch.float64) + 1e6
    upstream = torch.randn(4, 3, 5, 6, generator=generator, dtype=torch.float64)
    norm = nn.BatchNorm2d(3).double()
    nn.init.uniform_(norm.weight, generator=generator)
    shared = ProcessSyncBN(3).double()
    shared.load_state_dict(copy.deepcopy(norm.state_dict()))

    whole = images.clone().requires_grad_()
    result = norm(whole)
    (result * upstream).sum().backward()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shares = list(zip(images.split(sizes), upstream.split(sizes), strict=True))
    torch.multiprocessing.start_processes(
        share, (port, shares, shared, tmp_path), nprocs=len(sizes), start_method="fork"
    )
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    close = dict(rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(torch.cat([first[0], second[0]]), result.detach(), **close)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), whole.grad, **close)
    torch.testing.assert_close(first[2] + second[2], norm.weight.grad, **close)  # DDP adds them up
    torch.testing.assert_close(first[3] + second[3], norm.bias.grad, **close)
    for found in (first, second):
        torch.testing.assert_close(found[4], norm.running_mean, **close)
        torch.testing.assert_close(found[5], norm.running_var, **close)
