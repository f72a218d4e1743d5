from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2, MobileNetV3
from torch import nn

from fvnet_mm.backbones import SuiteMobileNetV2, SuiteMobileNetV3
from fvnet_mm.bench.complexity import count_macs, count_parameters

DESCRIPTIONS = Path(__file__).parents[2] / "configs/_base_/backbones"

# Trunk, the original, and the original's layers that end strides 4, 8, 16 and 32.
PAIRS = {
    "v2": (SuiteMobileNetV2, {}, MobileNetV2, (1, 2, 4, 6)),
    "v2_half": (SuiteMobileNetV2, {"widen_factor": 0.5}, MobileNetV2, (1, 2, 4, 6)),
    "v3_large": (SuiteMobileNetV3, {"arch": "large"}, MobileNetV3, (3, 6, 12, 15)),
    "v3_small": (SuiteMobileNetV3, {"arch": "small"}, MobileNetV3, (1, 3, 8, 11)),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def randomise(net: nn.Module) -> None:
    """Batch norms that do something in eval mode."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)


@pytest.mark.parametrize("size", [(224, 224), (97, 65)])
@pytest.mark.parametrize("pair", PAIRS)
def test_features_are_the_original_s(pair, size):
    cls, arguments, original_cls, layers = PAIRS[pair]
    original = original_cls(**arguments, out_indices=layers)
    randomise(original)
    net = cls(**arguments)
    state = original.state_dict()
    missing, unexpected = net.load_state_dict(state, strict=False)
    last = {"conv2"} if cls is SuiteMobileNetV2 else {f"layer{len(original.layers) - 1}"}
    assert missing == []
    assert {name.split(".")[0] for name in unexpected} == last
    net.eval()
    original.eval()
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        for y, z in zip(net(x), original(x), strict=True):
            assert torch.equal(y, z)
            assert y.std() > 1e-3


@pytest.mark.parametrize(
    ("cls", "channels"), [(SuiteMobileNetV2, (24, 32, 96, 320)), (SuiteMobileNetV3, (24, 40, 112, 160))]
)
def test_channels(cls, channels):
    assert cls().channels == channels
    assert cls(out_indices=(1, 3)).channels == (channels[1], channels[3])


@pytest.mark.parametrize(
    ("cls", "head", "parameters", "macs"),
    [
        # Totals of the papers: Sandler et al., table 4 (3.4 M, 300 M); Howard et al., table 3 (5.4 M, 219 M).
        (SuiteMobileNetV2, [(320, 1280), (1280, 1000)], 3.4e6, 300e6),
        (SuiteMobileNetV3, [(160, 960), (960, 1280), (1280, 1000)], 5.4e6, 219e6),
    ],
)
def test_counts_against_the_papers(cls, head, parameters, macs):
    """What is left out is the head: with it, the counts are those that the papers state, to 3 %."""
    net = cls()
    # The first layer of the head runs at every position of the last map, the others once.
    head_macs = [49 * head[0][0] * head[0][1], *(a * b for a, b in head[1:])]
    assert count_parameters(net) + sum(a * b for a, b in head) == pytest.approx(parameters, rel=0.03)
    assert count_macs(net, (1, 3, 224, 224)) + sum(head_macs) == pytest.approx(macs, rel=0.03)


def test_stages_in_between_are_kept_and_those_behind_are_not():
    names = {name.split(".")[0] for name, _ in SuiteMobileNetV2(out_indices=(1,)).named_parameters()}
    assert names == {"conv1", "layer1", "layer2", "layer3"}
    names = {name.split(".")[0] for name, _ in SuiteMobileNetV3(out_indices=(0, 2)).named_parameters()}
    assert names == {f"layer{i}" for i in range(13)}


def test_norm_cfg_reaches_the_layers():
    net = SuiteMobileNetV2(norm_cfg={"type": "BN", "eps": 0.5})
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.5}
    assert {m.eps for m in SuiteMobileNetV3().modules() if isinstance(m, nn.BatchNorm2d)} == {0.001}


def test_unknown_arch():
    with pytest.raises(ValueError, match=r"^arch 'huge' does not exist; choose one of small, .*large\.$"):
        SuiteMobileNetV3("huge")


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_description(name):
    config = Config.fromfile(DESCRIPTIONS / f"{name}.py")
    net = MODELS.build(config.backbone)
    assert config.backbone_name == name
    assert config.channels == net.channels
    assert config.backbone.init_cfg.checkpoint == config.weights.url
    assert config.weights.distilled is False
