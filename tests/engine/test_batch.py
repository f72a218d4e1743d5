import logging
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.data_source import images_per_epoch
from fvnet_mm.engine.tasks import DataSplit
from fvnet_mm.errors import UserError


def make_config(per_device: int = 2, tuned: int | None = 16) -> Config:
    cfg = Config(
        dict(
            train_dataloader=dict(batch_size=per_device),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-4)),
            param_scheduler=[
                dict(type="LinearLR", by_epoch=False, begin=0, end=500),
                dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[8, 11]),
            ],
            train_cfg=dict(max_epochs=12),
            default_hooks=dict(checkpoint=dict(interval=1)),
        )
    )
    if tuned:
        cfg.auto_scale_lr = dict(enable=False, base_batch_size=tuned)
    return cfg


@given(per_device=st.sampled_from([1, 2, 4, 8, 16]), world_size=st.sampled_from([1, 2, 4, 8]))
def test_the_batch_follows_the_recipe(per_device: int, world_size: int) -> None:
    cfg = make_config(per_device)
    plan = plan_batch(cfg, 118_287, world_size, auto_scale_lr=False)
    assert plan.effective == max(16, per_device * world_size)
    assert cfg.optim_wrapper.accumulative_counts == plan.accumulation
    assert cfg.param_scheduler[0].end == 500 * plan.accumulation  # warm-up is counted in optimizer steps
    assert cfg.param_scheduler[1].milestones == [8, 11]
    assert ("as tuned" in str(plan)) == (plan.effective == 16)


def test_the_rate_follows_the_batch_when_asked() -> None:
    cfg = make_config()
    plan = plan_batch(cfg, 118_287, 1, auto_scale_lr=True)
    assert plan.accumulation == 1
    assert cfg.auto_scale_lr.enable
    assert "0.0001 -> 1.25e-05" in str(plan)


def test_an_odd_number_of_devices_is_outside_the_protocol_and_says_so() -> None:
    plan = plan_batch(make_config(), 118_287, 3, auto_scale_lr=False)
    assert plan.effective == 18
    assert "NOT the tuned 16" in str(plan)


@pytest.mark.parametrize(("devices", "effective"), [(5, 15), (6, 18), (7, 14), (16, 16), (20, 20)])
def test_of_the_batches_that_devices_can_make_the_nearest_is_taken(devices: int, effective: int) -> None:
    assert plan_batch(make_config(1), 118_287, devices, auto_scale_lr=False).effective == effective


def test_iteration_schedules_are_stretched() -> None:
    cfg = make_config(4, 32)
    cfg.train_cfg = dict(max_iters=40000, val_interval=4000)
    cfg.param_scheduler = [dict(type="PolyLR", by_epoch=False, begin=0, end=40000)]
    cfg.default_hooks.checkpoint = dict(interval=4000, by_epoch=False)
    plan = plan_batch(cfg, 118_287, 2, auto_scale_lr=False)
    assert plan.accumulation == 4
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (160000, 16000)
    assert cfg.param_scheduler[0].end == 160000
    assert cfg.default_hooks.checkpoint.interval == 16000


def test_whatever_is_counted_in_iterations_is_stretched() -> None:
    cfg = make_config(4, 32)
    cfg.param_scheduler = [
        dict(type="LinearLR", by_epoch=False, begin=0, end=10),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=10, end=100, T_max=90),
        dict(type="MultiStepLR", by_epoch=False, milestones=[60, 80]),
        dict(type="CosineAnnealingLR", begin=1, end=12, T_max=11),
    ]
    assert plan_batch(cfg, 118_287, 1, auto_scale_lr=False).accumulation == 8
    warm_up, cosine, steps, of_epochs = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 80)
    assert (cosine.begin, cosine.end, cosine.T_max) == (80, 800, 720)
    assert steps.milestones == [480, 640]
    assert (of_epochs.begin, of_epochs.end, of_epochs.T_max) == (1, 12, 11)
    assert cfg.default_hooks.checkpoint.interval == 1  # epochs


