"""What is counted where a source states parameters or MACs, and the other ways in which sources may have counted it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import timm
import torch
from mmcv.cnn import get_model_complexity_info
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from timm.models.fastvit import ConvMlp, MobileOneBlock, RepConditionalPosEnc, RepMixer
from timm.utils import reparameterize_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fvnet_mm.backbones.efficientformer import SuiteEfficientFormer
from fvnet_mm.bench.complexity import count_macs, count_parameters
from fvnet_mm.bench.model_complexity import CLASSIFICATION_SHAPE, count_model, head_inputs, parts_of
from fvnet_mm.engine.config_file import read_config
from fvnet_mm.engine.trunk import describe, plug_backbone
from fvnet_mm.places import CONFIGS

CLASSIFICATION = "classification"
TRUNK = "trunk alone"
LEAVES = {
    "RetinaNet": "retinanet_fvnet_t_coco",
    "Mask R-CNN": "mask_rcnn_fvnet_t_coco",
    "Semantic FPN": "semantic_fpn_fvnet_t_ade20k",
    "UperNet": "upernet_fvnet_t_ade20k",
}
"""A config of each framework, into which any trunk is put."""

CLASSIFIERS = {
    "mobilenet_v2": "mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py",
    "mobilenet_v3_large": "mmpretrain::mobilenet_v3/mobilenet-v3-large_8xb128_in1k.py",
    "efficientformer_l1": "mmpretrain::efficientformer/efficientformer-l1_8xb128_in1k.py",
    "efficientformer_l3": "mmpretrain::efficientformer/efficientformer-l3_8xb128_in1k.py",
    "efficientformer_l7": "mmpretrain::efficientformer/efficientformer-l7_8xb128_in1k.py",
}
"""The classification networks of the trunks that aren't timm's."""

MMPRETRAIN_TOO = {
    "poolformer_s12": "mmpretrain::poolformer/poolformer-s12_32xb128_in1k.py",
    "poolformer_s24": "mmpretrain::poolformer/poolformer-s24_32xb128_in1k.py",
}
"""Networks that mmpretrain has, too, of trunks that are timm's."""


@dataclass(frozen=True)
class Subject:
    """A network to count.

    Attributes:
        trunk: Name of a backbone description.
        framework: :data:`CLASSIFICATION` for the network that was trained on ImageNet, :data:`TRUNK` for what is left
            of it in a detector, or one of :data:`LEAVES` for a whole model.
        shape: Height and width of the image.
    """

    trunk: str
    framework: str
    shape: tuple[int, int]

    @property
    def timm_name(self) -> str | None:
        """timm's name of the classification network, if it is timm's."""
        return describe(self.trunk).backbone.get("model_name")

    @property
    def config(self) -> Config:
        """A new copy of the config of a whole model, or of a classification network that isn't timm's."""
        if self.framework == CLASSIFICATION:
            cfg = get_config(CLASSIFIERS[self.trunk])
            cfg.default_scope = "mmpretrain"
            return cfg
        cfg = copy.deepcopy(_leaf(self.framework))
        cfg.config_name = LEAVES[self.framework]
        plug_backbone(cfg, self.trunk)
        return cfg

    @cached_property
    def network(self) -> nn.Module:
        """The network, in eval mode on the meta device."""
        with torch.device("meta"):
            if self.framework == TRUNK:
                return MODELS.build(describe(self.trunk).backbone).eval()
            if self.framework == CLASSIFICATION and self.timm_name is not None:
                return timm.create_model(self.timm_name).eval()
        return _build(self.config)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Parameters and MACs as the suite counts them."""
        if isinstance(self.network, BaseModel):
            size = count_model(self.network, self.shape)
            return size.total_parameters, size.total_macs
        return count_parameters(self.network), count_macs(self.network, (1, 3, *self.shape))


@cache
def _leaf(framework: str) -> Config:
    return read_config(CONFIGS / f"{LEAVES[framework]}.py", "config")


def _build(cfg: Config) -> nn.Module:
    with torch.device("meta"), DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model).eval()


class _Whole(nn.Module):
    """A model of the OpenMMLab libraries as one forward pass, for counters that want one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> None:
        parts = parts_of(self.model)
        features = parts["backbone"](image)
        if "neck" in parts:
            features = parts["neck"](features)
        for name, inputs in head_inputs(self.model, features):
            parts[name](image.new_zeros(inputs) if isinstance(inputs[0], int) else inputs)


def _one_pass(network: nn.Module) -> nn.Module:
    return _Whole(network) if isinstance(network, BaseModel) else network


