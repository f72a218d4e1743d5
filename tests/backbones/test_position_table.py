"""Learnt positions of any size."""

import pytest
import timm
import torch
import torch.nn.functional as F

from fvnet_mm.backbones import TimmBackbone
from fvnet_mm.backbones.position_table import make_positions_any_size, resized_positions


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(7, 7), (13, 9), (3, 20), (1, 1)])
def test_positions_are_interpolated_as_pytorch_does_it(size: tuple[int, int]) -> None:
    table = torch.randn(1, 5, 7, 7, dtype=torch.float64, requires_grad=True)
    expected = F.interpolate(table, size, mode="bicubic")
    torch.testing.assert_close(resized_positions(table, size), expected)
    (gradient,) = torch.autograd.grad(resized_positions(table, size).square().sum(), table)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), table)[0])


def test_own_size_is_the_table() -> None:
    table = torch.randn(1, 5, 7, 7)
    assert resized_positions(table, (7, 7)) is table


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_interpolation_is_not_autocast(dtype: torch.dtype) -> None:
    table = torch.randn(1, 5, 7, 7).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        resized = resized_positions(table, (13, 9))
    assert resized.dtype == dtype
    assert torch.equal(resized, resized_positions(table.float(), (13, 9)).to(dtype))


@pytest.mark.parametrize("name", ["visformer_tiny", "visformer_small"])
def test_224_is_what_it_was(name: str) -> None:
    model, image = timm.create_model(name).eval(), torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected, levels = model(image), model.forward_intermediates(image, intermediates_only=True)
        names = set(model.state_dict())
        make_positions_any_size(model)
        assert torch.equal(model(image), expected)
        for level, original in zip(model.forward_intermediates(image, intermediates_only=True), levels, strict=True):
            assert torch.equal(level, original)
    assert set(model.state_dict()) == names


def test_another_size_is_timm_s_model_built_for_it() -> None:
    model = timm.create_model("visformer_tiny").eval().double()
    large = timm.create_model("visformer_tiny", img_size=(256, 320)).eval().double()
    state = model.state_dict()
    for name in ("pos_embed1", "pos_embed2", "pos_embed3"):
        state[name] = F.interpolate(state[name], getattr(large, name).shape[2:], mode="bicubic")
    large.load_state_dict(state)
    make_positions_any_size(model)
    image = torch.randn(1, 3, 256, 320, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(image), large(image))


@pytest.mark.parametrize("size", [(32, 32), (97, 65), (333, 512)])
def test_features_of_any_size(size: tuple[int, int]) -> None:
    trunk = TimmBackbone("visformer_tiny", out_indices=(1, 2, 3)).eval()
    with torch.no_grad():
        outputs = trunk(torch.randn(1, 3, *size))
    for output, channels, stride in zip(outputs, trunk.channels, trunk.strides, strict=True):
        assert output.shape[:2] == (1, channels)
        for length, image in zip(output.shape[2:], size, strict=True):
            assert length in (image // stride, -(-image // stride))


def test_pruned_and_recomputed() -> None:
    trunk = TimmBackbone("visformer_tiny", out_indices=(1, 2), with_cp=True)
    assert not [name for name, _ in trunk.named_parameters() if "stage3" in name]
    sum(output.mean() for output in trunk(torch.randn(2, 3, 65, 97))).backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_other_models_are_left_alone() -> None:
    model = timm.create_model("resnet18")
    make_positions_any_size(model)
    assert type(model) is type(timm.create_model("resnet18"))


def test_refuses_another_output_format() -> None:
    model = timm.create_model("visformer_tiny")
    make_positions_any_size(model)
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW'"):
        model.forward_intermediates(torch.zeros(1, 3, 64, 64), output_fmt="NLC")
