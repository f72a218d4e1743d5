"""What a start makes of the folder that it finds."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch

from fvnet_mm.engine.data_source import demo_folder
from fvnet_mm.engine.resuming import refuse_other_run, resumption


def test_a_demo_over_a_demo_removes_its_checkpoints_alone(tmp_path: Path) -> None:
    demo_folder(tmp_path).mkdir()
    for name in ("epoch_1.pth", "epoch_1.pth.sha256", "epoch_1_iter_3.pth", "iter_8.pth", "my_weights.pth"):
        (tmp_path / name).write_bytes(b"")
    assert refuse_other_run(tmp_path, Namespace(demo=True, resume=None)) == []
    assert {path.name for path in tmp_path.iterdir()} == {"demo_data", "my_weights.pth"}


def test_a_restart_prefers_the_runs_own_checkpoint_to_the_one_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert resumption("old.pth", tmp_path) == "old.pth"
    torch.save({}, tmp_path / "epoch_2.pth")
    assert resumption("old.pth", tmp_path) == "auto"
