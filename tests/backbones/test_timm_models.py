import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.utils import reparameterize_model

import fvnet_mm.backbones
from fvnet_mm.backbones import FVNet
from fvnet_mm.backbones.arch import STRIDES

NAMES = [f"fvnet_{arch}" for arch in FVNet.arch_settings]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_all_variants_are_listed():
    assert sorted(timm.list_models("fvnet_*")) == sorted(NAMES)
    assert timm.list_models("fvnet_*", pretrained=True) == []


@pytest.mark.parametrize("name", NAMES)
def test_metadata_matches_the_features(name):
    with torch.device("meta"):
        net = timm.create_model(name, features_only=True)
        features = net(torch.zeros(1, 3, 96, 64))
    assert net.feature_info.reduction() == list(STRIDES)
    assert net.feature_info.channels() == list(FVNet.stage_channels(name[-1]))
    assert [tuple(f.shape[1:]) for f in features] == [
        (channels, 96 // stride, 64 // stride)
        for channels, stride in zip(net.feature_info.channels(), STRIDES, strict=True)
    ]


def test_classifier():
    net = timm.create_model("fvnet_t", num_classes=7).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = net.forward_features(x)
        assert features.shape == (2, net.num_features, 2, 2)
        assert torch.equal(net.forward_head(features), net(x))
        pooled = net.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    assert net(x).shape == (2, 7)
    assert net.get_classifier().out_features == 7


def test_classifier_trains_every_parameter():
    net = timm.create_model("fvnet_t", num_classes=7)
    net(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_reset_classifier():
    net = timm.create_model("fvnet_t", num_classes=7).eval()
    x = torch.randn(1, 3, 64, 64)
    net.reset_classifier(3)
    assert net(x).shape == (1, 3)
    net.reset_classifier(0)
    assert net(x).shape == (1, net.num_features)
    net.reset_classifier(0, "")
    assert net(x).shape == (1, net.num_features, 2, 2)


@pytest.mark.parametrize("indices", [(1, 2, 3), (0,), (-2,), (3,)])
def test_features_only_prunes_and_agrees_with_the_trunk(indices):
    whole = timm.create_model("fvnet_t").eval()
    net = timm.create_model("fvnet_t", features_only=True, out_indices=indices).eval()
    stages = [i % 4 for i in indices]
    missing, unexpected = net.load_state_dict({f"model.{k}": v for k, v in whole.state_dict().items()}, strict=False)
    assert missing == []
    assert all("head" in k or "norm3" in k or int(k.split(".")[3]) > max(stages) for k in unexpected)
    x = torch.randn(1, 3, 70, 64)
    with torch.no_grad():
        expected = whole.backbone.stage_outputs(x)
        for i, feature in zip(stages, net(x), strict=True):
            assert torch.equal(feature, expected[i])
    assert net.feature_info.channels() == [FVNet.stage_channels("t")[i] for i in stages]


def test_features_only_trains_every_parameter():
    net = timm.create_model("fvnet_t", features_only=True, out_indices=(0, 2))
    sum(f.square().sum() for f in net(torch.randn(2, 3, 64, 64))).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_intermediates():
    net = timm.create_model("fvnet_t").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        final, features = net.forward_intermediates(x, norm=True)
        assert torch.equal(final, net.forward_features(x))
        assert torch.equal(features[-1], final)
        (second,) = net.forward_intermediates(x, indices=[1], stop_early=True, intermediates_only=True)
    assert torch.equal(second, features[1])
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW'"):
        net.forward_intermediates(x, output_fmt="NLC")


def test_classifier_weights_load_into_a_trunk_by_prefix(tmp_path):
    classifier = timm.create_model("fvnet_t").eval()
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "fvnet_t.pth")
    trunk = FVNet(
        "t",
        out_indices=(3,),
        init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "fvnet_t.pth"), "prefix": "backbone"},
    ).eval()
    trunk.init_weights()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(trunk(x)[0], classifier.forward_features(x))


def test_default_cfg():
    cfg = timm.create_model("fvnet_t").default_cfg
    assert not cfg.get("url")
    assert cfg["input_size"] == (3, 224, 224)
    net = timm.create_model("fvnet_t")
    modules = dict(net.named_modules())
    assert isinstance(modules[cfg["first_conv"]], torch.nn.Conv2d)
    assert isinstance(modules[cfg["classifier"]], torch.nn.Linear)


def test_options_reach_the_trunk():
    net = timm.create_model("fvnet_t", in_chans=1, drop_path_rate=0.2, drop_rate=0.3)
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 1000)
    assert net.backbone.stages[-1].blocks[-1].drop_path.drop_prob == pytest.approx(0.2)
    assert net.head.drop.p == 0.3


def test_unknown_option_is_refused():
    with pytest.raises(TypeError, match="depth_multiplier"):
        timm.create_model("fvnet_t", depth_multiplier=2)


def test_pretrained_is_refused():
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        timm.create_model("fvnet_t", pretrained=True)


def test_gradient_checkpointing_keeps_gradients():
    net = timm.create_model("fvnet_t", num_classes=3)
    x = torch.randn(2, 3, 64, 64)
    gradients = []
    for enable in (False, True):
        net.set_grad_checkpointing(enable)
        net.zero_grad()
        net(x).square().sum().backward()
        gradients.append(net.backbone.stem.conv1.conv.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_timm_reparameterizes_it():
    net = timm.create_model("fvnet_t").eval()
    fused = reparameterize_model(net)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-4, atol=1e-4)
    norms = [m for m in fused.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 1


@pytest.mark.parametrize("coarse", [False, True])
def test_layer_groups_cover_all_parameters(coarse):
    from timm.models._manipulate import group_parameters

    net = timm.create_model("fvnet_t")
    groups = group_parameters(net, net.group_matcher(coarse=coarse))
    assert sum(len(names) for names in groups.values()) == len(list(net.parameters()))
    blocks = sum(FVNet.arch_settings["t"].depths)
    assert len(groups) >= (len(STRIDES) if coarse else blocks) + 1


def run_python(code: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, **options)


def test_backbones_import_without_timm():
    code = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "timm" else find_spec(name, *rest)
sys.modules["timm"] = None
from fvnet_mm.backbones import FVNet
print(FVNet.stage_channels("s"))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == str(FVNet.stage_channels("s"))


def test_folder_works_in_another_repository(tmp_path):
    """Copied under another name, beside nothing else of the suite."""
    source = Path(fvnet_mm.backbones.__file__).parent
    target = tmp_path / "paper" / "trunks"
    target.mkdir(parents=True)
    for file in source.glob("*.py"):
        (target / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    code = """
import sys, timm
from paper.trunks import FVNet
assert not any(name.startswith("fvnet_mm") for name in sys.modules)
from mmengine.registry import MODELS
assert MODELS.get("FVNet") is FVNet
print(timm.list_models("fvnet_*"))
"""
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fvnet_s" in done.stdout
