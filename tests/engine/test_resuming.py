"""What a start makes of the folder that it finds."""

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.runner import IterBasedTrainLoop

from fvnet_mm.engine.data_source import demo_folder
from fvnet_mm.engine.resuming import OwedEvaluationHook, refuse_other_run, resumption
from fvnet_mm.errors import UserError


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


def test_figures_of_a_killed_run_whose_checkpoints_are_gone_are_kept(tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "report/leaderboard/records/retinanet_fvnet_t_seed0/run.json"
    record = json.loads(file.read_text()) | dict(status="running")
    killed = tmp_path / "run.json"
    killed.write_text(json.dumps(record))
    before = killed.read_bytes()
    with pytest.raises(UserError, match="has the figures of a run whose checkpoints are gone"):
        refuse_other_run(tmp_path, Namespace(demo=False, resume=None))
    assert refuse_other_run(tmp_path, Namespace(demo=False, resume="auto")) == []
    assert killed.read_bytes() == before


@pytest.mark.parametrize(("done", "owed"), [(0, 0), (1, 0), (2, 1), (3, 1)])
@pytest.mark.parametrize("unit", ["epoch", "iteration"])
def test_the_evaluation_that_is_owed(unit: str, done: int, owed: int) -> None:
    """One is due every second epoch or iteration of three, and after the last."""
    schedule = dict(val_begin=1, val_interval=2)
    if unit == "iteration":
        loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
        vars(loop).update(_iter=done, _max_iters=3, **schedule)
    else:
        loop = SimpleNamespace(epoch=done, max_epochs=3, iter=4 * done, dataloader=range(4), **schedule)
    runner = SimpleNamespace(train_loop=loop, val_loop=Mock(), logger=Mock(), _load_from="a.pth")
    OwedEvaluationHook(Mock(**{"lacks_evaluation.return_value": True})).before_train(runner)
    assert runner.val_loop.run.call_count == owed
