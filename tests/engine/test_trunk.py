"""Another trunk in a config: its channels, its weights, its name."""

import copy
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict

from fvnet_mm.engine.trunk import RETINANET_STAGES, describe, plug_backbone, set_in_channels
from fvnet_mm.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


def read(name: str) -> Config:
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    cfg.config_name = name
    return cfg


def test_everything_of_the_former_trunk_is_gone() -> None:
    cfg = read("retinanet_mobilenet_v2_coco")
    plug_backbone(cfg, "repvit_m1_1")
    assert cfg.config_name == "retinanet_repvit_m1_1_coco"
    assert cfg.model.neck.in_channels == [128, 256, 512]
    assert cfg.weights == describe("repvit_m1_1").weights
    assert cfg.model.backbone.init_cfg.checkpoint == cfg.weights.url
    assert "mobilenet" not in cfg.pretty_text.replace("retinanet_mobilenet_v2_coco", "").lower()


def test_any_model_of_timm() -> None:
    cfg = read("upernet_fvnet_s_ade20k")
    plug_backbone(cfg, "timm:resnet10t")
    assert cfg.config_name == "upernet_resnet10t_ade20k"
    assert cfg.model.decode_head.in_channels == [64, 128, 256, 512]
    assert cfg.model.auxiliary_head.in_channels == 256
    assert cfg.weights.url == cfg.model.backbone.init_cfg.checkpoint
    assert cfg.weights.url.startswith("https://huggingface.co/timm/resnet10t")


@pytest.mark.parametrize("data", ["coco", "shapes"])
def test_a_model_with_exactly_the_strides_that_are_read(data: str) -> None:
    cfg = read(f"retinanet_fvnet_s_{data}")
    plug_backbone(cfg, "timm:visformer_tiny")
    assert tuple(cfg.model.backbone.out_indices) == (1, 2, 3)
    assert cfg.model.neck.in_channels == [96, 192, 384]
    assert cfg.channels == (None, 96, 192, 384)
    again = Config.fromstring(cfg.pretty_text, ".py")  # as the dumped config is
    assert again.model == cfg.model
    assert again.channels == cfg.channels


@pytest.mark.parametrize("framework", ["semantic_fpn", "upernet", "mask_rcnn"])
def test_a_model_that_lacks_a_stride(framework: str) -> None:
    cfg = read(f"{framework}_fvnet_s_{'coco' if framework == 'mask_rcnn' else 'ade20k'}")
    before = copy.deepcopy(cfg.model)
    with pytest.raises(UserError) as caught:
        plug_backbone(cfg, "timm:visformer_tiny")
    assert str(caught.value) == (
        f"the backbone timm:visformer_tiny has features at strides 8, 16 and 32 and {cfg.config_name} reads strides "
        "4, 8, 16 and 32; choose a backbone that has them or a config of RetinaNet, which reads no others."
    )
    assert cfg.model == before


def test_what_a_model_lacks_without_an_alternative() -> None:
    with pytest.raises(UserError, match=r"timm:shvit_s1 has features at strides 16 and 32 and .* reads strides 8, 16"):
        plug_backbone(read("retinanet_fvnet_s_coco"), "timm:shvit_s1")
    assert read("retinanet_fvnet_s_coco").levels == tuple(RETINANET_STAGES)


def test_a_trunk_alone_has_the_stages_that_there_are() -> None:
    assert describe("timm:visformer_tiny").backbone.out_indices == (1, 2, 3)
    assert describe("timm:resnet10t").backbone.out_indices == (0, 1, 2, 3)


def test_a_description_beside_the_config_goes_first(tmp_path: Path) -> None:
    folder = tmp_path / "_base_" / "backbones"
    folder.mkdir(parents=True)
    text = (CONFIGS / "_base_" / "backbones" / "repvit_m1_1.py").read_text()
    (folder / "mine.py").write_text(text)
    assert describe("mine", tmp_path).backbone_name == "mine"
    assert describe("repvit_m1_1", tmp_path).backbone_name == "repvit_m1_1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("repvit_m1_2", ["repvit_m1_2", "repvit_m1_1"]),
        ("timm:resnet10x", ["resnet10x", "resnet10t"]),
        ("timm:vit_tiny_patch16_224", ["vit_tiny_patch16_224", "16"]),
    ],
)
def test_what_cannot_be_a_trunk(name: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        plug_backbone(read("retinanet_fvnet_s_coco"), name)
    assert all(word in str(caught.value) for word in words)


def test_a_config_that_its_user_named() -> None:
    cfg = read("retinanet_fvnet_s_coco")
    cfg.config_name = "my_run"
    plug_backbone(cfg, "mobilenet_v2")
    assert cfg.config_name == "my_run_mobilenet_v2"


def test_a_config_of_somebody_else() -> None:
    with pytest.raises(UserError, match="which stages its neck reads"):
        plug_backbone(Config(dict(model=dict(backbone=dict()))), "repvit_m1_1")


@pytest.mark.parametrize(
    ("model", "changed"),
    [
        (dict(neck=dict(in_channels=[1])), dict(neck=dict(in_channels=[8, 16, 32, 64]))),
        (
            dict(neck=dict(type="GlobalAveragePooling"), head=dict(in_channels=1)),
            dict(neck=dict(type="GlobalAveragePooling"), head=dict(in_channels=64)),
        ),
        (
            dict(decode_head=dict(in_index=[0, 2]), auxiliary_head=dict(in_index=1)),
            dict(
                decode_head=dict(in_index=[0, 2], in_channels=[8, 32]),
                auxiliary_head=dict(in_index=1, in_channels=16),
            ),
        ),
    ],
)
def test_channels_reach_what_reads_them(model: dict, changed: dict) -> None:
    config = ConfigDict(model)
    set_in_channels(config, (8, 16, 32, 64))
    assert config == ConfigDict(changed)
