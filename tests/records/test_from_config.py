"""What a config says of the protocol."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import fvnet_mm  # noqa: F401  (serves mmcv's operators)
from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.records import Protocol
from fvnet_mm.records.from_config import (
    fields_of_test,
    fields_of_training,
    framework_of,
    is_described,
    task_of,
    trunk_name,
)

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGES = 1000


@cache
def read(config: str) -> Config:
    return Config.fromfile(CONFIGS / f"{config}.py")


def protocol(config: str, world_size: int = 1, **changes: object) -> Protocol:
    """Of a config of the suite, changed by dotted keys and planned as a run of it would be."""
    cfg = deepcopy(read(config))
    cfg.merge_from_dict(changes)
    plan_batch(cfg, IMAGES, world_size, auto_scale_lr=bool(cfg.auto_scale_lr.get("enable")))
    settings = cfg.to_dict()
    return Protocol(**fields_of_test(settings, "val_dataloader"), **fields_of_training(settings, world_size))


@pytest.fixture(scope="module")
def retinanet() -> Protocol:
    return protocol("retinanet_fvnet_t_coco")


def test_a_protocol_is_what_the_page_about_it_says(retinanet: Protocol) -> None:
    assert retinanet.framework == "retinanet"
    assert (retinanet.optimizer, retinanet.learning_rate, retinanet.weight_decay) == ("AdamW", 1e-4, 1e-4)
    assert (retinanet.effective_batch, retinanet.length, retinanet.length_unit) == (16, 12, "epoch")
    assert retinanet.schedule == (
        "LinearLR 0 to 500 steps (start_factor=0.001), MultiStepLR 0 to 12 epochs (gamma=0.1, milestones=(8, 11))"
    )
    assert "Resize(keep_ratio=True, scale=(1333, 800))" in retinanet.train_pipeline
    assert (retinanet.precision, retinanet.gradient_clip, retinanet.averaged) == ("float32", 0, False)

    upernet = protocol("upernet_fvnet_t_ade20k")
    assert (upernet.framework, upernet.effective_batch, upernet.length, upernet.length_unit) == (
        "upernet",
        16,
        160_000,
        "step",
    )
    assert upernet.optimizer == "AdamW(betas=(0.9, 0.999))"
    assert upernet.parameter_rules == "(paramwise_cfg=(custom_keys=(log_tau=(decay_mult=0)), norm_decay_mult=0))"
    assert upernet.test_mode == "(mode=whole)"
    averaged = "StepEMAHook(ema_type=MomentumAnnealingEMA, gamma=10, momentum=0.0001, update_buffers=True)"
    assert protocol("fvnet_t_in1k").averaged == averaged


@pytest.mark.parametrize(
    "leaf", ["retinanet_{}_coco", "mask_rcnn_{}_coco", "semantic_fpn_{}_ade20k", "upernet_{}_ade20k"]
)
def test_the_trunk_is_no_part_of_it(leaf: str) -> None:
    digests = {protocol(leaf.format(trunk)).fingerprint for trunk in ("fvnet_t", "mobilenet_v2", "efficientformer_l3")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("config", "splits"),
    [
        ("retinanet_fvnet_t_coco", [(1, 16), (2, 8), (1, 4), (4, 2)]),
        ("semantic_fpn_fvnet_t_ade20k", [(1, 32), (8, 4), (1, 4), (4, 2)]),
        ("upernet_fvnet_t_ade20k", [(1, 16), (8, 2), (1, 4)]),  # whose warm-up is stretched with the accumulation
    ],
)
def test_devices_and_accumulation_are_no_part_of_it(config: str, splits: list[tuple[int, int]]) -> None:
    protocols = [protocol(config, world, **{"train_dataloader.batch_size": batch}) for world, batch in splits]
    assert len({found.fingerprint for found in protocols}) == 1


@pytest.mark.parametrize(
    "schedule",
    [
        dict(type="StepLR", step_size=30, gamma=0.5),
        dict(type="OneCycleLR", eta_max=0.1, total_steps=90),
        dict(type="CosineRestartLR", periods=[30, 60], restart_weights=[1, 0.5], eta_min=0),
        dict(type="ExponentialLR", gamma=0.99),
    ],
    ids=lambda schedule: schedule["type"],
)
def test_schedules_count_optimizer_steps(schedule: dict[str, object]) -> None:
    plain, accumulated = (
        protocol(
            "upernet_fvnet_t_ade20k",
            world,
            **{"train_dataloader.batch_size": 4, "param_scheduler": [dict(schedule, by_epoch=False, begin=0, end=90)]},
        )
        for world in (4, 1)
    )
    assert plain.schedule == accumulated.schedule  # of four iterations a step


def test_the_seed_and_how_files_are_read_are_no_part_of_it(retinanet: Protocol) -> None:
    same = protocol(
        "retinanet_fvnet_t_coco",
        **{
            "randomness.seed": 7,
            "optim_wrapper.optimizer.fused": True,
            "optim_wrapper.optimizer.foreach": False,
            "train_dataloader.num_workers": 1,
            "train_dataloader.dataset.data_root": "/elsewhere/",
            "work_dir": "/elsewhere",
            "model.bbox_head.num_classes": 3,
        },
    )
    assert same == retinanet


@pytest.mark.parametrize(
    ("key", "value", "fields"),
    [
        ("optim_wrapper.optimizer.lr", 2e-4, {"learning_rate"}),
        ("optim_wrapper.optimizer.weight_decay", 0.05, {"weight_decay"}),
        ("optim_wrapper.constructor", "LearningRateDecayOptimizerConstructor", {"parameter_rules"}),
        ("optim_wrapper.clip_grad", dict(max_norm=1.0), {"gradient_clip"}),
        ("optim_wrapper.clip_grad", dict(max_norm=0, norm_type=1), {"gradient_clip"}),
        ("optim_wrapper.clip_grad", dict(max_norm=0, error_if_nonfinite=True), {"gradient_clip"}),
        ("optim_wrapper.clip_grad", dict(type="value", clip_value=0.1), {"gradient_clip"}),
        ("custom_hooks", [dict(type="EMAHook", momentum=1e-3)], {"averaged"}),
        ("optim_wrapper.type", "AmpOptimWrapper", {"precision"}),
        ("optim_wrapper.type", "ApexOptimWrapper", {"precision"}),
        ("auto_scale_lr.base_batch_size", 8, {"effective_batch"}),
        ("auto_scale_lr.enable", True, {"effective_batch", "learning_rate", "learning_rate_rule"}),
        ("train_cfg.max_epochs", 36, {"length"}),
        ("param_scheduler.1.milestones", [27, 33], {"schedule"}),
        ("train_dataloader.dataset.pipeline.2.scale", (640, 640), {"train_pipeline"}),
        ("train_dataloader.dataset.pipeline.2.interpolation", "bicubic", {"train_pipeline"}),
        ("train_dataloader.sampler", dict(type="ClassAwareSampler"), {"train_pipeline"}),
        ("train_dataloader.sampler.shuffle", False, {"train_pipeline"}),
        ("train_dataloader.sampler.round_up", False, {"train_pipeline"}),
        ("train_dataloader.batch_sampler.type", "MultiDataAspectRatioBatchSampler", {"train_pipeline"}),
        ("train_dataloader.batch_sampler.drop_last", True, {"train_pipeline"}),
        ("train_dataloader.batch_sampler", None, {"train_pipeline"}),
        ("train_dataloader.drop_last", True, {"train_pipeline"}),
        ("train_dataloader.num_batch_per_epoch", 10, {"train_pipeline"}),
        ("default_hooks.param_scheduler", None, {"schedule"}),
        ("train_dataloader.collate_fn", dict(type="yolov5_collate"), {"train_pipeline"}),
        ("train_dataloader.dataset.indices", 100, {"train_pipeline"}),
        ("train_dataloader.dataset.type", "LVISV1Dataset", {"train_pipeline"}),
        ("train_dataloader.dataset.proposal_file", "found.pkl", {"train_pipeline"}),
        ("train_dataloader.dataset.test_mode", True, {"train_pipeline"}),
        ("custom_hooks", [dict(type="PipelineSwitchHook", switch_epoch=10)], {"schedule"}),
        ("val_evaluator.proposal_nums", (1, 10, 300), {"test_mode"}),
        *(
            (f"val_evaluator.{name}", 0.5, {"test_mode"})
            for name in ("ignore_index", "nan_to_num", "beta", "iou_thrs", "maxDets", "thrs")
        ),
        ("model.train_cfg.assigner.pos_iou_thr", 0.6, {"model"}),
        ("model.data_preprocessor.bgr_to_rgb", False, {"model"}),
        ("model.data_preprocessor.mean", [127.5, 127.5, 127.5], {"model"}),
        ("model.data_preprocessor.std", [127.5, 127.5, 127.5], {"model"}),
        ("model.data_preprocessor.mean", None, {"model"}),
        ("model.neck.init_cfg", dict(type="Normal", layer="Conv2d", std=0.1), {"model"}),
        ("val_cfg.fp16", True, {"test_mode"}),
        ("val_dataloader.batch_size", 8, {"test_mode"}),
        ("test_dataloader.dataset.type", "LVISV1Dataset", {"test_pipeline"}),
        ("test_dataloader.dataset.indices", 100, {"test_pipeline"}),
        ("test_dataloader.dataset.pipeline.1.scale", (640, 640), {"test_pipeline"}),
        ("model.test_cfg.max_per_img", 300, {"test_mode"}),
        ("model.neck.out_channels", 128, {"model"}),
    ],
)
def test_what_makes_rows_incomparable(retinanet: Protocol, key: str, value: object, fields: set[str]) -> None:
    other = protocol("retinanet_fvnet_t_coco", **{key: value, key.replace("test_d", "val_d"): value})
    assert retinanet.differences(other).keys() == fields
    assert other.fingerprint != retinanet.fingerprint


def test_the_spread_of_initial_weights_counts() -> None:
    narrow, wide = (
        protocol("retinanet_fvnet_t_coco", **{"model.bbox_head.init_cfg": dict(type="Normal", layer="Conv2d", std=std)})
        for std in (0.01, 1.0)
    )
    assert narrow.differences(wide).keys() == {"model"}


def test_how_images_are_normalised_is_said_where_it_is_not_as_usual(retinanet: Protocol) -> None:
    assert "data_preprocessor=DetDataPreprocessor(bgr_to_rgb=True, pad_size_divisor=32)" in retinanet.model
    usual = {"model.data_preprocessor.mean": (123.675, 116.28, 103.53)}
    assert protocol("retinanet_fvnet_t_coco", **usual) == retinanet
    none = protocol("retinanet_fvnet_t_coco", **{"model.data_preprocessor.mean": None})
    assert "mean=none, pad_size_divisor=32, std=(58.395, 57.12, 57.375)" in none.model


@pytest.mark.parametrize("norm", ["BN", "BN2d"])
def test_norms_of_each_device_are_others_than_synchronised_ones_on_several_alone(norm: str) -> None:
    synchronised, own = {"train_dataloader.batch_size": 4}, {"train_dataloader.batch_size": 4}
    own["model.decode_head.norm_cfg.type"] = norm
    four = protocol("semantic_fpn_fvnet_t_ade20k", 4, **synchronised)
    assert four.differences(protocol("semantic_fpn_fvnet_t_ade20k", 4, **own)).keys() >= {"train_pipeline"}
    one = protocol("semantic_fpn_fvnet_t_ade20k", 1, **own)
    assert one.train_pipeline == four.train_pipeline


def test_a_trunk_has_norms_of_each_device_unless_all_are_synchronised() -> None:
    changes = {"model.backbone.norm_cfg": dict(type="BN")}
    assert "BN" not in protocol("retinanet_fvnet_t_coco", 4, **changes).train_pipeline
    found = training(world_size=4, sync_bn="torch", model=dict(neck=dict(norm_cfg=dict(type="BN"))))
    assert found["train_pipeline"] == ", sync_bn"


def test_a_wrapper_of_the_optimizer_that_is_none_of_mmengines_two_is_named() -> None:
    wrapper = dict(type="ApexOptimWrapper", optimizer=dict(type="SGD", lr=0.1), opt_level="O2", accumulative_counts=2)
    assert training(optim_wrapper=wrapper)["precision"] == "ApexOptimWrapper(opt_level=O2)"
    assert training(optim_wrapper=wrapper | dict(type="OptimWrapper"))["precision"] == "float32"


@pytest.mark.parametrize("hook", ["CheckInvalidLossHook", "NumClassCheckHook", "EmptyCacheHook", "MemoryProfilerHook"])
def test_hooks_that_watch_are_no_part_of_it(retinanet: Protocol, hook: str) -> None:
    assert protocol("retinanet_fvnet_t_coco", custom_hooks=[dict(type=hook)]) == retinanet


@pytest.mark.parametrize("clip", [dict(max_norm=5), dict(max_norm=5.0, norm_type=2), dict(type="norm", max_norm=5)])
def test_the_usual_norm_is_a_number(clip: dict[str, object]) -> None:
    assert protocol("retinanet_fvnet_t_coco", **{"optim_wrapper.clip_grad": clip}).gradient_clip == 5.0


def test_a_scaled_rate_is_the_one_that_the_optimizer_gets(retinanet: Protocol) -> None:
    scaled = protocol("retinanet_fvnet_t_coco", 4, **{"auto_scale_lr.enable": True})
    assert scaled.effective_batch == 8
    assert scaled.learning_rate == pytest.approx(retinanet.learning_rate * 8 / 16)


def training(**changes: object) -> dict[str, object]:
    """What the fewest settings of a training say."""
    settings = dict(
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.001), accumulative_counts=2),
        train_dataloader=dict(batch_size=4, dataset=dict()),
        train_cfg=dict(max_iters=101),
        auto_scale_lr=dict(enable=True, base_batch_size=8),
    )
    world_size = changes.pop("world_size", 1)
    return fields_of_training(settings | changes, world_size)


def test_accumulation_counts_in_the_batch_and_not_in_the_scaled_rate() -> None:
    """As mmengine scales it, which knows of no accumulation."""
    found = training(world_size=3)
    assert (found["effective_batch"], found["learning_rate"], found["length"]) == (24, 0.001 * 12 / 8, 50)


def test_without_a_word_of_it_nothing_is_accumulated() -> None:
    found = training(optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.001)))
    assert (found["effective_batch"], found["length"], found["learning_rate_rule"]) == (4, 101, "linear")


def test_of_an_unknown_number_of_devices_batch_and_scaled_rate_are_unknown() -> None:
    found = training(world_size=None)
    assert (found["effective_batch"], found["learning_rate"]) == (None, None)
    assert training(world_size=None, auto_scale_lr=None)["learning_rate"] == 0.001


def test_a_scaled_rate_of_which_a_config_states_a_part_is_unknown() -> None:
    """The optimizer has a rate of its own then, and a sampler of batches their size."""
    optimizer = dict(optimizer=dict(type="AdamW"))
    assert training(optim_wrapper=optimizer)["learning_rate"] is None
    fields = training(train_dataloader=dict(dataset=dict(type="CocoDataset", pipeline=[])))
    assert (fields["learning_rate"], fields["effective_batch"]) == (None, None)


@pytest.mark.parametrize("kind", ["AdamW", "Adam", "SGD"])
def test_a_decay_that_no_config_states_is_torchs(kind: str) -> None:
    optimizer = getattr(torch.optim, kind)([torch.zeros(1, requires_grad=True)], lr=0.1)
    found = training(optim_wrapper=dict(optimizer=dict(type=kind, lr=0.1)))
    assert found["weight_decay"] == optimizer.defaults["weight_decay"]


@pytest.mark.parametrize(("dtype", "precision"), [({}, "float16"), (dict(dtype="bfloat16"), "bfloat16")])
def test_mixed_precision_is_mmengines_float16_where_no_other_is_named(dtype: dict[str, str], precision: str) -> None:
    wrapper = dict(type="AmpOptimWrapper", optimizer=dict(type="SGD", lr=0.1), **dtype)
    assert training(optim_wrapper=wrapper)["precision"] == precision


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (dict(type="LinearLR", by_epoch=False, end=100), "LinearLR 0 to 50 steps"),
        (dict(type="LinearLR", by_epoch=False, begin=10, end=101), "LinearLR 5 to 50.5 steps"),
        (dict(type="CosineAnnealingLR", by_epoch=False, T_max=80), "CosineAnnealingLR 0 on steps (T_max=40)"),
        (dict(type="MultiStepLR", by_epoch=False, milestones=[60, 80]), "MultiStepLR 0 on steps (milestones=(30, 40))"),
        (dict(type="CosineAnnealingLR", T_max=12), "CosineAnnealingLR 0 on epochs (T_max=12)"),
        (dict(type="ExponentialLR", gamma=0.9), "ExponentialLR 0 on epochs (gamma=0.9)"),
    ],
)
def test_a_schedule_of_forward_passes_is_told_in_optimizer_steps(scheduler: dict[str, object], words: str) -> None:
    assert training(param_scheduler=scheduler)["schedule"] == words


@pytest.mark.parametrize(
    ("config", "framework", "task"),
    [
        ("retinanet_fvnet_t_coco", "retinanet", "detection"),
        ("mask_rcnn_fvnet_t_coco", "mask_rcnn", "instance_segmentation"),
        ("semantic_fpn_fvnet_t_ade20k", "semantic_fpn", "semantic_segmentation"),
        ("upernet_fvnet_t_ade20k", "upernet", "semantic_segmentation"),
        ("fvnet_t_in1k", "classification", "classification"),
        ("fvnet_t_in1k_distilled", "classification", "classification"),
    ],
)
def test_framework_and_task(config: str, framework: str, task: str) -> None:
    settings = read(config).to_dict()
    assert (framework_of(settings["model"]), task_of(settings)) == (framework, task)


def test_other_detectors_keep_their_names() -> None:
    assert framework_of(dict(type="mmdet.ATSS")) == "ATSS"


@pytest.mark.parametrize(
    ("parts", "task"),
    [
        (dict(bbox_head={}), "detection"),
        (dict(mask_head={}), "instance_segmentation"),
        (dict(roi_head=dict(bbox_head={})), "detection"),
        (dict(roi_head=dict(bbox_head={}, mask_head={})), "instance_segmentation"),
    ],
)
def test_a_mask_head_anywhere_segments_instances(parts: dict[str, object], task: str) -> None:
    """Detectors of one stage, such as SOLO, have theirs beside the trunk."""
    assert task_of(dict(default_scope="mmdet", model=parts)) == task


@pytest.mark.parametrize(
    ("trunk", "name"),
    [
        (dict(type="FVNet", arch="t", drop_path_rate=0.1), "fvnet_t"),
        (dict(type="mmdet.FVNet", arch="t"), "fvnet_t"),
        (dict(type="FVNet", arch="s"), "FVNet"),
        (dict(type="ResNet", depth=50), "ResNet"),
        (dict(type="TimmBackbone", model_name="hf/a.b"), "hf_a_b"),
    ],
)
def test_another_size_or_class_than_the_description_has_another_name(trunk: dict[str, object], name: str) -> None:
    cfg = dict(backbone_name="fvnet_t", backbone=dict(type="FVNet", arch="t"), model=dict(backbone=trunk))
    assert trunk_name(cfg) == name
    assert is_described(cfg) == (name == "fvnet_t")
