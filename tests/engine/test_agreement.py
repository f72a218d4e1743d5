"""What processes say together, in two that are."""

import os
import re
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config

from fvnet_mm.engine.agreement import MeanLossHook, any_process, decided_by_main
from fvnet_mm.engine.resuming import choose_weights
from fvnet_mm.errors import UserError


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


def decide(rank: int, port: int, out: Path) -> None:
    """One of two processes: what is decided, what is refused, and which checkpoint is resumed."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=str(port))
    dist.init_process_group("gloo")
    os.chdir(out / str(rank))

    def refuse() -> None:
        raise UserError(f"refused by rank {rank}")

    said = [decided_by_main(lambda: f"as rank {rank} says")]
    for attempt in (
        lambda: decided_by_main(refuse),
        lambda: choose_weights(Config(dict(work_dir=str(out / str(rank)))), "auto"),
        lambda: choose_weights(Config(dict(work_dir=".")), "auto"),  # a folder of each process's own
    ):
        try:
            said.append(str(attempt()[1]))
        except UserError as error:
            said.append(str(error))
    (out / f"{rank}.txt").write_text("\n".join(said))


def test_the_main_process_decides(tmp_path: Path) -> None:
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
    torch.save({}, tmp_path / "0" / "epoch_2.pth")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(decide, (port, tmp_path), nprocs=2, start_method="fork")
    first, second = ((tmp_path / f"{rank}.txt").read_text().splitlines() for rank in range(2))
    common = ["as rank 0 says", "refused by rank 0", str(tmp_path / "0" / "epoch_2.pth")]
    assert first == [*common, "epoch_2.pth"]
    assert second[:3] == common
    assert re.match(rf"process 1 on \S+ does not see {tmp_path / '1' / 'epoch_2.pth'}, from which", second[3])


def test_one_process_agrees_with_itself() -> None:
    outputs = dict(loss=torch.tensor(2.0))
    MeanLossHook().after_train_iter(None, 0, None, outputs)
    assert outputs == dict(loss=torch.tensor(2.0))
    assert any_process(True)
    assert not any_process(False)
