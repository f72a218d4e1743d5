import copy
from math import ceil
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS
from timm.layers import DropPath
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import fvnet_mm.engine.weights  # noqa: F401  the initialiser 'Pretrained'
from fvnet_mm.backbones import TimmBackbone
from fvnet_mm.backbones.arch import STRIDES
from fvnet_mm.backbones.timm_backbone import PREFIX, default_weights

DESCRIPTIONS = Path(__file__).parents[2] / "configs" / "_base_" / "backbones"
TRUNKS = {
    path.stem: cfg
    for path in sorted(DESCRIPTIONS.glob("*.py"))
    if (cfg := Config.fromfile(path)).backbone.type == "TimmBackbone"
}
ROUND_DOWN = ("poolformer", "edgenext")  # at some sizes: their patches leave out the last rows and columns


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def random_classifier(name: str) -> nn.Module:
    """timm's model with every value of its own, running statistics included."""
    model = timm.create_model(name).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.8, 1.2)
    return model


def load(trunk: TimmBackbone, tensors: dict[str, torch.Tensor]) -> None:
    """Fills a trunk; an error if one of its tensors is missing."""
    own = trunk.state_dict()
    trunk.load_state_dict({name: tensor for name, tensor in tensors.items() if name in own})


def built(name: str, *, meta: bool = False, **options: object) -> TimmBackbone:
    with torch.device("meta" if meta else "cpu"):
        return MODELS.build(dict(type="TimmBackbone", model_name=name, **options))


def test_all_are_described():
    assert len(TRUNKS) == 29


@pytest.mark.parametrize("name", TRUNKS)
def test_description(name):
    cfg = TRUNKS[name]
    model = cfg.backbone.model_name
    assert cfg.backbone_name == model == name
    assert tuple(cfg.channels) == TimmBackbone.stage_channels(model)
    assert tuple(cfg.channels[1:]) == TimmBackbone.stage_channels(model, (1, 2, 3))
    tagged = cfg.weights.url.split("/")[-4]
    in_timm = default_weights(tagged)
    assert tagged.split(".")[0] == model
    assert (cfg.weights.url, cfg.weights.license) == (in_timm["url"], in_timm["license"])
    assert cfg.weights.distilled or not in_timm["distilled"]
    assert cfg.backbone.init_cfg.to_dict() == dict(
        type="Pretrained", checkpoint=cfg.weights.url, distilled=cfg.weights.distilled
    )


@pytest.fixture(scope="module", params=TRUNKS)
def trunk(request: pytest.FixtureRequest) -> TimmBackbone:
    return built(request.param)


