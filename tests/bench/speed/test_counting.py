"""Counts against what can be computed by hand, what was published, and a watch on every operator."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fvnet_mm.backbones import FVNet
from fvnet_mm.backbones.ftfu import FTFU, FusedFTFU, closed_form_step
from fvnet_mm.bench.speed.counting import FTFU_OPERATIONS, count_subject, ftfu_operations, parameters_of
from fvnet_mm.bench.speed.subjects import build_subject, find_subjects
from fvnet_mm.records.benchmark import Counted


class Tiny(nn.Module):
    """A convolution to half the side, a ReLU, and a product with a matrix at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.linear = nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.conv(x)).permute(0, 2, 3, 1))


def count(module: nn.Module, size: tuple[int, int] = (32, 64)) -> Counted:
    (counted,) = count_subject(module.eval(), [size])
    return counted


def test_tiny_network_by_hand() -> None:
    counted = count(Tiny())
    positions = 16 * 32
    macs = positions * (3 * 9 * 8) + positions * (8 * 5)
    assert counted.macs == {"backbone": macs}
    assert (counted.other_macs, counted.disagreement, counted.other_failed) == (macs, 0, None)
    assert parameters_of(Tiny()) == {"backbone": 3 * 9 * 8 + 8 + 8 * 5}
    assert counted.weight_bytes == 4 * (3 * 9 * 8 + 8 + 8 * 5)
    # Each input and output once: image and map of the convolution, both maps of the product.
    assert counted.activation_bytes == 4 * (3 * 32 * 64 + positions * 8 + positions * 8 + positions * 5)
    (relu,) = counted.skipped
    assert (relu.operator, relu.calls) == ("relu", 1)
    assert relu.share == pytest.approx(8 / (8 + 8 + 5))


def test_halves_of_a_weight_count_as_the_weight() -> None:
    """A fused FTFU takes one for either convolution on large maps, and both at once on small ones."""
    unit = FTFU(16, tau=(1.0, 16.0), norm_cfg=dict(type="BN")).eval().fuse()
    trunk = nn.Sequential(nn.Conv2d(3, 16, 1, bias=False), unit)
    small, large = (count(trunk, (side, side)) for side in (8, 128))
    assert 16 * 8 * 8 <= FusedFTFU.SMALL < 16 * 128 * 128
    assert small.weight_bytes == large.weight_bytes == 4 * (3 * 16 + 2 * (16 * 9 + 16))


class Twice(nn.Module):
    """One weight in two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def test_shared_weight_counts_once() -> None:
    assert count(Twice()).weight_bytes == 4 * 9


class Attention(nn.Module):
    """Products that mmengine's counter does not know."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


class Untraceable(nn.Module):
    """What a tracing counter fails on."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise NotImplementedError("no tracing of this operator\nsecond line")
        return F.conv2d(x, x.new_ones(1, 3, 1, 1))


def test_counters_that_disagree() -> None:
    counted = count(Attention())
    assert counted.total_macs == 2 * (32 * 64) ** 2 * 3
    assert counted.other_macs == 0
    assert counted.disagreement == 1


def test_counter_that_fails_on_an_operator_says_so_and_the_other_counts() -> None:
    counted = count(Untraceable())
    assert counted.total_macs == 32 * 64 * 3
    assert counted.other_macs is None
    assert counted.disagreement is None
    assert counted.other_failed == "NotImplementedError: no tracing of this operator"


class Elementwise(TorchDispatchMode):
    """Counts values that element-wise operators compute."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values, self.operations = values, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        output = operator(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.numel() == self.values:
            self.operations += self.values * (2 if operator.overloadpacket.__name__ == "lerp" else 1)
        return output


def test_operations_of_the_closed_form_are_those_that_run() -> None:
    """On its own operators, those on the (C, 1, 1) constants left out."""
    h, offset, z = torch.rand(3, 1, 4, 5, 6).unbind(0)
    tau = torch.rand(4, 1, 1) + 1
    with torch.no_grad(), Elementwise(h.numel()) as watch:
        closed_form_step(h, h + offset, F.softplus(z), tau)
    assert watch.operations == FTFU_OPERATIONS * h.numel()


def test_ftfu_work_of_a_trunk() -> None:
    """Only the states of FTFUs count, and a trunk without units has none."""
    trunk = build_subject(find_subjects(["fvnet_t"])[0])
    states = []
    watched = copy.deepcopy(trunk)
    for module in watched.modules():
        if isinstance(module, FTFU):
            module.register_forward_hook(lambda _, inputs, output: states.append(output.numel()))
    with torch.no_grad():
        watched(torch.rand(1, 3, 64, 64))
    assert ftfu_operations(trunk, (64, 64)) == FTFU_OPERATIONS * sum(states) > 0
    assert ftfu_operations(Tiny(), (64, 64)) == 0


@pytest.mark.parametrize(
    ("unit", "steps"),
    [
        ("FixedTauFTFU", 1),
        ("SharedFTFU", 1),
        ("PooledFTFU", 1),
        (dict(type="RepeatedFTFU", steps=3), 3),
        ("EulerUnit", 0),
        ("CfCUnit", 0),
        ("LeaklessFTFU", 0),
    ],
)
def test_ftfu_work_of_the_ablation_is_that_of_closed_form_steps(unit: str | dict, steps: int) -> None:
    size = dict(arch="n", out_indices=(0,), phases=(((3, 1),),) * 4)
    plain = ftfu_operations(FVNet(**size, unit="FTFU"), (64, 64))
    assert plain == FTFU_OPERATIONS * 32 * 16 * 16
    assert ftfu_operations(FVNet(**size, unit=unit), (64, 64)) == steps * plain


def test_resnet_as_published() -> None:
    """He et al. (2016): 1.8 G. torchvision: 11,689,512 parameters and 1.814 G; the classifier has 513,000 of both."""
    trunk = build_subject(find_subjects(["resnet18"])[0])
    counted = count(trunk, (224, 224))
    assert parameters_of(trunk) == {"backbone": 11_689_512 - 513_000}
    assert counted.total_macs == pytest.approx(1.814e9 - 0.5e6, rel=0.001)
    assert counted.disagreement == 0
