import math
import re
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models.backbones import EfficientFormer
from torch import Tensor, nn

from fvnet_mm.backbones import SuiteEfficientFormer
from fvnet_mm.backbones.efficientformer import AnySizeAttention
from fvnet_mm.bench.complexity import count_macs, count_parameters

DESCRIPTIONS = Path(__file__).parents[2] / "configs/_base_/backbones"
ARCHS = ["l1", "l3", "l7"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build(arch: str = "l1", **arguments: object) -> SuiteEfficientFormer:
    """A trunk of which every tensor, and so a mistake with it, shows in the outputs."""
    net = SuiteEfficientFormer(arch, **arguments)
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if name.endswith(("attention_biases", "running_mean")):
                tensor.normal_()
            elif re.search(r"\.ls[12]\.weight$|running_var$|(norm|bn)\d?\.weight$", name):
                tensor.uniform_(0.5, 1.5)
    return net.eval()


def original_of(net: SuiteEfficientFormer, arch: str) -> EfficientFormer:
    original = EfficientFormer(arch, out_indices=[0, 1, 2, 3], reshape_last_feat=True)
    original.load_state_dict(net.state_dict())
    original.eval()
    return original


def names_of_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of mmpretrain's trunk under timm's names."""

    def rename(name: str) -> str:
        name = re.sub(r"^patch_embed\.(\d)\.(conv|bn)", lambda m: f"stem.{m[2]}{int(m[1]) + 1}", name)
        name = re.sub(r"^network\.(\d)\.0\.(conv|bn)\.", r"stages.\1.downsample.\2.", name)
        # The downsampling is the first block of a stage there, and beside the blocks here.
        name = re.sub(r"^network\.(\d)\.(\d+)", lambda m: f"stages.{m[1]}.blocks.{int(m[2]) - (m[1] != '0')}", name)
        return name.replace("bn", "norm").replace("ls1.weight", "ls1.gamma").replace("ls2.weight", "ls2.gamma")

    return {rename(name): value for name, value in state.items() if not name.startswith("norm")}


@pytest.mark.parametrize("arch", ["l1", "l3"])
def test_features_are_mmpretrain_s_at_224(arch):
    net = build(arch)
    original = original_of(net, arch)
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        for y, z in zip(net(x), original(x), strict=True):
            torch.testing.assert_close(y, z, rtol=0, atol=1e-5)
            assert y.std() > 0.1


def test_gradients_are_mmpretrain_s_at_224():
    net = build().double()  # biases before a batch norm have gradients of noise alone, which float32 shows
    original = original_of(net, "l1").double()
    net.train()
    original.train()
    x = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    for trunk in (net, original):
        sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in trunk(x)).backward()
    for (name, p), q in zip(net.named_parameters(), dict(original.named_parameters()).values(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-9 * q.grad.norm() + 1e-9, name


@pytest.mark.parametrize("arch", ["l1", "l3"])
def test_features_are_timm_s_at_224(arch):
    net = build(arch)
    other = timm.create_model(f"efficientformer_{arch}", pretrained=False).eval()
    missing, unexpected = other.load_state_dict(names_of_timm(net.state_dict()), strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} == {"norm", "head", "head_dist"}
    for i in range(4):
        setattr(net, f"norm{i}", nn.Identity())  # timm returns what comes before them
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for y, z in zip(net(x), other.forward_intermediates(x, intermediates_only=True), strict=True):
            torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_tensors_are_mmpretrain_s(arch):
    with torch.device("meta"):
        net = SuiteEfficientFormer(arch)
        original = EfficientFormer(arch, out_indices=[0, 1, 2, 3], reshape_last_feat=True)
    assert {name: value.shape for name, value in net.state_dict().items()} == {
        name: value.shape for name, value in original.state_dict().items()
    }


def test_a_classifier_s_weights_load():
    """A published classifier has the norm of the last stage and none of the others."""
    state = EfficientFormer("l1").state_dict()
    missing, unexpected = SuiteEfficientFormer("l1").load_state_dict(state, strict=False)
    assert unexpected == []
    assert missing == [f"norm{i}.{kind}" for i in range(3) for kind in ("weight", "bias")]


@pytest.mark.parametrize(
    ("arch", "parameters", "macs"),
    # Of the classifiers, in mmpretrain's model zoo: parameters from the metafile, MACs from the README.
    [("l1", 12278696, 1.30e9), ("l3", 31406000, 3.93e9), ("l7", 82229328, 10.16e9)],
)
def test_counts_against_the_model_zoo(arch, parameters, macs):
    with torch.device("meta"):
        net = SuiteEfficientFormer(arch)
    heads = 2 * (net.channels[-1] + 1) * 1000  # the classifier and the one that learns from the teacher
    assert count_parameters(net) + heads == pytest.approx(parameters, rel=0.002)
    assert count_macs(net, (1, 3, 224, 224)) == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("size", [(800, 1333), (1333, 800), (512, 683), (1280, 800)])
@pytest.mark.parametrize("arch", ARCHS)
def test_shapes_of_detection_and_segmentation(arch, size):
    with torch.device("meta"):
        net = SuiteEfficientFormer(arch).eval()
        outputs = net(torch.zeros(2, 3, *size))
    assert [tuple(y.shape[1:]) for y in outputs] == [
        (c, math.ceil(size[0] / s), math.ceil(size[1] / s)) for c, s in zip(net.channels, net.strides, strict=True)
    ]


def test_computes_at_512x683():
    net = build()
    with torch.no_grad():
        assert all(y.isfinite().all() for y in net(torch.randn(1, 3, 512, 683)))


def test_tokens_return_to_their_places():
    """Attention that is cut off leaves blocks that act on every position alone: what moves in must move out."""
    net = build(out_indices=(3,))
    for block in net.network[3]:
        if hasattr(block, "token_mixer"):
            block.token_mixer = nn.Identity()
    net.norm3 = nn.Identity()
    x = torch.randn(1, net.embed_dims[3], 7, 13)
    with torch.no_grad():
        y, flipped = x, x.flip(3)
        for block in net.network[3][1:]:
            y = block(y)
            flipped = block(flipped)
    torch.testing.assert_close(flipped, y.flip(3))


def test_attention_knows_rows_from_columns():
    """Without queries, and with a bias against other rows, every position gets the mean of its row."""
    attention = AnySizeAttention(32).eval()
    with torch.no_grad():
        for tensor in (attention.qkv.weight, attention.qkv.bias):
            tensor.unflatten(0, (attention.num_heads, -1))[:, : attention.key_dim] = 0
        attention.attention_biases.unflatten(1, (7, 7))[:, 1:] = -1e4
        x = torch.randn(1, 5, 9, 32)
        y = attention(x)
        rows = attention(x.mean(2, keepdim=True))
    assert (rows[:, 0] - rows[:, 1]).abs().max() > 0.01
    torch.testing.assert_close(y, rows.expand_as(y))


def test_drop_path_rises_to_its_rate():
    net = SuiteEfficientFormer("l1", drop_path_rate=0.14)
    rates = [getattr(b.drop_path, "drop_prob", 0.0) for stage in net.network for b in stage if hasattr(b, "drop_path")]
    assert rates == pytest.approx([0.14 * i / 14 for i in range(15)])


def test_channels():
    assert SuiteEfficientFormer("l1").channels == (48, 96, 224, 448)
    assert SuiteEfficientFormer("l1", out_indices=(1, 2)).channels == (96, 224)


def test_unknown_arch():
    with pytest.raises(ValueError, match=r"^arch 'l9' does not exist; choose one of l1, l3, l7\.$"):
        SuiteEfficientFormer("l9")


@pytest.mark.parametrize("arch", ARCHS)
def test_description(arch):
    config = Config.fromfile(DESCRIPTIONS / f"efficientformer_{arch}.py")
    with torch.device("meta"):
        net = MODELS.build(config.backbone)
    assert config.backbone_name == f"efficientformer_{arch}"
    assert config.channels == net.channels
    assert config.backbone.init_cfg.checkpoint == config.weights.url
    assert config.backbone.init_cfg.distilled is config.weights.distilled is True
