import numpy as np
import pytest

from fvnet_mm.data.classes import COCO_CLASSES
from fvnet_mm.data.kinds import KINDS, regular_polygon

AXIS = (np.arange(800) + 0.5) / 400 - 1
U, V = np.meshgrid(AXIS, AXIS)


@pytest.mark.parametrize("corners", [3, 4, 5, 8])
def test_regular_polygon_has_the_textbook_area(corners: int):
    area = regular_polygon(corners)(U, V).mean() * 4
    assert area == pytest.approx(corners / 2 * np.sin(2 * np.pi / corners), rel=5e-3)


def test_star_is_ten_triangles():
    inner = 0.5 * np.cos(np.pi / 5)  # radius of the corners that point inwards
    area = regular_polygon(5, 0.5)(U, V).mean() * 4
    assert area == pytest.approx(10 * 0.5 * inner * np.sin(np.pi / 5), rel=5e-3)


def test_kinds_are_named_after_different_coco_classes():
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
    assert set(names) <= set(COCO_CLASSES)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kind_stays_in_its_square_and_in_its_colours(kind):
    wide = np.linspace(-2, 2, 401)
    u, v = np.meshgrid(wide, wide)
    inside = kind.outline(u, v)
    assert not inside[(np.abs(u) > 1.001) | (np.abs(v) > 1.001)].any()
    shown = np.unique(kind.pattern(u, v)[inside])
    assert shown.tolist() == list(range(len(kind.colours)))
