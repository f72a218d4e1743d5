import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fvnet_mm.engine.batch_augment import (
    FILL,
    IGNORED,
    BatchAugmentation,
    augment_images,
    augment_labels,
    draw_augmentation,
)

RNG = np.random.default_rng(0)


def batch(height: int, width: int, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(RNG.integers(0, 256, (count, 3, height, width), np.uint8))
    return images, torch.from_numpy(RNG.integers(0, 19, (count, height, width), np.uint8))


def same(count: int, flipped: bool, zoom: float | None, shift: tuple[float, float] = (0.0, 0.0)) -> BatchAugmentation:
    flags = torch.full((count,), flipped)
    if zoom is None:
        return BatchAugmentation(flags)
    return BatchAugmentation(flags, torch.full((count,), zoom), torch.tensor([shift] * count))


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(2, 40), st.lists(st.booleans(), min_size=3, max_size=3))
def test_flip_is_numpys(height: int, width: int, flipped: list[bool]):
    images, labels = batch(height, width)
    augmentation = BatchAugmentation(torch.tensor(flipped))
    for before, after in (
        (images, augment_images(images, augmentation)),
        (labels, augment_labels(labels, augmentation)),
    ):
        for one, result, flag in zip(before.numpy(), after.numpy(), flipped, strict=True):
            np.testing.assert_array_equal(result, one[..., ::-1] if flag else one)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 40), st.integers(2, 40), st.booleans(), st.floats(-1, 1), st.floats(-1, 1))
def test_zoom_of_one_changes_nothing(height: int, width: int, flipped: bool, x: float, y: float):
    images, labels = batch(height, width)
    augmentation = same(3, flipped, 1.0, (x, y))
    plain = same(3, flipped, None)
    np.testing.assert_array_equal(augment_images(images, augmentation), augment_images(images, plain))
    np.testing.assert_array_equal(augment_labels(labels, augmentation), augment_labels(labels, plain))


@pytest.mark.parametrize(
    ("shift", "rows", "columns"), [((-1.0, -1.0), (0, 8), (0, 10)), ((1.0, -1.0), (0, 8), (10, 20))]
)
def test_zoom_of_two_cuts_out_a_quarter(shift: tuple[float, float], rows: tuple[int, int], columns: tuple[int, int]):
    _, labels = batch(16, 20)
    taken = augment_labels(labels, same(3, False, 2.0, shift))
    window = labels[:, slice(*rows), slice(*columns)]
    np.testing.assert_array_equal(taken, window.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_scaled_images_are_interpolated():
    images = torch.tensor([0, 100], dtype=torch.uint8).expand(1, 3, 2, 2)
    row = augment_images(images, same(1, False, 2.0))[0, 0, 0]
    assert row.tolist() == [25, 75]  # a quarter of the way from the one pixel's centre to the other's, and three


def test_what_is_outside_is_ignored_and_grey():
    images, labels = batch(16, 16)
    augmentation = same(3, False, 0.5, (-1.0, -1.0))
    smaller, label_map = augment_images(images, augmentation), augment_labels(labels, augmentation)
    # The image lies at the window's end that the shift says; outside of it nothing is known.
    assert (label_map[:, :8, :8] != IGNORED).all()
    assert (label_map == IGNORED).sum() == 3 * (16 * 16 - 8 * 8)
    empty = (label_map == IGNORED)[:, None].expand_as(smaller)
    outside = smaller[empty].float()
    assert ((outside - FILL).abs() < 1).float().mean() > 0.9  # all but a border that is interpolated


@settings(deadline=None, max_examples=25)
@given(st.floats(0.5, 2.0), st.booleans(), st.floats(-1, 1), st.floats(-1, 1))
def test_images_and_labels_move_together(zoom: float, flipped: bool, x: float, y: float):
    """A bright disc in the image stays where its label is."""
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 25) ** 2 + (columns - 40) ** 2 < 15**2
    image = torch.from_numpy(np.where(disc, 250, 10).astype(np.uint8)).expand(1, 3, 64, 64)
    augmentation = same(1, flipped, zoom, (x, y))
    labels = augment_labels(torch.from_numpy(disc.astype(np.uint8))[None], augmentation)[0]
    bright = augment_images(image, augmentation)[0, 0]
    known = labels != IGNORED
    agree = ((bright > 180) == (labels == 1)) | ((bright > 60) & (bright < 200))
    assert agree[known].float().mean() > 0.98


def test_draws_repeat_and_keep_to_their_bounds():
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(draw_augmentation(500, 0.3, (0.5, 2.0)))
    for one, other in zip(*draws, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    flipped, zoom, shift = draws[0]
    assert 0.2 < flipped.float().mean() < 0.4
    assert 0.5 <= zoom.min() < 0.55
    assert zoom.mean() == pytest.approx(1.25, abs=0.07)
    assert 1.95 < zoom.max() <= 2.0
    assert -1 <= shift.min() < -0.95
    assert 0.95 < shift.max() <= 1
    assert draw_augmentation(5, 0.5, None).zoom is None
