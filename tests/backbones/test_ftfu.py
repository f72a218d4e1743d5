import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fvnet_mm.backbones import FTFU, closed_form_step
from fvnet_mm.backbones.ftfu import FusedFTFU, SiLUUnit

BN = {"type": "BN"}
TAU = (1.0, 16.0)
values = st.floats(-100, 100)
conductances = st.one_of(st.just(0.0), st.floats(1e-6, 50))
time_constants = st.one_of(st.just(math.inf), st.floats(0.05, 1e4))
steps = st.floats(0, 20)


def double(*numbers: float) -> list[torch.Tensor]:
    return [torch.tensor(number, dtype=torch.float64) for number in numbers]


def close(actual: torch.Tensor, expected: torch.Tensor | float, tolerance: float = 1e-12, scale: float = 1.0) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * max(scale, 1e-300))


@settings(max_examples=60, deadline=None)
@given(h=values, a=values, f=st.floats(0, 20), tau=st.floats(0.1, 100), dt=st.floats(0.01, 5))
def test_agrees_with_an_ode_solver(h, a, f, tau, dt):
    rate = 1 / tau + f
    solution = solve_ivp(
        lambda _, y: -rate * y + f * a,
        (0, dt),
        [h],
        method="DOP853",
        rtol=1e-10,
        atol=1e-10,
    )
    step = closed_form_step(*double(h, a, f, tau), dt)
    assert step.item() == pytest.approx(solution.y[0, -1], rel=1e-8, abs=1e-8 * max(abs(h), abs(a), 1))


@given(h=values, a=values, f=conductances, tau=time_constants, dt=steps)
def test_two_half_steps_are_one(h, a, f, tau, dt):
    h, a, f, tau = double(h, a, f, tau)
    halfway = closed_form_step(h, a, f, tau, dt / 2)
    close(
        closed_form_step(halfway, a, f, tau, dt / 2),
        closed_form_step(h, a, f, tau, dt),
        scale=max(abs(h), abs(a)),
    )


@given(h=values, a=values, f=conductances, tau=time_constants)
def test_step_of_zero_is_the_identity(h, a, f, tau):
    h, a, f, tau = double(h, a, f, tau)
    assert closed_form_step(h, a, f, tau, 0.0) == h
    assert closed_form_step(h, a, f, tau, torch.zeros(())) == h


@pytest.mark.parametrize("dt", [1e12, 1e300, math.inf])
@given(h=values, a=values, f=st.floats(1e-6, 50), tau=time_constants)
def test_long_step_reaches_equilibrium(dt, h, a, f, tau):
    equilibrium = f * a / (1 / tau + f)
    for step in (dt, torch.tensor(dt, dtype=torch.float64)):
        close(closed_form_step(*double(h, a, f, tau), step), equilibrium, scale=max(abs(h), abs(a)))


@given(h=values, a=values, f=conductances, tau=time_constants, dt=st.one_of(steps, st.just(math.inf)))
def test_never_exceeds_state_and_attractor(h, a, f, tau, dt):
    step = closed_form_step(*double(h, a, f, tau), dt)
    assert step.abs() <= max(abs(h), abs(a)) * (1 + 1e-14)


@given(h=values, v=st.floats(-1000, 1000))
def test_limit_without_leak_is_silu(h, v):
    """1/tau = 0, dt = 1, a = h + v, f = softplus(v): exp(-softplus(v)) = sigmoid(-v), so h + v * sigmoid(v)."""
    h, v = double(h, v)
    step = closed_form_step(h, h + v, F.softplus(v), math.inf, 1.0)
    close(step, h + v * (1 - torch.sigmoid(-v)), scale=max(abs(h), abs(v)))
    close(step, h + F.silu(v), scale=max(abs(h), abs(v)))


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    h, a, z, log_tau, log_dt = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in [(2, 3, 4, 5)] * 3 + [(3, 1, 1)] * 2
    )

    def step(h, a, z, log_tau, log_dt):
        return closed_form_step(h, a, F.softplus(z), log_tau.exp(), log_dt.exp())

    assert torch.autograd.gradcheck(step, (h, a, z, log_tau, log_dt))


