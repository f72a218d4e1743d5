"""Every shipped config: short, readable from anywhere, buildable, trainable, with what the recipe says in it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from fvnet_mm.backbones import FVNet
from fvnet_mm.engine.runner import backbone_channels, build_model

CONFIGS = Path(__file__).parents[1] / "configs"
LEAVES = sorted(CONFIGS.glob("*.py"))
TRUNKS = sorted((CONFIGS / "_base_" / "backbones").glob("*.py"))


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_leaf(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(path.read_text().splitlines()) <= 12
    cfg = Config.fromfile(path)
    assert path.stem == f"retinanet_{cfg.backbone_name}_coco"
    model = build_model(cfg.model)
    assert list(model.neck.in_channels) == backbone_channels(model.backbone) == list(model.backbone.channels)
    strides = [stride[0] for stride in model.bbox_head.prior_generator.strides]
    assert tuple(strides[:3]) == tuple(model.backbone.strides)

    model.init_weights()
    model.train()
    sample = DetDataSample()
    shape = (97, 65)  # odd on purpose
    sample.set_metainfo(dict(img_shape=shape, pad_shape=shape, batch_input_shape=shape))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[5.0, 5.0, 60.0, 60.0]]), labels=torch.tensor([1]))
    losses = model.loss(torch.randn(2, 3, *shape), [sample, sample])
    sum(sum(values) for values in losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("path", TRUNKS, ids=lambda path: path.stem)
def test_described_channels_are_those_that_come_out(path: Path) -> None:
    trunk = Config.fromfile(path)
    assert trunk.backbone_name == path.stem
    assert backbone_channels(MODELS.build(trunk.backbone)) == list(trunk.channels)


def test_protocol() -> None:
    """RetinaNet 1x as published for small backbones (PVT, PoolFormer): docs/protocol.md."""
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_s_coco.py")
    assert cfg.optim_wrapper.optimizer.to_dict() == dict(type="AdamW", lr=1e-4, weight_decay=1e-4)
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_epochs == 12
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, warm_up.by_epoch) == ("LinearLR", 500, False)
    assert steps.milestones == [8, 11]
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        scales = [t["scale"] for t in loader.dataset.pipeline if t["type"] == "Resize"]
        assert scales == [(1333, 800)]
    assert cfg.model.bbox_head.num_classes == 80
    assert cfg.model.neck.num_outs == 5


def test_channels_are_published_by_the_code() -> None:
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_m_coco.py")
    assert tuple(cfg.channels) == FVNet.stage_channels("m")


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
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
