import numpy as np
import pytest

from fvnet_mm.data.grounds import EDGE, GROUNDS, draw_grounds


def test_grounds_lie_in_their_order_from_top_to_bottom():
    """In every column; the positions are split by edges and never come again."""
    for seed in range(20):
        canvas, position = draw_grounds(np.random.default_rng(seed), ("sky", "mountain", "sea"), 120, 160)
        assert (canvas.shape, canvas.dtype, position.shape) == ((120, 160, 3), np.float32, (120, 160))
        for column in position.T:
            assert (np.diff(column[column >= 0]) >= 0).all()
        assert set(np.unique(position)) == {-1, 0, 1, 2}


def test_edges_are_as_wide_as_said():
    _, position = draw_grounds(np.random.default_rng(0), ("wall", "floor"), 90, 70)
    assert (np.abs((position == -1).sum(0) - EDGE) <= 1).all()


@pytest.mark.parametrize("name", GROUNDS)
def test_picture_has_the_grounds_colour(name: str):
    means = [draw_grounds(np.random.default_rng(seed), (name,), 80, 80)[0].mean((0, 1)) for seed in range(12)]
    np.testing.assert_allclose(np.mean(means, 0), GROUNDS[name].colour, atol=25)
