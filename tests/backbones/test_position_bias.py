import copy
import math
import pickle

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import efficientformer, efficientformer_v2
from torch import Tensor, nn

from fvnet_mm.backbones import make_any_size
from fvnet_mm.backbones.position_bias import AnySizeBias, pairwise_bias, signed_bias_table

MODELS = ["efficientformer_l1", "efficientformerv2_s0"]
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def randomise(model: nn.Module) -> nn.Module:
    """Biases, layer scales and statistics as large as everything else, so that a mistake in them shows."""
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "attention_biases" in name or name.endswith("running_mean"):
                tensor.normal_()
            elif name.endswith("gamma") or name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
    return model.eval()


def build(name: str, **arguments: object) -> nn.Module:
    return randomise(timm.create_model(name, pretrained=False, **arguments))


def attentions(model: nn.Module) -> list[AnySizeBias]:
    return [module for module in model.modules() if isinstance(module, AnySizeBias)]


def cubic(values: np.ndarray, position: float) -> float:
    """Cubic convolution (Keys, 1981) with a = -0.75 at a position of an even function, constant behind its end."""
    start = math.floor(position)
    t = position - start
    a = -0.75

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    return sum(kernel(k - t) * values[min(abs(start + k), len(values) - 1)] for k in (-1, 0, 1, 2))


