import pytest
import torch
from mmcv.cnn import get_model_complexity_info
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from fvnet_mm.bench.model_complexity import (
    CLASSIFICATION_SHAPE,
    DETECTION_SHAPE,
    MASKED_PROPOSALS,
    PROPOSALS,
    SEGMENTATION_SHAPE,
    WIDE_SEGMENTATION_SHAPE,
    count_model,
    customary_shape,
)
from fvnet_mm.errors import UserError

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
MASK_RCNN = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
SEMANTIC_FPN = "mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py"
UPERNET = "mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py"
SWIN_UPERNET = "mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"
RESNET = "mmpretrain::resnet/resnet50_8xb32_in1k.py"


def library_config(name: str) -> Config:
    cfg = get_config(name)
    cfg.default_scope = name.split("::")[0]
    cfg.model.backbone.init_cfg = None
    if name.startswith("mmseg"):
        cfg.model.pretrained = None
    return cfg


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "macs"),
    [
        # mmdet 2.x, docs/en/useful_tools.md: 37.74 M, which leaves the frozen stem and first stage out (225,344
        # parameters), and 239.32 G, where mmcv's counter adds norms, biases and activations.
        (RETINANET, DETECTION_SHAPE, 37.74e6 + 225_344, 239.32e9),
        # PVT (arXiv 2102.12122), table 3: 44.2 M, again without the frozen layers.
        (MASK_RCNN, DETECTION_SHAPE, 44.2e6 + 225_344, None),
        # PVT, table 4: 28.5 M and 45.6 G at 512x512.
        (SEMANTIC_FPN, SEGMENTATION_SHAPE, 28.5e6, 45.6e9),
        # Swin Transformer (arXiv 2103.14030), table 3: 60 M and 945 G at 512x2048.
        (SWIN_UPERNET, WIDE_SEGMENTATION_SHAPE, 60e6, 945e9),
        # PVTv2 (arXiv 2106.13797), table 3: 13.0 M.
        ("mmdet::pvt/retinanet_pvtv2-b0_fpn_1x_coco.py", DETECTION_SHAPE, 13.0e6, None),
        # He et al. (2016): 3.8 to 4.1 G; torchvision's page: 25,557,032 parameters.
        (RESNET, CLASSIFICATION_SHAPE, 25_557_032, 4.09e9),
    ],
)
def test_as_published(name, shape, parameters, macs):
    size = count_model(library_config(name), shape)
    assert size.total_parameters == pytest.approx(parameters, rel=0.005)
    if macs is not None:
        assert size.total_macs == pytest.approx(macs, rel=0.005)


