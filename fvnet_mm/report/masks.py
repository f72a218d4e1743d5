"""Instance masks: COCO's encodings of them, and how they are laid over a picture."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from PIL import Image, ImageChops, ImageFilter
from pycocotools import mask as coco_mask

from fvnet_mm.data.coco_document import is_number

_FILL = 0.45
"""Opacity of a mask's inside; its outline, inside the edge, is solid."""
_OUTLINE = 5  # size of the filter: an outline of two pixels


class Rle(TypedDict):
    """Compressed run lengths: ``size`` is (height, width)."""

    size: list[int]
    counts: str | bytes


def encode(segmentation: object, height: int, width: int) -> Rle | None:
    """Encode an annotation's ``segmentation``: polygons, or run lengths as numbers or as text.

    Returns:
        The run lengths, or None where there is no mask to train on: mmdet, too, passes over a polygon without
        three corners and over what is in neither form.
    """
    if isinstance(segmentation, dict):
        numbers = isinstance(segmentation.get("counts"), list)
        return coco_mask.frPyObjects(segmentation, height, width) if numbers else as_rle(segmentation)
    if not isinstance(segmentation, list):
        return None
    polygons = [polygon for polygon in segmentation if _is_polygon(polygon)]
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else None


def as_rle(value: object) -> Rle | None:
    """Return a JSON value that has the form of compressed run lengths, None for any other."""
    is_rle = isinstance(value, dict) and isinstance(value.get("counts"), str) and isinstance(value.get("size"), list)
    return value if is_rle else None


def lay_over(panel: Image.Image, rle: Rle, colour: str) -> None:
    """Draw a mask, scaled to the panel, with a translucent inside and an outline.

    Raises:
        ValueError: the run lengths are none.
    """
    inside = Image.fromarray(np.ascontiguousarray(coco_mask.decode(rle)) * 255)
    inside = inside.resize(panel.size, Image.Resampling.BOX)
    outline = ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(_OUTLINE)))
    panel.paste(colour, mask=inside.point([round(_FILL * value) for value in range(256)]))
    panel.paste(colour, mask=outline)


def area(rle: Rle) -> float:
    """Return a mask's number of pixels in the image."""
    return float(coco_mask.area(rle))


def _is_polygon(value: object) -> bool:
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(map(is_number, value))