def test_all_that_mmengines_schedules_count_is_stretched() -> None:
    cfg = make_config(4, 16)
    cfg.train_cfg = dict(max_iters=100, val_begin=20, dynamic_intervals=[(80, 5)])
    cfg.default_hooks.checkpoint = dict(by_epoch=False, interval=-1, save_begin=10)
    cfg.param_scheduler = [
        dict(type="StepLR", by_epoch=False, step_size=30, gamma=0.5),
        dict(type="OneCycleLR", by_epoch=False, eta_max=0.1, total_steps=100),
        dict(type="CosineRestartLR", by_epoch=False, periods=[40, 60], restart_weights=[1, 0.5]),
        dict(type="ExponentialLR", by_epoch=False, gamma=0.9),
        dict(type="StepLR", step_size=3),
    ]
    assert plan_batch(cfg, 118_287, 1, auto_scale_lr=False).accumulation == 4
    assert (cfg.train_cfg.val_begin, cfg.train_cfg.val_interval) == (80, 4000)  # mmengine's own is 1000
    assert cfg.train_cfg.dynamic_intervals == [(320, 20)]
    steps, cycle, restarts, exponential, of_epochs = cfg.param_scheduler
    assert (steps.step_size, steps.gamma, cycle.total_steps) == (120, 0.5, 400)
    assert (restarts.periods, restarts.restart_weights) == ([160, 240], [1, 0.5])
    assert exponential.gamma**4 == pytest.approx(0.9)
    assert of_epochs.step_size == 3
    assert cfg.default_hooks.checkpoint.save_begin == 40
    assert IterBasedTrainLoop.__init__.__defaults__[1] == 1000


def test_a_schedule_without_accumulation_stays_as_it_is() -> None:
    cfg = make_config(16)
    cfg.train_cfg = dict(max_iters=100)
    text = cfg.pretty_text
    plan_batch(cfg, 118_287, 1, auto_scale_lr=False)
    del cfg.optim_wrapper["accumulative_counts"]
    assert cfg.pretty_text == text


def test_checkpoints_by_epoch_of_a_run_of_iterations_are_not_stretched() -> None:
    cfg = make_config(4, 32)
    cfg.train_cfg = dict(max_iters=100)
    plan_batch(cfg, 118_287, 1, auto_scale_lr=False)
    assert cfg.default_hooks.checkpoint.interval == 1


def test_a_config_that_scales_its_rate_accumulates_nothing() -> None:
    cfg = make_config()
    cfg.auto_scale_lr.enable = True
    plan = plan_batch(cfg, 118_287, 1, auto_scale_lr=False)
    assert (plan.accumulation, plan.effective, plan.scale_learning_rate) == (1, 2, True)


def test_a_rate_is_scaled_without_the_accumulation() -> None:
    """As mmengine scales it, and the record says."""
    cfg = make_config()
    cfg.optim_wrapper.accumulative_counts = 8
    plan = plan_batch(cfg, 118_287, 1, auto_scale_lr=True)
    assert plan.effective == 16
    assert "0.0001 -> 1.25e-05 (0.125 times, without the accumulation)" in str(plan)
    runner = SimpleNamespace(_train_dataloader=cfg.train_dataloader, world_size=1, logger=logging, param_schedulers=[])
    wrapper = OptimWrapper(torch.optim.SGD([torch.zeros(1)], lr=1e-4))
    Runner.scale_lr(runner, wrapper, cfg.auto_scale_lr)
    assert wrapper.optimizer.param_groups[0]["lr"] == pytest.approx(1.25e-05)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(accumulative_counts=0), r"optim_wrapper\.accumulative_counts must be a whole number of at least 1"),
        (dict(optimizer=None), r"has no optim_wrapper\.optimizer"),
        (dict(optimizer=dict(lr=-1)), r"lr must be a number of at least 0, not -1"),
        (dict(optimizer=dict(lr=float("nan"))), r"lr must be a number of at least 0, not nan"),
    ],
)
def test_an_optimizer_that_makes_no_sense(changes: dict[str, object], sentence: str) -> None:
    cfg = make_config()
    cfg.optim_wrapper.update(changes)
    with pytest.raises(UserError, match=sentence):
        plan_batch(cfg, 100, 1, auto_scale_lr=False)