@settings(max_examples=60, deadline=None)
@given(old=SIZES, new=SIZES)
def test_interpolates_the_even_function_of_the_signed_offset(old, new):
    table = torch.randn(2, *old, dtype=torch.float64)
    signed = signed_bias_table(table, new)
    assert signed.shape == (2, 2 * new[0] - 1, 2 * new[1] - 1)
    scale = [(a - 1) / (b - 1) if b > 1 else 0.0 for a, b in zip(old, new, strict=True)]
    for dy in {0, new[0] // 2, new[0] - 1}:
        for dx in range(new[1]):
            rows = np.array([cubic(row, dx * scale[1]) for row in table[1].numpy()])
            expected = cubic(rows, dy * scale[0])
            for sy, sx in ((dy, dx), (-dy, dx), (dy, -dx), (-dy, -dx)):
                assert signed[1, new[0] - 1 + sy, new[1] - 1 + sx].item() == pytest.approx(expected, abs=1e-9)


@given(size=SIZES, heads=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_own_size_is_exact(size, heads):
    table = torch.randn(heads, *size)
    signed = signed_bias_table(table, size)
    assert torch.equal(signed[:, size[0] - 1 :, size[1] - 1 :], table)
    assert torch.equal(signed, signed.flip(1))
    assert torch.equal(signed, signed.flip(2))


@pytest.mark.parametrize("size", [(13, 13), (25, 19), (13, 61)])
def test_centre_and_ends_stay(size):
    table = torch.randn(3, 7, 7)
    grid = signed_bias_table(table, size)[:, size[0] - 1 :, size[1] - 1 :]
    torch.testing.assert_close(grid[:, :: (size[0] - 1) // 6, :: (size[1] - 1) // 6], table, rtol=0, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(size=SIZES, stride=st.integers(1, 3))
def test_pairs_against_their_definition(size, stride):
    table = torch.randn(2, *size)
    bias = pairwise_bias(signed_bias_table(table, size), stride)
    queries = [(y, x) for y in range(0, size[0], stride) for x in range(0, size[1], stride)]
    keys = [(y, x) for y in range(size[0]) for x in range(size[1])]
    expected = torch.stack([torch.stack([table[:, abs(a - c), abs(b - d)] for c, d in keys], 1) for a, b in queries], 1)
    assert torch.equal(bias, expected)


@pytest.mark.parametrize("resolution", [(7, 7), (9, 12), (5, 4), (1, 3)])
def test_pairs_against_the_indices_of_timm(resolution):
    same = efficientformer_v2.Attention2d(32, resolution=resolution)
    half = efficientformer_v2.Attention2dDownsample(32, resolution=resolution)
    tokens = efficientformer.Attention(32, resolution=resolution)
    for attention, stride in ((same, 1), (half, 2), (tokens, 1)):
        nn.init.normal_(attention.attention_biases)
        table = attention.attention_biases.unflatten(1, resolution)
        bias = pairwise_bias(signed_bias_table(table, resolution), stride)
        assert torch.equal(bias, attention.get_attention_biases(torch.device("cpu")))


@pytest.mark.parametrize("size", [(3, 5), (4, 7), (1, 1)])
def test_gradient_of_the_table(size):
    table = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: pairwise_bias(signed_bias_table(t, size), 2), table)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_the_table_s_and_interpolation_is_not_autocast(dtype):
    table = torch.randn(2, 7, 7).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        signed = signed_bias_table(table, (11, 9))
    assert signed.dtype == dtype
    assert torch.equal(
        signed, signed_bias_table(table.to(torch.promote_types(dtype, torch.float32)), (11, 9)).to(dtype)
    )


@pytest.mark.parametrize("name", MODELS)
def test_224_is_what_it_was(name):
    original = build(name)
    model = copy.deepcopy(original)
    make_any_size(model)
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model(x), original(x), rtol=0, atol=1e-6)
        final, levels = model.forward_intermediates(x, norm=True)
        final_before, levels_before = original.forward_intermediates(x, norm=True)
    for level, before in zip([final, *levels], [final_before, *levels_before], strict=True):
        torch.testing.assert_close(level, before, rtol=0, atol=1e-6)
    assert original(x).std() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_load_in_both_directions(name):
    original, model = build(name), build(name)
    make_any_size(model)
    assert list(model.state_dict()) == list(original.state_dict())
    model.load_state_dict(original.state_dict())
    original.load_state_dict(model.state_dict())
    before = {id(p) for p in model.parameters()}
    make_any_size(model)
    assert {id(p) for p in model.parameters()} == before


@pytest.mark.parametrize("size", [(224, 224), (97, 65), (160, 223), (32, 33), (128, 320)])
@pytest.mark.parametrize("name", MODELS)
def test_features_of_any_size(name, size):
    model = build(name, features_only=True)
    make_any_size(model)
    channels, strides = model.feature_info.channels(), model.feature_info.reduction()
    with torch.no_grad():
        levels = model(torch.randn(1, 3, *size))
        assert [tuple(y.shape) for y in levels] == [
            (1, c, math.ceil(size[0] / s), math.ceil(size[1] / s)) for c, s in zip(channels, strides, strict=True)
        ]
    assert all(y.isfinite().all() for y in levels)


@pytest.mark.parametrize("name", MODELS)
def test_features_at_224_are_the_original_s(name):
    original = build(name, features_only=True)
    model = copy.deepcopy(original)
    make_any_size(model)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for level, before in zip(model(x), original(x), strict=True):
            torch.testing.assert_close(level, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(160, 224), (150, 244), (256, 192)])
def test_another_size_is_timm_s_model_built_for_it(size):
    """With resized tables, and sizes of which only stride 16 must make an even map, as timm's upsampling needs."""
    model = build("efficientformerv2_s0")
    make_any_size(model)
    fixed = timm.create_model("efficientformerv2_s0", pretrained=False, img_size=size).eval()
    state = model.state_dict()
    for name, module in fixed.named_modules():
        if hasattr(module, "attention_biases"):
            old = (14, 14) if "downsample" in name else (7, 7)
            new = module.resolution
            signed = signed_bias_table(state[f"{name}.attention_biases"].unflatten(1, old), new)
            state[f"{name}.attention_biases"] = signed[:, new[0] - 1 :, new[1] - 1 :].flatten(1)
    fixed.load_state_dict(state)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(model(x), fixed(x), rtol=1e-4, atol=1e-4)


def test_odd_maps_are_upsampled_in_place():
    """Each position gets the same mix of its neighbours, whether the map ends behind it or not."""
    attention = efficientformer_v2.Attention2d(32, resolution=14, stride=2)
    attention.eval()
    even = attention.upsample(torch.arange(8.0).expand(1, 1, 8, 8))
    make_any_size(attention)
    attention(torch.randn(1, 32, 15, 13))
    odd = attention.upsample(torch.arange(8.0).expand(1, 1, 8, 8))
    assert torch.equal(odd, even[..., :15, :13])


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient_at_an_odd_size(name):
    model = build(name, features_only=True).train()
    make_any_size(model)
    levels = model(torch.randn(2, 3, 97, 65))
    sum((y * torch.randn_like(y)).sum() for y in levels).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    # The classifier's norm of EfficientFormer belongs to none of the features.
    assert [n for n in missing if not n.startswith("model.norm.")] == []
    assert all(attention.attention_biases.grad.any() for attention in attentions(model))


def test_pruned_efficientformer():
    model = build("efficientformer_l1", features_only=True, out_indices=(0, 2))
    make_any_size(model)
    with torch.no_grad():
        assert [tuple(y.shape[-2:]) for y in model(torch.randn(1, 3, 97, 65))] == [(25, 17), (7, 5)]
        pruned = build("efficientformer_l1")
        make_any_size(pruned)
        pruned.prune_intermediate_layers([1])
        assert pruned.forward_features(torch.randn(1, 3, 97, 65)).shape == (1, 96, 13, 9)


def test_refuses_another_output_format():
    model = build("efficientformer_l1")
    make_any_size(model)
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW', but is 'NLC'"):
        model.forward_intermediates(torch.randn(1, 3, 64, 64), output_fmt="NLC")


def test_other_models_are_left_alone():
    model = timm.create_model("resnet18", pretrained=False)
    types = [type(module) for module in model.modules()]
    make_any_size(model)
    assert [type(module) for module in model.modules()] == types


@pytest.mark.parametrize("name", MODELS)
def test_grad_checkpointing(name):
    model = build(name)
    make_any_size(model)
    x = torch.randn(1, 3, 97, 65)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        # Another size in between: recomputation must not see it.
        loss = model(x).square().sum()
        model(torch.randn(1, 3, 64, 64))
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", MODELS)
def test_export(name):
    model = build(name)
    make_any_size(model)
    x = torch.randn(1, 3, 97, 65)
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), model(x))