class AsMmdet2(nn.Module):
    """mmdet 2's ``forward_dummy``, which its ``get_flops.py`` hands to mmcv's counter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> None:
        features = self.model.extract_feat(image)
        for name in ("bbox_head", "rpn_head", "decode_head"):
            if hasattr(self.model, name):
                getattr(self.model, name)(features)
        if hasattr(self.model, "roi_head"):
            # RoIAlign is no layer that mmcv's counter knows; what goes through the heads is 7x7 and 14x14.
            self.model.roi_head.bbox_head(image.new_zeros(1000, 256, 7, 7))
            self.model.roi_head.mask_head(image.new_zeros(100, 256, 14, 14))


@pytest.mark.parametrize(
    ("name", "shape"),
    [(RETINANET, DETECTION_SHAPE), (MASK_RCNN, DETECTION_SHAPE), (SEMANTIC_FPN, SEGMENTATION_SHAPE)],
)
def test_agrees_with_the_counter_of_mmcv(name, shape):
    """mmcv counts norms, biases, activations and pooling, too: a little more than ours, and never less."""
    cfg = library_config(name)
    with torch.device("meta"), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    theirs, trainable = get_model_complexity_info(
        AsMmdet2(model), (3, *shape), print_per_layer_stat=False, as_strings=False
    )
    ours = count_model(model, shape)
    assert ours.total_macs < theirs < 1.02 * ours.total_macs
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert ours.total_parameters == trainable + frozen


def test_regions_of_a_two_stage_detector():
    """Box head: two fully connected layers and the outputs, by hand; mask head: four 3x3, an upsampling, a 1x1."""
    size = count_model(library_config(MASK_RCNN), DETECTION_SHAPE)
    classes, channels, hidden = 80, 256, 1024
    box = channels * 7 * 7 * hidden + hidden**2 + hidden * (classes + 1 + 4 * classes)
    convs = 4 * 9 * channels**2 * 14 * 14
    upsampling = channels**2 * 4 * 14 * 14
    mask = convs + upsampling + channels * classes * 28 * 28
    assert list(size.macs) == ["backbone", "neck", "rpn_head", "bbox_head", "mask_head"]
    assert size.macs["bbox_head"] == PROPOSALS * box
    assert size.macs["mask_head"] == MASKED_PROPOSALS * mask


def test_auxiliary_head_has_parameters_and_does_not_run():
    size = count_model(library_config(UPERNET), SEGMENTATION_SHAPE)
    assert list(size.parameters) == ["backbone", "decode_head", "auxiliary_head"]
    assert list(size.macs) == ["backbone", "decode_head"]
    channels, hidden, classes = 1024, 256, 150  # a 3x3 convolution with its norm, and a 1x1 with biases
    assert size.parameters["auxiliary_head"] == 9 * channels * hidden + 2 * hidden + (hidden + 1) * classes


def test_on_meta_and_on_a_cpu_alike():
    cfg = library_config(SEMANTIC_FPN)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    model.train()
    assert count_model(model, (64, 96)) == count_model(cfg, (64, 96))
    assert model.training
    assert model.backbone.layer1[0].bn1.weight.device.type == "cpu"


def test_model_that_cannot_be_built_on_meta():
    class Tapered(nn.Module):
        """Looks at values when it is built, as many networks with stochastic depth do."""

        def __init__(self) -> None:
            super().__init__()
            self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
            self.conv = nn.Conv2d(3, 2048, 32, stride=32)

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.conv(image),)

    cfg = library_config(RESNET)
    cfg.model.backbone = dict(type=Tapered)
    size = count_model(cfg, (64, 64))
    assert size.macs["backbone"] == 2048 * 3 * 32 * 32 * 4
    assert size.parameters["head"] == 2048 * 1000 + 1000


def test_what_has_no_counting_is_refused():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Conv2d(3, 4, 1)
            self.bridge = nn.Conv2d(4, 4, 1)

    with pytest.raises(
        UserError, match=r"a Odd cannot be .* parameters outside the parts that are known here \(backbone\)"
    ):
        count_model(Odd(), (64, 64))
    odd = Odd()
    del odd.bridge
    with pytest.raises(UserError, match="it has no head that is known here"):
        count_model(odd, (64, 64))


def test_a_cascade_of_heads_is_refused():
    class Cascade(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Conv2d(3, 4, 1)
            self.rpn_head = nn.Conv2d(4, 4, 1)
            self.roi_head = nn.Module()
            self.roi_head.bbox_head = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    with pytest.raises(UserError, match="a Cascade cannot be counted: it has several heads for a region"):
        count_model(Cascade(), (64, 64))


def test_a_config_s_model_that_has_no_counting_is_built_once():
    built = []

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            built.append(torch.empty(0).device.type)
            self.backbone = nn.Conv2d(3, 4, 1)

    with pytest.raises(UserError, match="it has no head that is known here"):
        count_model(Config(dict(model=dict(type=Odd), default_scope="mmdet")), (64, 64))
    assert built == ["meta"]


def test_customary_shape():
    assert customary_shape(library_config(MASK_RCNN)) == (800, 1280)
    with pytest.raises(
        UserError, match="the config: default_scope is None and must be one of mmdet, mmseg, mmpretrain"
    ):
        customary_shape(Config())