def test_settings_that_may_be_missing() -> None:
    cfg = make_config(4)
    cfg.train_cfg = dict(max_iters=100)
    cfg.default_hooks.checkpoint = dict(by_epoch=False)
    assert plan_batch(cfg, 100, 1, auto_scale_lr=False).accumulation == 4
    assert "interval" not in cfg.default_hooks.checkpoint
    cfg.auto_scale_lr = None
    assert plan_batch(cfg, 100, 1, auto_scale_lr=False).tuned is None
    with pytest.raises(UserError, match="base_batch_size"):
        plan_batch(cfg, 100, 1, auto_scale_lr=True)


def test_an_accumulation_in_the_config_is_kept() -> None:
    cfg = make_config()
    cfg.optim_wrapper.accumulative_counts = 2
    assert plan_batch(cfg, 118_287, 1, auto_scale_lr=False).effective == 4
    assert cfg.param_scheduler[0].end == 500


def test_a_step_never_sees_more_than_an_epoch() -> None:
    cfg = make_config(2)
    plan = plan_batch(cfg, 7, 1, auto_scale_lr=False)
    assert (plan.accumulation, plan.effective, plan.steps_per_epoch) == (4, 8, 1)
    assert "NOT the tuned 16" in str(plan)


def test_a_warm_up_as_long_as_the_run_is_warned_of() -> None:
    plan = plan_batch(make_config(2), 205, 1, auto_scale_lr=False)
    assert (plan.steps, plan.warm_up_steps) == (12 * 13, 500)  # 103 iterations an epoch in 13 groups of 8
    assert "500 of the run's 156 optimizer steps" in plan.warnings[0]
    assert plan_batch(make_config(2), 118_287, 1, auto_scale_lr=False).warnings == []


def test_a_warm_up_counted_in_epochs_is_one_too() -> None:
    cfg = make_config(2)
    cfg.param_scheduler = [dict(type="LinearLR", by_epoch=True, begin=0, end=5, convert_to_iter_based=True)]
    plan = plan_batch(cfg, 160, 1, auto_scale_lr=False)
    assert (plan.steps, plan.warm_up_steps) == (12 * 10, 5 * 10)
    assert cfg.param_scheduler[0].end == 5
    assert plan.warnings


def test_one_schedule_without_a_list() -> None:
    """As mmpretrain's ``imagenet_bs256`` has it."""
    cfg = make_config()
    cfg.param_scheduler = dict(type="PolyLR", by_epoch=False, begin=0, end=100)
    plan_batch(cfg, 118_287, 1, auto_scale_lr=False)
    assert cfg.param_scheduler.end == 800


@pytest.mark.parametrize("length", [0, -1, "ten", 1.5])
def test_a_length_that_makes_no_sense(length: object) -> None:
    cfg = make_config()
    cfg.train_cfg.max_epochs = length
    with pytest.raises(UserError, match=r"train_cfg\.max_epochs must be a whole number"):
        plan_batch(cfg, 118_287, 1, auto_scale_lr=False)


def test_scaling_needs_a_tuned_batch() -> None:
    with pytest.raises(UserError, match="base_batch_size"):
        plan_batch(make_config(tuned=None), 118_287, 1, auto_scale_lr=True)
    assert "does not say" in str(plan_batch(make_config(tuned=None), 118_287, 1, auto_scale_lr=False))


def test_a_schedule_of_iterations_accumulates_over_small_data_sets() -> None:
    """Camera roll of 12 images: batches of 4, so three iterations an epoch, and yet 32 images a step."""
    cfg = make_config(4, 32)
    cfg.train_cfg = dict(max_iters=100, val_interval=50)
    cfg.param_scheduler = [dict(type="PolyLR", by_epoch=False, begin=0, end=100)]
    plan = plan_batch(cfg, 12, 1, auto_scale_lr=False)
    assert (plan.accumulation, plan.effective, plan.steps) == (8, 32, 100)
    assert cfg.train_cfg.max_iters == 800


