import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fvnet_mm.backbones import closed_form_step
from fvnet_mm.backbones.fluid_step import fluid_step

SHAPE = (2, 3, 4, 5)


def inputs(dtype: torch.dtype = torch.float64, leak: tuple[int, ...] = (3, 1, 1)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, offset, z = (torch.randn(SHAPE, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3))
    return [t.requires_grad_() for t in (x, offset, z, torch.rand(leak, generator=generator, dtype=torch.float64))]


def reference(x: torch.Tensor, offset: torch.Tensor, z: torch.Tensor, leak: torch.Tensor, dt: float) -> torch.Tensor:
    return closed_form_step(x, x + offset, F.softplus(z), 1 / leak, dt)


@given(
    x=st.floats(-100, 100),
    offset=st.floats(-100, 100),
    z=st.floats(-200, 200),
    leak=st.floats(1e-3, 100),
    dt=st.floats(1e-3, 20),
)
def test_is_the_closed_form_step_and_its_gradient(x, offset, z, leak, dt):
    results = []
    for step in (fluid_step, reference):
        tensors = [torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (x, offset, z)]
        tensors = [t.requires_grad_() for t in (*tensors, torch.full((1, 1, 1), leak, dtype=torch.float64))]
        y = step(*tensors, dt)
        results.append([y, *torch.autograd.grad(y.sum(), tensors)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * (1 + abs(x) + abs(offset)))


@pytest.mark.parametrize("dt", [0.5, 1.0])
@pytest.mark.parametrize("leak", [(3, 1, 1), (1, 1, 1)])
def test_gradients(leak, dt):
    assert torch.autograd.gradcheck(lambda *tensors: fluid_step(*tensors, dt), inputs(leak=leak))


@pytest.mark.parametrize("wanted", range(4))
def test_the_gradient_of_one_input_alone_overwrites_none(wanted):
    """As in a trunk that is frozen but for its time constants."""
    tensors = [t.detach().requires_grad_(number == wanted) for number, t in enumerate(inputs())]
    before = [t.detach().clone() for t in tensors]
    gradients = [torch.autograd.grad(step(*tensors, 0.7).sum(), tensors[wanted]) for step in (fluid_step, reference)]
    torch.testing.assert_close(*gradients)
    assert all(map(torch.equal, tensors, before))


def test_without_gradient_it_is_the_same_and_overwrites_only_what_it_may():
    tensors = inputs(torch.float32)
    expected = fluid_step(*tensors, 1.0)
    x, offset, z, leak = (t.detach().clone() for t in tensors)
    with torch.no_grad():
        actual = fluid_step(x, offset, z, leak, 1.0)
    torch.testing.assert_close(actual, expected.detach())
    assert torch.equal(x, tensors[0])
    assert torch.equal(leak, tensors[3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_keeps_its_inputs_and_nothing_else(dtype):
    tensors = inputs(dtype)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = fluid_step(*tensors, 1.0)
    assert y.dtype == dtype
    assert [t.data_ptr() for t in kept] == [t.data_ptr() for t in tensors]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_rounded(dtype):
    tensors = inputs(dtype)
    y = fluid_step(*tensors, 1.0)
    assert torch.equal(y, fluid_step(*(t.float() for t in tensors), 1.0).to(dtype))
    gradients = torch.autograd.grad(y.float().sum(), tensors)
    assert [g.dtype for g in gradients] == [t.dtype for t in tensors]


def test_finite_where_exponents_are_not():
    x = torch.tensor([1e4, -1e4]).view(1, 1, 1, 2)
    for z in (-1e4, -104.0, 104.0, 1e4):
        tensors = [t.requires_grad_() for t in (x.clone(), -2 * x, torch.full_like(x, z), torch.full((1, 1, 1), 1e-4))]
        y = fluid_step(*tensors, 1.0)
        assert all(torch.isfinite(t).all() for t in (y, *torch.autograd.grad(y.sum(), tensors)))