class Cached:
    """One attention module with a table of 7 x 7, and what it remembers."""

    def __init__(self) -> None:
        self.attention = efficientformer.Attention(32)
        nn.init.normal_(self.attention.attention_biases)
        make_any_size(self.attention)
        self.attention.eval()

    @torch.no_grad()
    def bias(self, size: tuple[int, int] = (5, 6)) -> Tensor:
        return self.attention.bias(size)

    def expected(self, size: tuple[int, int] = (5, 6)) -> Tensor:
        table = self.attention.attention_biases.detach().unflatten(1, (7, 7))
        return pairwise_bias(signed_bias_table(table, size))


def test_remembers_the_last_sizes_in_eval_mode():
    cached = Cached()
    landscape, portrait = cached.bias((5, 6)), cached.bias((6, 5))
    assert cached.bias((5, 6)) is landscape
    assert cached.bias((6, 5)) is portrait
    cached.bias((4, 4))
    assert cached.bias((6, 5)) is portrait
    again = cached.bias((5, 6))
    assert again is not landscape
    assert torch.equal(again, landscape)
    assert "_cache" not in str(cached.attention.state_dict().keys())


def test_remembers_nothing_while_training_or_with_gradients():
    cached = Cached()
    cached.attention.train()
    assert cached.bias() is not cached.bias()
    cached.attention.eval()
    assert cached.attention.bias((5, 6)).requires_grad
    before = cached.bias()
    assert cached.attention.bias((5, 6)).requires_grad
    cached.attention.requires_grad_(False)
    assert cached.attention.bias((5, 6)) is before


def change_in_place(attention: nn.Module) -> None:
    with torch.no_grad():
        attention.attention_biases.mul_(2)


def change_behind_the_version_counter(attention: nn.Module) -> None:
    """As hooks that swap in averaged weights do, before they set the mode."""
    attention.attention_biases.data.mul_(2)
    attention.eval()


def replace(attention: nn.Module) -> None:
    attention.attention_biases = nn.Parameter(torch.randn(8, 49))


def load(attention: nn.Module) -> None:
    attention.load_state_dict({k: v * 2 for k, v in attention.state_dict().items()})


def load_by_assignment(attention: nn.Module) -> None:
    attention.load_state_dict({k: v * 2 for k, v in attention.state_dict().items()}, assign=True)


def cast(attention: nn.Module) -> None:
    attention.double()


@pytest.mark.parametrize(
    "change", [change_in_place, change_behind_the_version_counter, replace, load, load_by_assignment, cast]
)
def test_forgets_when_the_table_changes(change):
    cached = Cached()
    before = cached.bias()
    change(cached.attention)
    after = cached.bias()
    assert after.dtype == cached.attention.attention_biases.dtype
    assert torch.equal(after, cached.expected())
    assert not torch.equal(after.float(), before) or change is cast


def test_another_table_for_one_call():
    """As in ``torch.func.functional_call``, whose tensors can have the same version."""
    cached = Cached()
    cached.bias()
    x = torch.randn(1, 5, 6, 32)
    state = {name: value.detach().clone() * 2 for name, value in cached.attention.named_parameters()}
    with torch.no_grad():
        swapped = torch.func.functional_call(cached.attention, state, (x,))
        cached.attention.load_state_dict(state, strict=False)
        torch.testing.assert_close(swapped, cached.attention(x))


@pytest.mark.parametrize("make_twin", [copy.deepcopy, lambda attention: pickle.loads(pickle.dumps(attention))])
def test_copies_do_not_share(make_twin):
    cached = Cached()
    cached.bias()
    twin = make_twin(cached.attention)
    change_in_place(twin)  # its table's version is now the original's
    with torch.no_grad():
        assert torch.equal(twin.bias((5, 6)), 2 * cached.bias())


def test_inference_mode():
    with torch.inference_mode():
        cached = Cached()
        assert torch.equal(cached.bias(), cached.expected())