EDGES = [
    (f, tau, dt)
    for f in (0.0, 1e-40, 1.0, 1e30)
    for tau in (1e-30, 1.0, 1e30, math.inf)
    for dt in (0.0, 1.0, 1e30, math.inf)
    if not (f < 1e-38 and tau == dt == math.inf)  # for ever at no speed has no limit
]


@pytest.mark.parametrize(("f", "tau", "dt"), EDGES)
def test_gradients_are_finite_at_the_edges(f, tau, dt):
    for times in ((tau, dt), (torch.tensor(tau), torch.tensor(dt))):
        inputs = [torch.tensor([x], requires_grad=True) for x in (1e4, -1e4, f)]
        closed_form_step(*inputs, *times).sum().backward()
        assert all(torch.isfinite(x.grad).all() for x in inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@given(h=st.floats(-1e4, 1e4), a=st.floats(-1e4, 1e4), f=st.floats(0, 1e4), dt=st.floats(0, 1e4))
def test_half_precision_is_float32_rounded(dtype, h, a, f, dt):
    """The exponent in half precision would be off by up to e: half has 11 bits, dt * lam needs all of them."""
    h, a, f = (torch.tensor(x).to(dtype) for x in (h, a, f))
    step = closed_form_step(h, a, f, 2.0, dt)
    assert step.dtype == dtype
    assert step == closed_form_step(h.float(), a.float(), f.float(), 2.0, dt).to(dtype)


def test_broadcasts_and_takes_tensors_of_time():
    h, a = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64).unbind()
    f = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    tau = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64).view(3, 1, 1)
    dt = torch.tensor([0.1, 3.0], dtype=torch.float64).view(2, 1, 1, 1)
    step = closed_form_step(h, a, f, tau, dt)
    for n in range(2):
        for c in range(3):
            one = closed_form_step(h[n, c], a[n, c], f[n, c], tau[c].item(), dt[n].item())
            close(step[n, c], one)


