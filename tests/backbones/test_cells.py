import pytest
import torch
import torch.nn.functional as F

from fvnet_mm.backbones.cells import add_to_cells, cell_means


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("size", [(8, 12), (9, 12), (8, 3)])
def test_means_and_their_gradient_are_those_of_pooling(size, side):
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = F.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False)
    actual = cell_means(x, side)
    torch.testing.assert_close(actual, expected)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, upstream)[0] for y in (actual, expected)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_means_in_half_precision_do_not_overflow(dtype):
    x = torch.full((1, 1, 8, 8), 3e4).to(dtype)
    torch.testing.assert_close(cell_means(x, 4), x[..., :2, :2])


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("size", [(8, 12), (9, 12), (8, 3)])
def test_every_pixel_moves_with_its_cell(size, side):
    x = torch.randn(2, 3, *size)
    change = torch.randn_like(cell_means(x, side))
    moved = add_to_cells(x, change, side) - x
    for i in range(size[0]):
        for j in range(size[1]):
            torch.testing.assert_close(moved[..., i, j], change[..., i // side, j // side], rtol=1e-5, atol=1e-5)
