"""What autograd keeps, against what can be told from the formulas of a few layers."""

import torch
from torch import Tensor, nn

from fvnet_mm.bench.training_memory import saved_bytes

FLOAT = 4


def test_a_convolution_keeps_its_input_and_no_weights() -> None:
    layer = nn.Conv2d(3, 8, 3)
    assert saved_bytes(layer, torch.rand(2, 3, 10, 10)) == 2 * 3 * 10 * 10 * FLOAT


def test_a_norm_keeps_its_input_and_statistics_of_the_batch_but_not_its_buffers() -> None:
    layer = nn.BatchNorm2d(5)
    images = torch.rand(2, 5, 7, 7)
    assert saved_bytes(layer, images) == (2 * 5 * 7 * 7 + 2 * 5) * FLOAT
    assert saved_bytes(layer.eval(), images) == 2 * 5 * 7 * 7 * FLOAT


def test_a_storage_counts_once_and_whole() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, second = (x * 1).chunk(2)
            return first.sigmoid() + first.pow(2) + second.pow(2)

    x = torch.rand(4, 6, requires_grad=True)
    assert saved_bytes(Views(), x) == (4 * 6 + 2 * 6) * FLOAT  # the product, and what the sigmoid gave


def test_what_is_gone_at_the_end_counts_at_its_own_address() -> None:
    """A branch that leads to no output gives its memory back, and the next one may get the same."""

    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                (x * 2).pow(2)
            return x.sum()

    x = torch.rand(64, 64, requires_grad=True)
    assert saved_bytes(Branches(), x) == 3 * 64 * 64 * FLOAT