@pytest.mark.parametrize(
    ("tau", "dt", "named"),
    [(0.0, 1.0, "tau"), (-1.0, 1.0, "tau"), (1.0, -0.5, "dt"), (1.0, math.nan, "dt"), (math.nan, 1.0, "tau")],
)
def test_numbers_out_of_range(tau, dt, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        closed_form_step(*torch.ones(3, 1), tau, dt)


@pytest.fixture
def unit() -> FTFU:
    torch.manual_seed(0)
    unit = FTFU(6, 5, tau=(0.5, 16.0), norm_cfg={"type": "BN"})
    unit(torch.randn(4, 6, 16, 16))
    return unit.eval()


def test_unit_is_the_equation(unit):
    x = torch.randn(2, 6, 9, 7)
    solution = []
    with torch.no_grad():
        y = unit(x)
        attractor = x + unit.attractor(x)
        conductance = torch.nn.functional.softplus(unit.conductance(x))
    tau = np.geomspace(0.5, 16, 6)
    for n, c, i, j in [(0, 0, 0, 0), (1, 3, 8, 6), (0, 5, 4, 3)]:
        f, a = conductance[n, c, i, j].double().item(), attractor[n, c, i, j].double().item()
        ode = solve_ivp(
            lambda _, h, f=f, a=a, c=c: -(1 / tau[c] + f) * h + f * a,
            (0, 1),
            [x[n, c, i, j].item()],
            rtol=1e-10,
            atol=1e-12,
        )
        solution.append((y[n, c, i, j].item(), ode.y[0, -1]))
    actual, expected = zip(*solution, strict=True)
    assert actual == pytest.approx(expected, abs=1e-5)


def test_unit_without_leak_is_the_limit_of_the_equation():
    unit = SiLUUnit(6, 5, tau=(1.0, 16.0), norm_cfg=BN).double()
    unit(torch.randn(4, 6, 16, 16, dtype=torch.float64))
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        offset = unit.eval().attractor(x)
        close(unit(x), closed_form_step(x, x + offset, F.softplus(offset), math.inf, 1.0))


def test_effective_time_constant_is_the_rate_of_approach(unit):
    """The distance to equilibrium shrinks by exp(-dt / effective time constant)."""
    x = torch.randn(2, 6, 9, 7)
    with torch.no_grad():
        effective = unit.effective_time_constant(x)
        f, attractor = unit.conductances(x), x + unit.attractor(x)
        equilibrium = closed_form_step(x, attractor, f, unit.tau, math.inf)
        shrunk = (closed_form_step(x, attractor, f, unit.tau, 0.25) - equilibrium) / (x - equilibrium)
    torch.testing.assert_close(shrunk, torch.exp(-0.25 / effective), rtol=1e-3, atol=1e-3)
    assert (effective <= unit.tau).all()


def test_time_constants_form_a_learnable_ladder(unit):
    torch.testing.assert_close(unit.tau.flatten(), torch.tensor(np.geomspace(0.5, 16, 6), dtype=torch.float32))
    assert unit.log_tau.requires_grad
    assert unit.log_tau.ndim == 1


@pytest.mark.parametrize("tau", [(0.0, 1.0), (4.0, 2.0), (1.0, math.inf), (1.0,)])
def test_bad_ladder(tau):
    with pytest.raises(ValueError, match="tau must be two finite numbers above 0"):
        FTFU(4, tau=tau, norm_cfg={"type": "BN"})


@pytest.mark.parametrize("dt", [0.0, -1.0, math.inf, math.nan])
def test_bad_step(dt):
    with pytest.raises(ValueError, match="dt must be a finite number above 0"):
        FTFU(4, tau=TAU, dt=dt, norm_cfg={"type": "BN"})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_unit_is_finite_under_autocast(unit, dtype, training):
    unit.train(training)
    x = (torch.rand(2, 6, 12, 12) * 2 - 1).mul(1e4).requires_grad_()
    with torch.autocast("cpu", dtype):
        y = unit(x)
    y.float().pow(2).mean().sqrt().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in (x, *unit.parameters()))


def test_conductance_is_float32_under_autocast(unit):
    with torch.autocast("cpu", torch.bfloat16):
        assert unit.conductances(torch.randn(1, 6, 8, 8)).dtype == torch.float32


@pytest.mark.parametrize(("kernels", "fused_type"), [((3, 3), FusedFTFU), ((5, 5), FusedFTFU), ((5, 3), FTFU)])
@pytest.mark.parametrize("size", [(2, 8, 9, 7), (1, 8, 100, 90)], ids=["small", "large"])
def test_fused_unit_is_the_same_function(kernels, fused_type, size):
    unit = FTFU(8, kernels[0], conductance_kernel_size=kernels[1], tau=TAU, dt=0.7, norm_cfg=BN).double().eval()
    with torch.no_grad():
        for norm in (unit.attractor.norm, unit.conductance.norm):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                tensor.normal_()
            norm.running_var.uniform_(0.1, 3)
        fused = unit.fuse()
        x = torch.randn(size, dtype=torch.float64)
        before = x.clone()
        torch.testing.assert_close(fused(x), unit(x))
    assert type(fused) is fused_type
    assert torch.equal(x, before)


def test_fused_unit_convolves_a_small_map_once():
    unit = FTFU(8, tau=TAU, norm_cfg=BN).eval().fuse()
    calls = []
    for size in (16, 128):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            unit(torch.randn(1, 8, size, size))
        calls.append(counter.get_total_flops() / size**2)
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as passes:
            unit(torch.randn(1, 8, size, size))
        calls.append(sum(event.name == "aten::convolution" for event in passes.events()))
    assert calls == [2 * 2 * 9 * 8, 1, 2 * 2 * 9 * 8, 2]


def test_a_unit_whose_norm_does_not_fold_stays():
    unit = FTFU(8, tau=TAU, norm_cfg={"type": "GN", "num_groups": 2}).eval()
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(unit.fuse()(x), unit(x))
