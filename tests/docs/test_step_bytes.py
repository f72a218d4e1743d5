import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def step_bytes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("step_bytes")


def test_the_page_is_what_the_code_moves(script: Callable[..., str]) -> None:
    assert script("step_bytes", "--check") == ""


@pytest.mark.parametrize(
    ("call", "maps"),
    [
        (lambda x, y: x + y, 3),
        (lambda x, y: x.add_(y), 3),
        (lambda x, y: x * x, 2),
        (lambda x, y: torch.exp(x, out=y), 2),
        (lambda x, y: x.view(-1)[3:].detach(), 0),
        (lambda x, y: torch.empty_like(x), 0),
        (lambda x, y: x[:1, :1].expand_as(x).clone(), 1),
        (lambda x, y: torch.lerp(x, y, x), 3),
        (lambda x, y: torch.cat((x, y)), 4),
    ],
)
def test_each_tensor_counts_once_for_each_operator(step_bytes: ModuleType, call: Callable, maps: int) -> None:
    x, y = torch.rand(16, 512), torch.rand(16, 512)
    with step_bytes.Traffic() as traffic:
        call(x, y)
    assert traffic.bytes // step_bytes.moved(x) == maps


def test_a_backward_pass_counts(step_bytes: ModuleType) -> None:
    """Four operators forward; backward a product with exp's output, which is kept, and a sum for the leak."""
    counts = step_bytes.traffic(lambda x, offset, z, leak: x.exp() + offset + z + leak, torch.float32)
    forward, backward = 2 + 3 + 3 + 2, 3 + 1
    assert [round(count) for count in counts] == [4 * maps for maps in (forward, forward + backward, 1)]
