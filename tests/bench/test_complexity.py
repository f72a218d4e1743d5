import pytest
import timm
import torch
import torchvision
from torch import nn

from fvnet_mm.bench.complexity import count_forward, count_macs, count_parameters


def test_convolution_by_formula():
    conv = nn.Conv2d(12, 8, kernel_size=(3, 5), stride=2, padding=(1, 2), groups=4)
    weights = 8 * (12 // 4) * 3 * 5
    assert count_parameters(conv) == weights + 8
    assert count_macs(conv, (2, 12, 32, 20)) == 2 * weights * 16 * 10


def test_attention_by_formula():
    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v)

    heads, queries, keys, width = 3, 7, 11, 16
    shapes = [(1, heads, n, width) for n in (queries, keys, keys)]
    assert count_macs(Attention(), *shapes) == 2 * heads * queries * keys * width


def test_resnet18_as_published():
    """He et al. (2016), table 1: 1.8e9 multiply-adds; torchvision's page: 11,689,512 parameters."""
    resnet = timm.create_model("resnet18")
    assert count_parameters(resnet) == 11_689_512
    assert round(count_macs(resnet, (1, 3, 224, 224)) / 1e9, 1) == 1.8


def test_grows_with_batch_and_resolution():
    conv = nn.Conv2d(3, 4, 3, padding=1)
    assert count_macs(conv, (5, 3, 64, 32)) == 10 * count_macs(conv, (1, 3, 32, 32))


def test_shared_and_frozen_parameters():
    layer = nn.Linear(4, 4, bias=False).requires_grad_(False)
    assert count_parameters(nn.Sequential(layer, layer)) == 16


def test_module_that_cannot_run_on_meta():
    class LooksAtValues(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum().item() >= 0 else x

    assert count_macs(LooksAtValues(6, 7), (5, 6)) == 5 * 6 * 7


def test_module_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    net[1].eval()
    modes = [m.training for m in net.modules()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    count_macs(net, torch.randn(2, 3, 8, 8))
    assert [m.training for m in net.modules()] == modes
    for name, value in net.state_dict().items():
        assert value.device.type == "cpu"
        torch.testing.assert_close(value, state[name])


def test_tables_that_are_not_saved_go_along():
    """Positions and biases looked up by a fixed index, which a state dict need not hold."""

    class LooksUp(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 7)
            self.register_buffer("index", torch.tensor([2, 0, 1]), persistent=False)

        def forward(self, x):
            return super().forward(x[:, self.index])

    assert count_macs(LooksUp(), (1, 5, 6)) == 3 * 6 * 7


def test_deformable_convolution_counts_as_the_plain_one():
    plain = nn.Conv2d(8, 6, 3, padding=1, groups=2)
    deformable = torchvision.ops.DeformConv2d(8, 6, 3, padding=1, groups=2)
    offsets = (2, 2 * 3 * 3, 20, 12)
    assert count_macs(deformable, (2, 8, 20, 12), offsets) == count_macs(plain, (2, 8, 20, 12)) > 0


def test_outputs_feed_the_next_part():
    first, second = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 5, 1)
    features, macs = count_forward(first, (1, 3, 16, 12))
    assert features.shape == (1, 4, 8, 6)
    assert macs + count_macs(second, features) == count_macs(nn.Sequential(first, second), (1, 3, 16, 12))


def test_network_on_meta_that_cannot_run_there_says_why():
    class LooksAtValues(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum().item() >= 0 else x

    with pytest.raises(RuntimeError, match="meta"):
        count_macs(LooksAtValues(6, 7, device="meta"), (5, 6))


def test_inputs_of_lists_and_of_nothing_else():
    class Sum(nn.Module):
        def forward(self, features):
            return features[0] @ features[1]

    assert count_macs(Sum(), [(2, 3), (3, 4)]) == 2 * 3 * 4
    with pytest.raises(TypeError, match="a tensor, a shape, or a list of these, not str"):
        count_macs(Sum(), "2x3")