def test_equals_timms_features_with_a_classifiers_weights(trunk):
    classifier = random_classifier(trunk.model_name)
    load(trunk.eval(), trunk.convert_state_dict(classifier.state_dict()))
    # timm's own ways of loading and of taking features
    reference = timm.create_model(
        trunk.model_name,
        features_only=True,
        pretrained=True,
        pretrained_cfg_overlay=dict(state_dict=classifier.state_dict()),
    ).eval()
    levels = [reference.feature_info.reduction().index(stride) for stride in STRIDES]
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        outputs, expected = trunk(image), reference(image)
    assert len(outputs) == len(STRIDES)
    for output, level, channels in zip(outputs, levels, trunk.channels, strict=True):
        features = expected[level]
        if features.shape[1] != channels:
            features = features.permute(0, 3, 1, 2)
        assert output.shape == (1, channels, *features.shape[2:])
        torch.testing.assert_close(output, features, atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient(trunk):
    check_gradients(trunk.train())


@pytest.mark.parametrize("name", TRUNKS)
def test_every_parameter_gets_a_gradient_without_stride_4(name):
    trunk = built(name, out_indices=(1, 2, 3))
    assert trunk.strides == STRIDES[1:]
    check_gradients(trunk)


def check_gradients(trunk: TimmBackbone) -> None:
    outputs = trunk(torch.randn(2, 3, 97, 65))
    assert [output.shape[1] for output in outputs] == list(trunk.channels)
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", TRUNKS)
def test_any_size(name):
    trunk = built(name, meta=True).eval()
    for image in ((32, 32), (33, 47), (800, 1333)):
        for output, stride in zip(trunk(torch.zeros(1, 3, *image, device="meta")), STRIDES, strict=True):
            for length, size in zip(image, output.shape[2:], strict=True):
                rounded_down = name.startswith(ROUND_DOWN) and size == length // stride
                assert size == ceil(length / stride) or rounded_down, (image, stride)


@pytest.mark.parametrize("name", ["dla46_c", "swin_tiny_patch4_window7_224"])
def test_images_are_padded_for_models_that_only_take_multiples_of_32(name):
    trunk = built(name).eval()
    image = torch.randn(1, 3, 70, 97)
    padded = nn.functional.pad(image, (0, 31, 0, 26))
    with torch.no_grad():
        outputs, expected = trunk(image), trunk(padded)
    for output, full, stride in zip(outputs, expected, STRIDES, strict=True):
        assert output.shape[2:] == (ceil(70 / stride), ceil(97 / stride))
        assert torch.equal(output, full[..., : output.shape[2], : output.shape[3]])


def test_what_no_output_depends_on_is_not_trained():
    trunk = built("hrnet_w18_small", out_indices=(1, 2, 3))
    sum(output.mean() for output in trunk(torch.randn(2, 3, 64, 64))).backward()
    without = {name for name, parameter in trunk.named_parameters() if not parameter.requires_grad}
    assert without == trunk.unused_parameters != frozenset()
    assert without == {name for name, parameter in trunk.named_parameters() if parameter.grad is None}


def test_layers_behind_the_last_output_do_not_exist():
    names = {name.split(".")[1] for name, _ in built("resnet18", meta=True, out_indices=(0, 1)).named_parameters()}
    assert names == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet18", (("conv1", "bn1"), ("layer1",), ("layer2",))),
        ("mobilenetv4_conv_small", (("conv_stem", "bn1"), ("blocks.0",), ("blocks.1",))),
        ("pvt_v2_b0", (("patch_embed",), ("stages.0",), ("stages.1",))),
        ("mambaout_femto", (("stem",), ("stages.0",), ("stages.1",))),
    ],
)
@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 2])
def test_frozen_stages(name, parts, frozen_stages):
    trunk = built(name, frozen_stages=frozen_stages, out_indices=(1, 2, 3))
    prefixes = tuple(f"{PREFIX}{part}." for group in parts[: frozen_stages + 1] for part in group)
    assert trunk.train() is trunk
    assert trunk.train(False) is trunk
    before = copy.deepcopy(trunk.train().state_dict())
    trunk(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    for parameter_name, parameter in trunk.named_parameters():
        frozen = bool(prefixes) and parameter_name.startswith(prefixes)
        assert parameter.requires_grad is not frozen, parameter_name
        if frozen:
            assert parameter.grad is None
    for module_name, module in trunk.named_modules():
        if prefixes and f"{module_name}.".startswith(prefixes):
            assert not module.training, module_name
        elif isinstance(module, _BatchNorm):
            assert module.training, module_name
            assert not torch.equal(module.running_mean, before[f"{module_name}.running_mean"]), module_name


def test_frozen_stages_survive_synchronised_batch_norm():
    trunk = nn.SyncBatchNorm.convert_sync_batchnorm(built("resnet18", frozen_stages=1)).train()
    assert not trunk.timm_model.bn1.training
    assert trunk.timm_model.layer2[0].bn1.training


def test_norm_eval():
    trunk = built("repvit_m0_9", norm_eval=True).train()
    assert not any(module.training for module in trunk.modules() if isinstance(module, _BatchNorm))
    assert trunk.timm_model.training
    assert all(parameter.requires_grad for parameter in trunk.parameters())


@pytest.mark.parametrize("name", ["resnet18", "repvit_m0_9", "mobilenetv4_conv_small", "pvt_v2_b0", "mambaout_femto"])
def test_recomputation_changes_no_gradient(name):
    plain, saving = built(name, norm_eval=True), built(name, norm_eval=True, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    calls = []
    convolutions = [module for module in saving.modules() if isinstance(module, nn.Conv2d)]
    convolutions[-2].register_forward_hook(lambda *_: calls.append(1))
    image = torch.randn(1, 3, 64, 64)
    for trunk in (plain, saving):
        sum(output.square().mean() for output in trunk(image)).backward()
    assert len(calls) == 2
    for (parameter_name, expected), parameter in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, msg=parameter_name)


def test_drop_path_rate():
    rates = [m.drop_prob for m in built("pvt_v2_b0", drop_path_rate=0.3).modules() if isinstance(m, DropPath)]
    assert max(rates) == pytest.approx(0.3)
    assert not any(isinstance(m, DropPath) for m in built("pvt_v2_b0").modules())


def test_in_channels():
    assert len(built("resnet18", in_channels=1)(torch.randn(1, 1, 64, 64))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model_name="resnet_50"), "timm has no model 'resnet_50'; the closest are .*resnet50"),
        (dict(model_name="###"), "timm has no model '###'; timm.list_models"),
        (dict(model_name="hf-hub:timm/resnet18"), "timm has no model 'hf-hub:timm/resnet18'"),
        (dict(model_name="resnet18.b9"), "timm has no weights 'resnet18.b9'; it has .*resnet18.tv_in1k"),
        (dict(model_name="vit_tiny_patch16_224"), "features at stride 16, but out_indices=.* 4, 8, 16 and 32"),
        (dict(model_name="shvit_s1"), r"features at strides 16, 32 and 64, but .* or out_indices=\(2, 3\)"),
        (dict(model_name="efficientvit_m0", out_indices=(1, 2, 3)), "asks for strides 8, 16 and 32"),
        (dict(model_name="coat_lite_tiny"), "does not take images of any size.* 288x352: Input height"),
        (dict(model_name="maxvit_nano_rw_256"), "does not take images of any size"),
        (dict(model_name="resnet18", out_indices=(1, 4)), "out_indices must be stage numbers from 0 to 3"),
        (dict(model_name="resnet18", out_indices=(0, 1), frozen_stages=3), "frozen_stages must be from -1"),
        (dict(model_name="resnet18", drop_path_rate=1.0), "drop_path_rate must be at least 0 and less than 1"),
        (dict(model_name="repvit_m0_9", drop_path_rate=0.1), "'repvit_m0_9' has no stochastic depth"),
        (dict(model_name="resnet18", norm_eval="no"), "norm_eval must be True or False, but is 'no'"),
        (dict(model_name="resnet18", with_cp=1), "with_cp must be True or False, but is 1"),
        (dict(model_name="dla46_c", with_cp=True), "'dla46_c' cannot compute activations again"),
        (dict(model_name="resnet18", bogus=1), "bogus"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_refusals(options, message):
    with pytest.raises((ValueError, TypeError), match=message), torch.device("meta"):
        TimmBackbone(**options)


def test_a_pyramid_of_fewer_stages_serves_who_asks_for_no_more():
    trunk = built("shvit_s1", meta=True, out_indices=(2, 3))
    assert trunk.strides == (16, 32)
    assert TimmBackbone.stage_channels("shvit_s1", (2, 3)) == trunk.channels


def test_small_images():
    with pytest.raises(ValueError, match="at least 32x32 pixels, but got 31x40"):
        built("resnet18", meta=True)(torch.zeros(1, 3, 31, 40, device="meta"))


def test_weights_of_another_library_and_of_itself():
    """torchvision's ResNet has timm's names."""
    classifier = torchvision.models.resnet18().eval()
    trunk = built("resnet18").eval()
    converted = trunk.convert_state_dict(classifier.state_dict())
    load(trunk, converted)
    image = torch.randn(1, 3, 97, 65)
    x = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(image))))
    for layer, output in zip(
        (classifier.layer1, classifier.layer2, classifier.layer3, classifier.layer4), trunk(image), strict=True
    ):
        x = layer(x)
        torch.testing.assert_close(output, x)
    assert trunk.convert_state_dict(converted) == converted