def macs_by_operator(network: nn.Module, shape: tuple[int, int]) -> dict[str, int]:
    """MACs of each operator in one pass of a network on the meta device."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _one_pass(network)(torch.zeros(1, 3, *shape, device="meta"))
    return {str(operator): flops // 2 for operator, flops in counter.get_flop_counts()["Global"].items()}


def _macs_with_mmcv(subject: Subject) -> int:
    return _mmcv_macs(subject.network, subject.shape)


def _mmcv_macs(network: nn.Module, shape: tuple[int, int]) -> int:
    size = (3, *shape)
    return int(get_model_complexity_info(_one_pass(network), size, print_per_layer_stat=False, as_strings=False)[0])


def _macs_without_attention(subject: Subject) -> int:
    counts = macs_by_operator(subject.network, subject.shape)
    return sum(macs for name, macs in counts.items() if "bmm" not in name and "attention" not in name)


def _macs_of_classification(subject: Subject) -> int | None:
    return replace(subject, framework=CLASSIFICATION).counts[1] if subject.framework == TRUNK else None


def _without_classifier(subject: Subject) -> int | None:
    if subject.framework != CLASSIFICATION:
        return None
    if subject.timm_name is None:
        return count_parameters(subject.network) - count_parameters(subject.network.head)
    with torch.device("meta"):
        return count_parameters(timm.create_model(subject.timm_name, num_classes=0))


@cache
def _merged(timm_name: str) -> nn.Module:
    return reparameterize_model(timm.create_model(timm_name).eval()).to("meta")  # merging needs values


def _merged_counts(subject: Subject) -> tuple[int, int] | tuple[None, None]:
    if subject.framework != CLASSIFICATION or subject.timm_name is None:
        return None, None
    network = _merged(subject.timm_name)
    return count_parameters(network), sum(macs_by_operator(network, subject.shape).values())


def _left_to_train(subject: Subject) -> int | None:
    """Parameters of a merged FastViT that require a gradient.

    The authors' ``reparameterize`` ends in ``detach_`` for every parameter of what it merges, the convolution just made
    and squeeze-and-excitation included (that of large kernels does not). The convolutions of the MLPs, which their
    published code leaves as they are, are taken to have been merged, too.
    """
    if subject.framework != CLASSIFICATION or not (subject.timm_name or "").startswith("fastvit_"):
        return None
    network = _merged(subject.timm_name)
    merged = [m for m in network.modules() if isinstance(m, MobileOneBlock | RepMixer | RepConditionalPosEnc)]
    merged += [m.conv for m in network.modules() if isinstance(m, ConvMlp)]
    detached = {parameter for module in merged for parameter in module.parameters()}
    return count_parameters(network) - sum(parameter.numel() for parameter in detached)


def _deep_stem_counts(subject: Subject) -> tuple[int, int] | tuple[None, None]:
    """The same model with mmseg's usual ResNet, which has three 3x3 convolutions where ResNet has one of 7x7."""
    if not subject.trunk.startswith("resnet") or subject.framework not in ("Semantic FPN", "UperNet"):
        return None, None
    cfg = subject.config
    depth = int(subject.trunk.removeprefix("resnet"))
    cfg.model.backbone = dict(type="ResNetV1c", depth=depth, out_indices=cfg.levels)
    network = _build(cfg)
    return count_parameters(network), sum(macs_by_operator(network, subject.shape).values())


def _macs_of_mmpretrain(subject: Subject) -> int | None:
    if subject.trunk not in MMPRETRAIN_TOO or subject.framework != CLASSIFICATION:
        return None
    cfg = get_config(MMPRETRAIN_TOO[subject.trunk])
    cfg.default_scope = "mmpretrain"
    return _mmcv_macs(_build(cfg), subject.shape)


def _macs_with_one_attention(subject: Subject) -> int | None:
    """mmpretrain's metafile states this very count, to the last digit, without the classifiers.

    Attention stands in one block, as in L1, where L3 has it in four. L7 was counted as it is.
    """
    if (subject.trunk, subject.framework) != ("efficientformer_l3", CLASSIFICATION):
        return None
    cfg = subject.config
    cfg.model.backbone.arch = SuiteEfficientFormer.arch_settings["l3"] | {"vit_num": 1}
    return _mmcv_macs(_build(cfg), subject.shape)


def _macs_at_256(subject: Subject) -> int | None:
    fixed = subject.trunk.startswith("efficientformer_")  # mmpretrain's takes no other size
    if fixed or subject.framework != CLASSIFICATION or subject.shape != CLASSIFICATION_SHAPE:
        return None
    return replace(subject, shape=(256, 256)).counts[1]


def _in_binary_units(subject: Subject) -> tuple[int, int] | tuple[None, None]:
    """What is left of a count if a million is 2^20 and a billion 2^30."""
    if subject.framework != CLASSIFICATION:
        return None, None
    parameters, macs = subject.counts
    return parameters * 10**6 // 2**20, macs * 10**9 // 2**30


Counting = Callable[[Subject], int | None]

BINARY = "in binary units (2^20 parameters, 2^30 MACs)"
AT_256 = "at 256x256"

PARAMETERS: dict[str, Counting] = {
    "without the classifier": _without_classifier,
    "with branches merged and one classifier left, as for inference": lambda subject: _merged_counts(subject)[0],
    "of what takes gradients after merging, which detaches what it merges": _left_to_train,
    "with the deep stem of mmseg's ResNetV1c": lambda subject: _deep_stem_counts(subject)[0],
    BINARY: lambda subject: _in_binary_units(subject)[0],
}
"""Other ways to count parameters; they give None for a network of which they are no way to count."""

MACS: dict[str, Counting] = {
    "with norms, biases, activations and pooling, without products of attention (mmcv's counter)": _macs_with_mmcv,
    "without products of attention": _macs_without_attention,
    "with all of the classification network": _macs_of_classification,
    "with branches merged and one classifier left, as for inference": lambda subject: _merged_counts(subject)[1],
    "with the deep stem of mmseg's ResNetV1c": lambda subject: _deep_stem_counts(subject)[1],
    "of mmpretrain's own network with mmcv's counter": _macs_of_mmpretrain,
    "with attention in one block where there are four, with mmcv's counter": _macs_with_one_attention,
    AT_256: _macs_at_256,
    BINARY: lambda subject: _in_binary_units(subject)[1],
}
"""Other ways to count MACs."""

SOURCE_WIDE = frozenset({AT_256})
"""Ways in which a source counts everything, whatever the family, if at all."""
