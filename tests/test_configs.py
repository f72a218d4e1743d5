"""Every shipped config: short, readable from anywhere, buildable, trainable, with what the recipe says in it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from torch import nn

from fvnet_mm.backbones import FVNet
from fvnet_mm.engine.compatibility import backbone_shapes
from fvnet_mm.engine.config_file import replace_sync_batch_norm
from fvnet_mm.engine.runner import build_model
from fvnet_mm.engine.trunk import plug_backbone

CONFIGS = Path(__file__).parents[1] / "configs"
FRAMEWORKS = {"retinanet": "coco", "mask_rcnn": "coco", "semantic_fpn": "ade20k", "upernet": "ade20k"}
LEAVES = sorted(path for framework in FRAMEWORKS for path in CONFIGS.glob(f"{framework}_*.py"))
DATA = (*FRAMEWORKS.values(), "shapes")
TRUNKS = sorted((CONFIGS / "_base_" / "backbones").glob("*.py"))
COMPARED = ("fvnet_n", "fvnet_t", "fvnet_s", "fvnet_m", "fvnet_l", "mobilenet_v2", "mobilenet_v3_large")
COMPARED += ("efficientformer_l1", "efficientformer_l3", "efficientformer_l7")
SHAPE = (97, 65)  # odd on purpose


def stem(path: Path) -> str:
    return path.stem


def test_the_comparison_is_complete() -> None:
    wanted = {f"{framework}_{trunk}_{data}" for framework, data in FRAMEWORKS.items() for trunk in COMPARED}
    for size in "ntsml":
        wanted |= {f"{framework}_fvnet_{size}_coco_3x" for framework in ("retinanet", "mask_rcnn")}
        wanted |= {f"semantic_fpn_fvnet_{size}_ade20k_{length}" for length in ("80k", "160k")}
    wanted |= {f"{framework}_fvnet_s_shapes" for framework in FRAMEWORKS}
    assert {path.stem for path in LEAVES} == wanted


def detection_sample() -> DetDataSample:
    sample = DetDataSample()
    sample.set_metainfo(dict(img_shape=SHAPE, pad_shape=SHAPE, batch_input_shape=SHAPE, ori_shape=SHAPE))
    mask = np.zeros((1, *SHAPE), np.uint8)
    mask[0, 5:60, 5:60] = 1
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[5.0, 5.0, 60.0, 60.0]]), labels=torch.tensor([1]), masks=BitmapMasks(mask, *SHAPE)
    )
    return sample


def segmentation_sample() -> SegDataSample:
    sample = SegDataSample()
    sample.set_metainfo(dict(img_shape=SHAPE, pad_shape=SHAPE, ori_shape=SHAPE))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 19, (1, *SHAPE)))
    return sample


@pytest.mark.parametrize("path", LEAVES, ids=stem)
def test_leaf(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(path.read_text().splitlines()) <= 12
    cfg = Config.fromfile(path)
    framework = next(name for name in FRAMEWORKS if path.stem.startswith(name))
    assert path.stem.startswith(tuple(f"{framework}_{cfg.backbone_name}_{data}" for data in DATA))
    cfg.model.backbone.pop("init_cfg", None)
    replace_sync_batch_norm(cfg.model, "BN")
    model = build_model(cfg.model)
    channels = [shape[1] for shape in backbone_shapes(model.backbone)]
    assert channels == list(model.backbone.channels) == [cfg.channels[i] for i in cfg.levels]
    assert tuple(model.backbone.strides) == tuple(4 * 2**level for level in cfg.levels)
    check_strides(model)

    model.init_weights()
    model.train()
    sample = segmentation_sample() if FRAMEWORKS[framework] == "ade20k" else detection_sample()
    losses = model.loss(torch.randn(2, 3, *SHAPE), [sample, sample])
    total = sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if "loss" in name)
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), name


def check_strides(model: nn.Module) -> None:
    """The anchors and the pooled regions lie on the grids that the backbone's strides make."""
    strides = tuple(model.backbone.strides)
    head = getattr(model, "bbox_head", None) or getattr(model, "rpn_head", None)
    if head is not None:
        assert tuple(stride[0] for stride in head.prior_generator.strides[: len(strides)]) == strides
    if hasattr(model, "roi_head"):
        assert tuple(model.roi_head.bbox_roi_extractor.featmap_strides) == strides
    if hasattr(getattr(model, "decode_head", None), "feature_strides"):
        assert tuple(model.decode_head.feature_strides) == strides


