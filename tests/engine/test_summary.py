"""What the first screen says of a run's length."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from torch import nn

from fvnet_mm.engine.batch import BatchPlan
from fvnet_mm.engine.summary import start_screen


@pytest.mark.parametrize(
    ("train_cfg", "numbers", "sentence"),
    [
        (dict(max_epochs=1), (30, 0, 30), "1 epoch of 30 optimizer steps, AdamW at 0.001"),
        (dict(max_epochs=12), (1, 1, 12), "12 epochs of 1 optimizer step, warm-up over 1 step, AdamW at 0.001"),
        (dict(max_epochs=2), (30, 5, 60), "2 epochs of 30 optimizer steps, warm-up over 5 steps, AdamW at 0.001"),
        (dict(max_iters=1), (7, 0, 1), "1 optimizer step, AdamW at 0.001"),
        (dict(max_iters=40), (7, 3, 40), "40 optimizer steps, warm-up over 3 steps, AdamW at 0.001"),
    ],
)
def test_length(train_cfg: dict[str, int], numbers: tuple[int, int, int], sentence: str) -> None:
    per_epoch, warm_up, steps = numbers
    cfg = Config(
        dict(train_cfg=train_cfg, optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-3)), config_name="a"),
        filename=__file__,
    )
    runner = SimpleNamespace(cfg=cfg, model=nn.Linear(1, 1), seed=0, work_dir="work_dirs/a")
    plan = BatchPlan(2, 1, 1, None, 1e-3, False, per_epoch, warm_up, steps, steps)
    data = SimpleNamespace(splits=(), folder=SimpleNamespace(classes=("cat",)), skipped=())
    screen = start_screen(runner, data, plan, [], None)
    (line,) = [line for line in screen.splitlines() if line.startswith("  schedule ")]
    assert line == f"  schedule   {sentence}"
