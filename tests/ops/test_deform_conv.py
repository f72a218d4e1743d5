from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from mmcv import _ext
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, deform_conv2d, modulated_deform_conv2d
from torch import Tensor
from torch.autograd import gradcheck


@dataclass(frozen=True)
class Layer:
    """A layer of 4 to 6 channels for 7 x 8 pixels; pairs are (rows, columns)."""

    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    deform_groups: int = 1

    @property
    def placing(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        return self.stride, self.padding, self.dilation

    def tensors(self, spread: float = 1.5) -> dict[str, Tensor]:
        """Random operands in float64; offsets within ``spread`` pixels."""
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        weight = random(6, 4 // self.groups, *self.kernel)
        size = F.conv2d(torch.zeros(1, 4, 7, 8), torch.zeros(1, 4, *self.kernel), None, *self.placing).shape[2:]
        elements = self.deform_groups * self.kernel[0] * self.kernel[1]
        return {
            "input": random(2, 4, 7, 8),
            "offset": spread * random(2, 2 * elements, *size).tanh(),
            "mask": random(2, elements, *size).sigmoid(),
            "weight": weight,
            "bias": random(6),
        }


LAYERS = [
    Layer(),
    Layer(kernel=(3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2)),
    Layer(groups=2, deform_groups=2),
    Layer(kernel=(1, 1), padding=(0, 0), deform_groups=4),
]
every_layer = pytest.mark.parametrize("layer", LAYERS, ids=["plain", "uneven", "groups", "pointwise"])


def reference(layer: Layer, input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Deformable convolution from grid_sample, one kernel element at a time, differentiable in everything."""
    images, _, height, width = input.shape
    out_height, out_width = offset.shape[2:]
    kernel_height, kernel_width = layer.kernel
    shape = (images, layer.deform_groups, kernel_height, kernel_width, 2, out_height, out_width)
    offset, mask = offset.view(shape), mask.view(*shape[:4], *shape[5:])
    elements = []
    for i in range(kernel_height):
        for j in range(kernel_width):
            rows = torch.arange(out_height) * layer.stride[0] - layer.padding[0] + i * layer.dilation[0]
            columns = torch.arange(out_width) * layer.stride[1] - layer.padding[1] + j * layer.dilation[1]
            y = rows[:, None] + offset[:, :, i, j, 0]
            x = columns + offset[:, :, i, j, 1]
            grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1).flatten(0, 1)
            channels = input.reshape(images * layer.deform_groups, -1, height, width)
            sampled = F.grid_sample(channels, grid, padding_mode="zeros", align_corners=True)
            sampled = sampled * mask[:, :, i, j].flatten(0, 1).unsqueeze(1)
            elements.append(sampled.reshape(images, -1, out_height, out_width))
    unfolded = torch.stack(elements, dim=2).flatten(1, 2)
    return F.conv2d(unfolded, weight.flatten(2).flatten(1)[:, :, None, None], bias, groups=layer.groups)


@every_layer
def test_output_and_gradients_equal_the_reference(layer: Layer) -> None:
    tensors = layer.tensors()
    del tensors["mask"], tensors["bias"]
    ours = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    theirs = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    output = deform_conv2d(
        ours["input"], ours["offset"], ours["weight"], *layer.placing, layer.groups, layer.deform_groups
    )
    ones = torch.ones_like(tensors["offset"][:, ::2])
    expected = reference(layer, mask=ones, bias=None, **theirs)
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor.grad, theirs[name].grad, msg=lambda text, name=name: f"{name}: {text}")


@every_layer
@pytest.mark.parametrize("with_bias", [False, True])
def test_modulated_output_and_gradients_equal_the_reference(layer: Layer, with_bias: bool) -> None:
    tensors = layer.tensors()
    ours = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    theirs = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    if not with_bias:
        ours["bias"] = theirs["bias"] = None
    output = modulated_deform_conv2d(*ours.values(), *layer.placing, layer.groups, layer.deform_groups)
    expected = reference(layer, **theirs)
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    for name, tensor in ours.items():
        if tensor is not None:
            torch.testing.assert_close(tensor.grad, theirs[name].grad, msg=lambda text, name=name: f"{name}: {text}")


@every_layer
def test_gradient(layer: Layer) -> None:
    tensors = {name: tensor.requires_grad_() for name, tensor in layer.tensors().items()}
    arguments = (*layer.placing, layer.groups, layer.deform_groups)
    operands = tuple(tensors[name] for name in ("input", "offset", "weight"))
    assert gradcheck(lambda *operands: deform_conv2d(*operands, *arguments), operands, fast_mode=True)
    assert gradcheck(
        lambda *operands: modulated_deform_conv2d(*operands, *arguments),
        tuple(tensors.values()),
        fast_mode=True,
    )


@every_layer
def test_zero_offsets_make_it_a_convolution(layer: Layer) -> None:
    tensors = layer.tensors()
    offset, mask = torch.zeros_like(tensors["offset"]), torch.ones_like(tensors["mask"])
    sizes = {"in_channels": 4, "out_channels": 6, "kernel_size": layer.kernel}
    placing = dict(zip(("stride", "padding", "dilation"), layer.placing, strict=True))
    groups = {"groups": layer.groups, "deform_groups": layer.deform_groups}
    plain = DeformConv2d(**sizes, **placing, **groups).double()
    torch.testing.assert_close(
        plain(tensors["input"], offset),
        F.conv2d(tensors["input"], plain.weight, None, **placing, groups=layer.groups),
    )
    modulated = ModulatedDeformConv2d(**sizes, **placing, **groups).double()
    torch.nn.init.normal_(modulated.bias)
    torch.testing.assert_close(
        modulated(tensors["input"], offset, mask),
        F.conv2d(tensors["input"], modulated.weight, modulated.bias, **placing, groups=layer.groups),
    )


@every_layer
def test_offset_gradient_of_a_sample_exactly_outside_is_zero(layer: Layer) -> None:
    """As compiled mmcv has it. A hair further inside, the derivative is there."""
    tensors = layer.tensors()
    gradients = []
    for shift in (0.0, 1e-6):
        offset = torch.full_like(tensors["offset"], shift).requires_grad_()
        arguments = (*layer.placing, layer.groups, layer.deform_groups)
        deform_conv2d(tensors["input"], offset, tensors["weight"], *arguments).square().sum().backward()
        gradients.append(offset.grad.view(2, layer.deform_groups, *layer.kernel, 2, *offset.shape[2:]))
    at_zero, inside = gradients

    rows = torch.arange(offset.shape[2]) * layer.stride[0] - layer.padding[0]
    columns = torch.arange(offset.shape[3]) * layer.stride[1] - layer.padding[1]
    kernel_rows = torch.arange(layer.kernel[0])[:, None] * layer.dilation[0]
    kernel_columns = torch.arange(layer.kernel[1])[:, None] * layer.dilation[1]
    above = (rows + kernel_rows == -1)[:, None, :, None]
    left = (columns + kernel_columns == -1)[None, :, None, :]
    outside = torch.stack(torch.broadcast_tensors(above, left), dim=2).expand_as(at_zero)
    assert at_zero[outside].count_nonzero() == 0
    assert inside[outside].count_nonzero() > 0 or layer.padding == (0, 0)
    torch.testing.assert_close(at_zero[~outside], inside[~outside], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(dtype: torch.dtype) -> None:
    layer = LAYERS[2]
    half = {name: tensor.to(dtype).requires_grad_() for name, tensor in layer.tensors().items()}
    single = {name: tensor.detach().float().requires_grad_() for name, tensor in half.items()}
    arguments = (*layer.placing, layer.groups, layer.deform_groups)
    output = modulated_deform_conv2d(*half.values(), *arguments)
    expected = modulated_deform_conv2d(*single.values(), *arguments)
    assert torch.equal(output, expected.to(dtype))
    output.sum().backward()
    expected.sum().backward()
    for name, tensor in half.items():
        assert torch.equal(tensor.grad, single[name].grad.to(dtype)), name

    plain = deform_conv2d(half["input"], half["offset"], half["weight"], *arguments)
    expected = deform_conv2d(single["input"], single["offset"], single["weight"], *arguments)
    assert torch.equal(plain, expected.to(dtype))


def test_weight_gradient_is_scaled_and_added() -> None:
    layer = LAYERS[0]
    tensors = layer.tensors()
    upstream = torch.ones(2, 6, 7, 8, dtype=torch.float64)

    def weight_gradient(into: Tensor, scale: float) -> Tensor:
        empty = tensors["input"].new_empty(0)
        _ext.deform_conv_backward_parameters(
            tensors["input"],
            tensors["offset"],
            upstream,
            into,
            empty,
            empty,
            kW=3,
            kH=3,
            dW=1,
            dH=1,
            padW=1,
            padH=1,
            dilationW=1,
            dilationH=1,
            group=1,
            deformable_group=1,
            scale=scale,
            im2col_step=1,
        )
        return into

    once = weight_gradient(torch.zeros_like(tensors["weight"]), 1.0)
    assert once.count_nonzero() > 0
    torch.testing.assert_close(weight_gradient(torch.ones_like(once), 0.5), 1 + 0.5 * once)