@pytest.mark.parametrize("path", TRUNKS, ids=stem)
def test_described_trunk_fits_every_framework(path: Path) -> None:
    """Described channels are those that come out, and reach the neck or heads of all four frameworks."""
    trunk = Config.fromfile(path)
    assert trunk.backbone_name == path.stem
    trunk.backbone.pop("init_cfg", None)
    assert [shape[1] for shape in backbone_shapes(MODELS.build(trunk.backbone))] == list(trunk.channels)
    for framework, data in FRAMEWORKS.items():
        cfg = Config.fromfile(CONFIGS / f"{framework}_fvnet_s_{data}.py")
        cfg.config_name = f"{framework}_fvnet_s_{data}"
        plug_backbone(cfg, path.stem)
        channels = [trunk.channels[level] for level in cfg.levels]
        if framework == "upernet":
            assert list(cfg.model.decode_head.in_channels) == channels
            assert cfg.model.auxiliary_head.in_channels == channels[2]
        else:
            assert list(cfg.model.neck.in_channels) == channels
        assert tuple(cfg.model.backbone.out_indices) == cfg.levels
        assert cfg.config_name == f"{framework}_{path.stem}_{data}"


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("trunk", ["repvit_m1_1", "timm:resnet10t"])
def test_plugged_model_is_built(framework: str, trunk: str) -> None:
    cfg = Config.fromfile(CONFIGS / f"{framework}_fvnet_s_{FRAMEWORKS[framework]}.py")
    cfg.config_name = framework
    plug_backbone(cfg, trunk)
    cfg.model.backbone.pop("init_cfg", None)
    build_model(cfg.model)  # refuses channels that do not fit


def test_plugged_model_with_the_strides_of_retinanet_trains() -> None:
    """Forward and backward at a small odd size."""
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_s_coco.py")
    cfg.config_name = "retinanet"
    plug_backbone(cfg, "timm:visformer_tiny")
    cfg.model.backbone.pop("init_cfg")
    model = build_model(cfg.model).train()
    scores, boxes = model(torch.randn(2, 3, 97, 131), None, mode="tensor")
    sum(output.square().mean() for output in (*scores, *boxes)).backward()
    for name, parameter in model.backbone.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


RECIPES = {
    # optimizer, learning rate, weight decay, effective batch, length
    "retinanet": ("AdamW", 1e-4, 1e-4, 16, 12),
    "mask_rcnn": ("AdamW", 2e-4, 0.05, 16, 12),
    "semantic_fpn": ("AdamW", 2e-4, 1e-4, 32, 40_000),
    "upernet": ("AdamW", 6e-5, 0.01, 16, 160_000),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_protocol(framework: str) -> None:
    """The table of docs/protocol.md."""
    cfg = Config.fromfile(CONFIGS / f"{framework}_fvnet_s_{FRAMEWORKS[framework]}.py")
    optimizer, rate, decay, batch, length = RECIPES[framework]
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == (optimizer, rate)
    assert cfg.optim_wrapper.optimizer.weight_decay == decay
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.train_cfg.get("max_epochs", cfg.train_cfg.get("max_iters")) == length
    assert cfg.optim_wrapper.get("clip_grad") is None
    CHECKS[framework](cfg)


def check_detection(cfg: Config) -> None:
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, warm_up.by_epoch) == ("LinearLR", 500, False)
    assert steps.milestones == [8, 11]
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert [t["scale"] for t in loader.dataset.pipeline if t["type"] == "Resize"] == [(1333, 800)]
    assert cfg.model.neck.num_outs == 5
    assert cfg.model.neck.out_channels == 256


def transforms(dataset: dict) -> dict[str, dict]:
    return {transform["type"]: transform for transform in dataset["pipeline"]}


def check_segmentation(cfg: Config) -> None:
    train, test = transforms(cfg.train_dataloader.dataset), transforms(cfg.val_dataloader.dataset)
    assert train["RandomResize"]["scale"] == (2048, 512)
    assert train["RandomResize"]["ratio_range"] == (0.5, 2.0)
    assert (train["RandomCrop"]["crop_size"], train["RandomCrop"]["cat_max_ratio"]) == ((512, 512), 0.75)
    assert "PhotoMetricDistortion" in train
    assert test["Resize"]["scale"] == (2048, 512)
    assert cfg.model.test_cfg.mode == "whole"
    assert cfg.model.decode_head.num_classes == 150
    assert cfg.model.decode_head.dropout_ratio == 0.1
    assert train["LoadAnnotations"]["reduce_zero_label"]