def test_a_schedule_that_outlasts_the_run() -> None:
    cfg = make_config(4, 4)
    cfg.train_cfg = dict(max_iters=100, val_interval=50)
    cfg.param_scheduler = [dict(type="PolyLR", by_epoch=False, begin=0, end=40_000)]
    assert "takes 40000 optimizer steps and the run 100" in plan_batch(cfg, 12, 1, auto_scale_lr=False).warnings[0]
    for end, warned in ((100, False), (90, False), (75, True), (5, True)):
        cfg.param_scheduler[0]["end"] = end
        warnings = plan_batch(cfg, 12, 1, auto_scale_lr=False).warnings
        assert bool(warnings) == warned
    assert "takes 5 optimizer steps and the run 100, so the last 95 are all at its last rate" in warnings[0]
    cfg.param_scheduler.append(dict(type="MultiStepLR", by_epoch=False, milestones=[60]))  # without an end
    assert plan_batch(cfg, 12, 1, auto_scale_lr=False).warnings == []


@pytest.mark.parametrize(("steps", "warned"), [(33, False), (34, True)])
def test_a_warm_up_of_more_than_a_third_is_warned_of(steps: int, warned: bool) -> None:
    cfg = make_config(4, 4)
    cfg.train_cfg = dict(max_iters=100)
    cfg.param_scheduler = [dict(type="LinearLR", by_epoch=False, begin=0, end=steps)]
    assert bool(plan_batch(cfg, 12, 1, auto_scale_lr=False).warnings) == warned


def test_schedules_that_are_none() -> None:
    cfg = make_config()
    cfg.param_scheduler = 3
    with pytest.raises(UserError, match="list of schedules"):
        plan_batch(cfg, 100, 1, auto_scale_lr=False)


def test_two_lengths_are_refused() -> None:
    """A segmentor of iterations that is told its epochs."""
    cfg = make_config(4, 4)
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=100, val_interval=50, max_epochs=1)
    with pytest.raises(UserError, match=r"IterBasedTrainLoop, so set train_cfg\.max_iters and leave max_epochs out"):
        plan_batch(cfg, 12, 1, auto_scale_lr=False)
    cfg.train_cfg.type = "EpochBasedTrainLoop"
    with pytest.raises(UserError, match=r"so set train_cfg\.max_epochs and leave max_iters out"):
        plan_batch(cfg, 12, 1, auto_scale_lr=False)


def test_a_long_warm_up_names_the_length_that_there_is() -> None:
    cfg = make_config(4, 4)
    assert "train longer (train_cfg.max_epochs)" in plan_batch(cfg, 4, 1, auto_scale_lr=False).warnings[0]
    cfg.train_cfg = dict(max_iters=100, val_interval=50)
    assert "train longer (train_cfg.max_iters)" in plan_batch(cfg, 4, 1, auto_scale_lr=False).warnings[0]


def test_a_repeated_data_set_has_longer_epochs() -> None:
    """Eight images fifty times are 400: enough for the tuned batch, which eight are not."""
    cfg = make_config(per_device=1)
    inner = dict(type="RepeatDataset", times=5, dataset=dict(type="CocoDataset"))
    cfg.train_dataloader.dataset = dict(type="mmdet.RepeatDataset", times=10, dataset=inner)
    split = DataSplit("train", 8, "")
    assert images_per_epoch(cfg, split) == 400
    plan = plan_batch(cfg, images_per_epoch(cfg, split), 1, auto_scale_lr=False)
    assert (plan.effective, plan.steps_per_epoch) == (16, 25)
    cfg.train_dataloader.dataset = dict(type="ResidentDataset", dataset=dict(type="CocoDataset", indices=6))
    assert images_per_epoch(cfg, split) == 6
