import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fvnet_mm.backbones import FTFU, FVNet, closed_form_step
from fvnet_mm.backbones.mpfb import UNITS
from fvnet_mm.bench.complexity import count_macs, count_parameters

BN = {"type": "BN"}
SMALL = {"channels": (8, 8, 8, 8), "depths": (1, 1, 1, 1)}
HALF = {"SiLUUnit", "SharedFTFU"}
"""Units with one depthwise convolution."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def unit(name: str, **options: object) -> nn.Module:
    """A unit in eval mode that has seen some statistics."""
    net = UNITS[name](6, 5, tau=(0.5, 8.0), norm_cfg=BN, **options)
    net(torch.randn(4, 6, 16, 16))
    return net.eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 6, 9, 7)


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_trains_compiles_and_fuses_in_a_trunk(name):
    torch.compiler.reset()  # or the trunks of other units count as recompilations of one
    net = FVNet(SMALL, unit={"type": name})
    outputs = torch.compile(net, fullgraph=True, backend="eager")(torch.randn(2, 3, 64, 64))
    sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in outputs).backward()
    for parameter_name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.any(), parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for y, z in zip(net.eval()(image), net.fuse()(image), strict=True):
            torch.testing.assert_close(y, z, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", UNITS)
def test_cost_is_that_of_an_ftfu(name):
    this, ftfu = unit(name), unit("FTFU")
    assert (count_parameters(this) > 0.9 * count_parameters(ftfu)) == (name not in HALF)
    assert count_parameters(this) <= count_parameters(ftfu) + 2 * 6
    times = this.steps if name == "RepeatedFTFU" else 1
    share = 25 / 34 if name in HALF else times  # a kernel of 5, or that and one of 3
    assert count_macs(this, (1, 6, 8, 8)) == share * count_macs(ftfu, (1, 6, 8, 8))


@pytest.mark.parametrize(
    "name",
    [name for name, kind in UNITS.items() if issubclass(kind, FTFU) and name not in ("RepeatedFTFU", "EulerUnit")],
)
@torch.no_grad()
def test_effective_time_constant_is_the_rate_of_approach(name, x):
    net = unit(name)
    for key, parameter in net.named_parameters():
        if key.endswith("_by_mean"):
            parameter.fill_(-2.0)
    y, shrinks = net(x), torch.exp(-net.dt / net.effective_time_constant(x))
    if name == "CfCUnit":  # its gate says how near it comes to the attractor
        end = x + net.attractor(x)
    else:
        net.dt = 1e6
        end = net(x)
    torch.testing.assert_close(y - end, shrinks * (x - end), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_simple_limit_is_the_closed_form_step(x):
    net = unit("SiLUUnit")
    v = net.attractor(x)
    torch.testing.assert_close(net(x), closed_form_step(x, x + v, F.softplus(v), math.inf, 1.0))


@torch.no_grad()
def test_without_leak(x):
    net = unit("LeaklessFTFU")
    expected = closed_form_step(x, x + net.attractor(x), F.softplus(net.conductance(x)), math.inf, 1.0)
    torch.testing.assert_close(net(x), expected)


@torch.no_grad()
def test_gate_of_a_gru_is_the_bounded_unit_without_leak(x):
    net, bounded = unit("GatedUnit"), unit("BoundedFTFU")
    expected = closed_form_step(x, net.attractor(x).tanh(), F.softplus(net.conductance(x)), math.inf, 1.0)
    torch.testing.assert_close(net(x), expected)
    bounded.load_state_dict(net.state_dict(), strict=False)
    bounded.log_tau.fill_(20.0)
    torch.testing.assert_close(net(x), bounded(x))


@torch.no_grad()
def test_sigmoid_approximation_is_a_leakless_step_with_shifted_conductance(x):
    net = unit("CfCUnit")
    conductance = F.softplus(net.conductance(x) + 1 / net.tau)
    torch.testing.assert_close(net(x), closed_form_step(x, x + net.attractor(x), conductance, math.inf, 1.0))


@torch.no_grad()
def test_explicit_euler_is_of_first_order(x):
    net = unit("EulerUnit")
    exact = FTFU.forward(net, x)
    errors = []
    for net.steps in (64, 128):
        errors.append(float((net(x) - exact).norm() / exact.norm()))
    assert errors[0] < 0.05
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


@torch.no_grad()
def test_one_euler_step(x):
    net = unit("EulerUnit", steps=1, dt=0.25)
    a, f = x + net.attractor(x), net.conductances(x)
    torch.testing.assert_close(net(x), x + 0.25 * (f * a - (1 / net.tau + f) * x))


@torch.no_grad()
def test_repeated_steps_share_weights(x):
    net = unit("RepeatedFTFU", steps=3)
    expected = x
    for _ in range(3):
        expected = FTFU.forward(net, expected)
    assert torch.equal(net(x), expected)


@torch.no_grad()
@pytest.mark.parametrize(("name", "bound"), [("FreeFTFU", nn.Identity()), ("BoundedFTFU", nn.Tanh())])
def test_attractor_without_the_state(name, bound, x):
    net = unit(name)
    a, f = bound(net.attractor(x)), F.softplus(net.conductance(x))
    torch.testing.assert_close(net(x), closed_form_step(x, a, f, net.tau))


@torch.no_grad()
def test_conductance_of_the_attractor(x):
    net = unit("CascadedFTFU")
    a = x + net.attractor(x)
    torch.testing.assert_close(net(x), closed_form_step(x, a, F.softplus(net.conductance(a)), net.tau))
    middle = torch.zeros(1, 6, 15, 15)
    middle[..., 7, 7] = 1
    moved = (net(middle) - net(torch.zeros_like(middle))).abs().sum((0, 1))
    assert (moved.sum(1) > 0).nonzero().flatten().tolist() == list(range(4, 11))  # 5 and 3 wide, one after the other


@torch.no_grad()
def test_pooled_term(x):
    net = unit("PooledFTFU")
    a, f = x + net.attractor(x), F.softplus(net.conductance(x))
    torch.testing.assert_close(net(x), closed_form_step(x, a, f, net.tau))
    net.offset_by_mean.fill_(0.5)
    net.conductance_by_mean.fill_(-2.0)
    mean = x.mean((2, 3), keepdim=True)
    conductance = F.softplus(net.conductance(x) - 2 * mean)
    expected = closed_form_step(x, x + net.attractor(x) + 0.5 * mean, conductance, net.tau)
    torch.testing.assert_close(net(x), expected)


@torch.no_grad()
def test_one_convolution_for_both(x):
    net = unit("SharedFTFU")
    net.conductance.weight.fill_(0.5)
    net.conductance.bias.fill_(-1.0)
    v = net.attractor(x)
    torch.testing.assert_close(net(x), closed_form_step(x, x + v, F.softplus(0.5 * v - 1), net.tau))
    torch.testing.assert_close(net.conductances(x), F.softplus(0.5 * v - 1))
    with pytest.raises(TypeError, match="conductance_kernel_size"):
        unit("SharedFTFU", conductance_kernel_size=5)


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_runs_under_autocast(name, x):
    net = unit(name)
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(x)
    assert (rough - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_gate_of_a_gru(x):
    net = unit("GatedUnit")
    u = torch.sigmoid(net.conductance(x))
    torch.testing.assert_close(net(x), (1 - u) * x + u * net.attractor(x).tanh())


def test_time_constants():
    assert not unit("FixedTauFTFU").log_tau.requires_grad
    shared = unit("SharedTauFTFU")
    assert shared.log_tau.shape == (1,)
    assert shared.tau.item() == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["EulerUnit", "RepeatedFTFU"])
@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_bad_number_of_steps(name, steps):
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
        unit(name, steps=steps)
