import colorsys

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageColor

from fvnet_mm.report.palette import COLOURS, class_colours


def cielab(colours: tuple[str, ...]) -> np.ndarray:
    """(N, 3), by LittleCMS."""
    pixels = Image.fromarray(np.array([[ImageColor.getrgb(colour) for colour in colours]], np.uint8))
    profiles = (ImageCms.createProfile(space) for space in ("sRGB", "LAB"))
    lab = np.array(ImageCms.applyTransform(pixels, ImageCms.buildTransform(*profiles, "RGB", "LAB")), float)[0]
    lab[:, 0] *= 100 / 255
    lab[:, 1:] = (lab[:, 1:] + 128) % 256 - 128
    return lab


def test_colours_of_many_classes_stay_apart():
    lab = cielab(class_colours(150))
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    assert distances[~np.eye(150, dtype=bool)].min() > 12


def test_no_class_is_grey():
    saturation = [colorsys.rgb_to_hls(*np.array(ImageColor.getrgb(colour)) / 255)[2] for colour in class_colours(150)]
    assert min(saturation) > 0.1


@pytest.mark.parametrize("count", [0, 1, 5, 11, 12, 40, 254])
def test_a_class_keeps_its_colour(count: int):
    assert class_colours(count) == class_colours(255)[:count]
    assert class_colours(11) == COLOURS[:11]