def check_semantic_fpn(cfg: Config) -> None:
    check_segmentation(cfg)
    assert transforms(cfg.test_dataloader.dataset)["ResizeToMultiple"]["size_divisor"] == 32
    (schedule,) = cfg.param_scheduler
    assert (schedule.type, schedule.power, schedule.eta_min, schedule.end) == ("PolyLR", 0.9, 1e-6, 40_000)
    assert cfg.model.decode_head.channels == 128


def check_upernet(cfg: Config) -> None:
    check_segmentation(cfg)
    assert "ResizeToMultiple" not in transforms(cfg.test_dataloader.dataset)
    warm_up, schedule = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, warm_up.start_factor) == ("LinearLR", 1500, 1e-6)
    assert (schedule.type, schedule.power, schedule.begin, schedule.end) == ("PolyLR", 1.0, 1500, 160_000)
    assert cfg.model.auxiliary_head.loss_decode.loss_weight == 0.4


CHECKS: dict[str, Callable[[Config], None]] = {
    "retinanet": check_detection,
    "mask_rcnn": check_detection,
    "semantic_fpn": check_semantic_fpn,
    "upernet": check_upernet,
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_protocol_of_shapes(framework: str) -> None:
    """One schedule for all four, from scratch whatever the trunk, on data that the config says how to get."""
    cfg = Config.fromfile(CONFIGS / f"{framework}_fvnet_s_shapes.py")
    assert cfg.from_scratch
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == ("AdamW", 5e-4)
    assert (cfg.optim_wrapper.optimizer.weight_decay, cfg.optim_wrapper.clip_grad.max_norm) == (0.05, 5.0)
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.type, warm_up.end) == ("LinearLR", 1)
    assert (cosine.type, cosine.begin, cosine.end) == ("CosineAnnealingLR", 1, 10)
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (10, 5)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = loader.dataset.get("dataset", loader.dataset)
        assert dataset.data_root == "data/shapes/"
        assert all("scale" not in transform for transform in dataset.pipeline)
    classes = {12, 19} & {len(cfg.metainfo.classes)}
    assert classes == ({12} if FRAMEWORKS[framework] == "coco" else {19})
    assert cfg.made_with.startswith("python tools/make_shapes.py data/shapes")


@pytest.mark.parametrize("framework", ["retinanet", "mask_rcnn"])
def test_three_times_the_schedule(framework: str) -> None:
    cfg = Config.fromfile(CONFIGS / f"{framework}_fvnet_s_coco_3x.py")
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 36
    assert cfg.param_scheduler[1].milestones == [27, 33]
    assert transforms(cfg.train_dataloader.dataset)["RandomResize"]["scale"] == [(1333, 640), (1333, 800)]
    assert ("with_mask" in transforms(cfg.train_dataloader.dataset)["LoadAnnotations"]) == (framework == "mask_rcnn")


@pytest.mark.parametrize(("length", "iterations"), [("80k", 80_000), ("160k", 160_000)])
def test_longer_segmentation(length: str, iterations: int) -> None:
    cfg = Config.fromfile(CONFIGS / f"semantic_fpn_fvnet_s_ade20k_{length}.py")
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == iterations


def test_channels_are_published_by_the_code() -> None:
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_m_coco.py")
    assert tuple(cfg.channels) == FVNet.stage_channels("m")


def in_a_fresh_process(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_mmdet_loads_a_config_from_anywhere(tmp_path: Path) -> None:
    """mmdet's own entry points, in a fresh process in another folder."""
    code = f"""
import fvnet_mm
import numpy as np
from mmdet.apis import DetInferencer, inference_detector, init_detector
config = {str(CONFIGS / "retinanet_fvnet_t_coco.py")!r}
image = np.zeros((96, 128, 3), np.uint8)
model = init_detector(config, device="cpu")
assert type(model.backbone).__name__ == "FVNet"
assert inference_detector(model, image).pred_instances.bboxes.shape[1] == 4
inferencer = DetInferencer(config, device="cpu", show_progress=False)
assert set(inferencer(image)["predictions"][0]) >= {{"labels", "scores", "bboxes"}}
"""
    in_a_fresh_process(code, tmp_path)


def test_mmseg_loads_a_config_from_anywhere(tmp_path: Path) -> None:
    code = f"""
import fvnet_mm
import numpy as np
from mmseg.apis import inference_model, init_model
model = init_model({str(CONFIGS / "semantic_fpn_fvnet_t_ade20k.py")!r}, device="cpu")
found = inference_model(model, np.zeros((64, 96, 3), np.uint8)).pred_sem_seg.data
assert found.shape == (1, 64, 96)
"""
    in_a_fresh_process(code, tmp_path)
