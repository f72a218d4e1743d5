"""What processes say together, in two that are."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fvnet_mm.engine.agreement import MeanLossHook, any_process


def vote(rank: int, port: int, flags: list[bool], losses: list[dict[str, torch.Tensor]], out: Path) -> None:
    """One of several processes: its flag, and its losses as they are logged."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(len(flags)), MASTER_ADDR="localhost", MASTER_PORT=str(port))
    dist.init_process_group("gloo")
    outputs = losses[rank]
    MeanLossHook().after_train_iter(None, 0, None, outputs)
    torch.save((any_process(flags[rank]), outputs), out / str(rank))


@pytest.mark.parametrize("flags", [[False, False], [False, True], [True, False]])
def test_processes_agree_on_flags_and_losses(flags: list[bool], tmp_path: Path) -> None:
    losses = [
        dict(loss=torch.tensor(1.0), acc=torch.tensor(50.0, dtype=torch.float64)),
        dict(loss=torch.tensor(4.0), acc=torch.tensor(20.0, dtype=torch.float64)),
    ]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(vote, (port, flags, losses, tmp_path), nprocs=2, start_method="fork")
    for rank in range(2):
        flag, outputs = torch.load(tmp_path / str(rank))
        assert flag == any(flags)
        assert {name: value.item() for name, value in outputs.items()} == {"loss": 2.5, "acc": 35.0}


def test_one_process_agrees_with_itself() -> None:
    outputs = dict(loss=torch.tensor(2.0))
    MeanLossHook().after_train_iter(None, 0, None, outputs)
    assert outputs == dict(loss=torch.tensor(2.0))
    assert any_process(True)
    assert not any_process(False)