def test_authors_names():
    """PVTv2's authors number their stages from 1, outside of any list of stages."""
    trunk = built("pvt_v2_b0")
    authors = {}
    for name, tensor in timm.create_model("pvt_v2_b0").state_dict().items():
        name = name.replace("patch_embed.", "patch_embed1.").replace("mlp.dwconv.", "mlp.dwconv.dwconv.")
        for stage in range(4):
            name = name.replace(f"stages.{stage}.downsample.", f"patch_embed{stage + 1}.")
            name = name.replace(f"stages.{stage}.blocks.", f"block{stage + 1}.")
            name = name.replace(f"stages.{stage}.norm.", f"norm{stage + 1}.")
        authors[name] = tensor
    assert not set(authors) & set(timm.create_model("pvt_v2_b0", num_classes=0).state_dict())
    assert set(trunk.state_dict()) <= set(trunk.convert_state_dict(authors))


@pytest.mark.parametrize("name", [*TRUNKS, "swin_tiny_patch4_window7_224", "convnext_atto"])
def test_foreign_weights_are_renamed_and_fit_nowhere(name):
    trunk = built(name, meta=True)
    foreign = {"patch_embed.odd.weight": torch.zeros(2), "layers.9.relative_position_bias_table": torch.zeros(3, 4)}
    assert not set(trunk.convert_state_dict(foreign)) & set(trunk.state_dict())
    assert trunk.convert_state_dict({}) == {}


def test_pretrained(tmp_path):
    classifier = random_classifier("repvit_m0_9")
    checkpoint = tmp_path / "classifier.pth"
    torch.save(dict(state_dict=classifier.state_dict()), checkpoint)
    trunk = built("repvit_m0_9", init_cfg=dict(type="Pretrained", checkpoint=str(checkpoint)))
    trunk.init_weights()
    expected = classifier.state_dict()
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, expected[name.removeprefix(PREFIX)]), name


def test_without_weights_timms_own_initialisation_stays():
    trunk = built("resnet18")
    before = copy.deepcopy(trunk.state_dict())
    trunk.init_weights()
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_default_weights():
    assert default_weights("repvit_m1_1.dist_450e_in1k") == dict(
        url="https://huggingface.co/timm/repvit_m1_1.dist_450e_in1k/resolve/main/model.safetensors",
        license="apache-2.0",
        distilled=True,
    )
    assert default_weights("repvit_m1_1")["url"] == default_weights("repvit_m1_1.dist_300e_in1k")["url"]
    assert default_weights("resnet18")["distilled"] is None
    assert default_weights("fvnet_s") is None
    with pytest.raises(ValueError, match="timm has no model"):
        default_weights("no_such_model")
