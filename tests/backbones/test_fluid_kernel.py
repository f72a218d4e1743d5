"""The kernels, by Triton's interpreter on a CPU and compiled on a GPU, against the closed form in float64."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fvnet_mm.backbones.ftfu import FTFU, closed_form_step

ROOT = Path(__file__).parents[2]
SHAPES = ((2, 5, 7, 9), (1, 96, 4, 4), (2, 20, 33, 31), (1, 1, 1, 1), (2, 70, 1, 3))
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def errors(device: str) -> dict[str, float]:
    """The greatest relative error of outputs and gradients over sizes, layouts, and leaks of channels or of all."""
    from fvnet_mm.backbones.fluid_kernel import kernel_step

    found: dict[str, float] = {}
    for shape, (name, memory), shared in product(SHAPES, FORMATS.items(), (False, True)):
        generator = torch.Generator().manual_seed(0)
        maps = [torch.randn(shape, generator=generator) * scale for scale in (1, 1, 4)]
        leak = torch.rand(1 if shared else shape[1], 1, 1, generator=generator) + 0.05
        upstream = torch.randn(shape, generator=generator)

        def results(step, dtype, device, maps=maps, leak=leak, upstream=upstream, memory=memory):
            operands = [each.to(device, dtype).clone(memory_format=memory).requires_grad_() for each in maps]
            rates = leak.to(device, dtype).clone().requires_grad_()
            output = step(*operands, rates, 0.7)
            output.backward(upstream.to(device, dtype))
            return [output.detach(), *(each.grad for each in (*operands, rates))]

        def closed_form(x, offset, z, rates, dt):
            return closed_form_step(x, x + offset, F.softplus(z), 1 / rates, dt)

        expected = results(closed_form, torch.float64, "cpu")
        for what, value, exact in zip(
            ("y", "x", "offset", "z", "leak"), results(kernel_step, torch.float32, device), expected, strict=True
        ):
            # Of a leak that all channels share the gradient is a sum in which much cancels.
            scale = exact.norm() if what != "leak" else exact.norm() + 0.01 * upstream.norm()
            error = float((value.cpu().double() - exact).norm() / scale)
            found[f"{what} {name}"] = max(found.get(f"{what} {name}", 0.0), error)
    return found


@needs_triton
def test_interpreted_kernels_are_the_closed_form() -> None:
    """In a process of its own: Triton decides at its import whether it interprets."""
    code = f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "import test_fluid_kernel\nprint(json.dumps(test_fluid_kernel.errors('cpu')))"
    environment = dict(os.environ, TRITON_INTERPRET="1", PYTHONPATH=str(ROOT))
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert len(found) == 10
    assert max(found.values()) < 1e-5, found


@pytest.mark.gpu
@needs_triton
def test_compiled_kernels_are_the_closed_form() -> None:
    found = errors("cuda")
    assert max(found.values()) < 1e-5, found


@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_unit_under_autocast(dtype: torch.dtype) -> None:
    unit = FTFU(32, tau=(1.0, 16.0), norm_cfg=dict(type="BN")).cuda()
    x = torch.randn(2, 32, 20, 24, device="cuda", requires_grad=True)
    with torch.autocast("cuda", dtype):
        y = unit(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, unit(x), rtol=0.05, atol=0.05)
    assert all(torch.isfinite(each.grad).all() for each in (x, *unit.parameters()))


def test_maps_that_the_kernels_leave_alone() -> None:
    pytest.importorskip("triton")
    from fvnet_mm.backbones.fluid_kernel import serves

    image = torch.zeros(2, 3, 4, 4)
    assert serves(image, image.half(), image.bfloat16())
    assert not serves(image, image.double())
    assert not serves(image[:0])
    assert not serves(image[0])
