import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from fvnet_mm.report.masks import area, as_rle, encode

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.3


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, zeros first."""
    flat = np.concatenate([[0], mask.ravel(order="F").astype(int), [-1]])
    ends = np.flatnonzero(np.diff(flat))
    return np.diff(ends, prepend=0).tolist()


def test_uncompressed_run_lengths(mask: np.ndarray):
    rle = encode({"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)}, HEIGHT, WIDTH)
    np.testing.assert_array_equal(coco_mask.decode(rle), mask)
    assert area(rle) == mask.sum()


def test_compressed_run_lengths(mask: np.ndarray):
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    as_json = {"size": rle["size"], "counts": rle["counts"].decode()}
    np.testing.assert_array_equal(coco_mask.decode(encode(as_json, HEIGHT, WIDTH)), mask)


def test_polygons_are_joined():
    polygons = [[5, 5, 25, 5, 25, 30, 5, 30], [40, 10, 55, 10, 55, 20]]
    expected = Image.new("L", (WIDTH, HEIGHT))
    for polygon in polygons:
        ImageDraw.Draw(expected).polygon(polygon, fill=1)
    found = coco_mask.decode(encode(polygons, HEIGHT, WIDTH))
    assert (found != np.array(expected)).mean() < 0.04  # the two differ on the edges


def test_polygons_without_three_corners_are_passed_over():
    square = [5, 5, 25, 5, 25, 30, 5, 30]
    with_others = encode([[1, 2, 3, 4], square, [1, 2, 3, 4, 5, 6, 7]], HEIGHT, WIDTH)
    assert with_others == encode([square], HEIGHT, WIDTH)


@pytest.mark.parametrize("nothing", [None, [], [[]], [[1, 2, 3, 4]], [["a"] * 6], {}, {"counts": "x"}, "x", 3])
def test_what_is_no_mask(nothing: object):
    assert encode(nothing, HEIGHT, WIDTH) is None
    assert as_rle(nothing) is None
