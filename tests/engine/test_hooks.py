import io
import logging
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from fvnet_mm.engine.hooks import EvaluationHistoryHook, LoggedMetrics, ProgressHook, ReproducibleEpochHook, seed_worker
from fvnet_mm.engine.nonfinite import NonFiniteHook
from fvnet_mm.errors import UserError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_runner(epoch: int = 0, iterations: int = 4, accumulation: int = 1) -> SimpleNamespace:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    logger = logging.Logger("run")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    return SimpleNamespace(
        seed=7,
        epoch=epoch,
        iter=0,
        model=model,
        logger=logger,
        optim_wrapper=OptimWrapper(optimizer, accumulative_counts=accumulation),
        train_dataloader=range(iterations),
        val_dataloader=range(2),
        train_loop=SimpleNamespace(max_iters=iterations),
    )


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


def test_an_epoch_draws_what_its_number_decides() -> None:
    def start(epoch: int) -> tuple[float, float, float]:
        ReproducibleEpochHook().before_train_epoch(make_runner(epoch))
        return draw()

    first, second = start(1), start(2)
    assert len({*first, *second}) == 6
    draw()
    assert start(1) == first


def test_workers_draw_what_torch_decides() -> None:
    torch.manual_seed(3)
    seed_worker(0)
    first = draw()
    draw()
    torch.manual_seed(3)
    seed_worker(5)
    assert draw() == first


def test_the_last_smaller_group_of_an_epoch_is_applied_with_its_own_weight() -> None:
    runner = make_runner(iterations=5, accumulation=2)
    ReproducibleEpochHook().before_train_epoch(runner)
    weights = []
    for _ in runner.train_dataloader:
        runner.optim_wrapper.update_params(runner.model(torch.ones(1)).sum())
        weights.append(runner.model.weight.item())
    # The gradient of each loss is 1, so every group's mean is 1 and steps by 1: after 2, 4 and the lone 5th.
    assert weights == [0, -1, -1, -2, -3]
    assert runner.model.weight.grad is None or runner.model.weight.grad.item() == 0


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_with_the_time_left_only_on_a_terminal(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    runner, hook = make_runner(), ProgressHook()
    hook.before_run(runner)
    hook.before_train(runner)
    for runner.iter in range(4):
        hook.after_train_iter(runner, runner.iter, outputs={"loss": torch.tensor(0.25)})
    runner.logger.warning("a log line")
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0)
    hook.after_val_epoch(runner)
    hook.after_run(runner)
    text = out.getvalue()
    assert "a log line" in text
    assert ("4/4" in text and "loss 0.250" in text) == terminal
    runner.logger.warning("afterwards")  # the handler writes to the stream itself again
    assert out.getvalue().endswith("afterwards\n")


def test_history_evaluates_first_when_asked_and_only_at_the_start() -> None:
    runner = make_runner()
    history = EvaluationHistoryHook(before_training=True)
    runner.val_loop = SimpleNamespace(run=lambda: history.after_val_epoch(runner, {"AP": 0.0}))
    history.before_train(runner)
    runner.iter, runner.epoch = 4, 1
    history.before_train(runner)
    assert history.evaluations == [LoggedMetrics(0, {"AP": 0.0})]


def test_history_counts_optimizer_steps_where_the_schedule_counts_iterations() -> None:
    runner = make_runner()
    runner.cfg = SimpleNamespace(optim_wrapper=dict(accumulative_counts=4))
    runner.train_loop = object.__new__(IterBasedTrainLoop)
    runner.iter = 12  # passes of a quarter of the batch
    history = EvaluationHistoryHook()
    history.after_val_epoch(runner, {"mIoU": 31.0})
    assert history.evaluations == [LoggedMetrics(3, {"mIoU": 31.0})]


def test_steps_left_out_before_a_restart_count(tmp_path: Path) -> None:
    runner = SimpleNamespace(work_dir=tmp_path, cfg=Mock(), logger=Mock(), epoch=0, iter=0)
    runner.optim_wrapper = SimpleNamespace(get_lr=lambda: {"lr": [0.1]})
    runner.message_hub = MessageHub("before")
    NonFiniteHook(tolerated=1)._report(runner, {})
    checkpoint = runner.message_hub.state_dict()
    runner.message_hub = MessageHub("after")
    runner.message_hub.load_state_dict(checkpoint)
    with pytest.raises(UserError, match="--skip-nonfinite 2"):
        NonFiniteHook(tolerated=1)._report(runner, {})
