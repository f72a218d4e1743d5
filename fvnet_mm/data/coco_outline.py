"""Outlines of objects, in the forms that COCO's annotation files have."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_FARTHEST = 1e6
"""Pixels from the image's corner; pycocotools draws outlines point by point, however far they go."""

_ALLOWED = {int, float}

_COMPRESSED = re.compile(r"[0-o]*[0-O]")


def is_outline(outline: object, width: float, height: float) -> bool:
    """Whether a JSON value outlines an object of an image of width x height pixels, as pycocotools can fill it.

    An outline is a list of polygons [x, y, x, y, x, y ...], or run lengths of the image's own size: any other size
    makes pycocotools reserve as much memory as it says.
    """
    if isinstance(outline, list):
        return all(
            isinstance(polygon, list)
            and len(polygon) >= 6
            and len(polygon) % 2 == 0
            and _ALLOWED.issuperset(map(type, polygon))  # a set: files have millions of points
            and min(polygon) > -_FARTHEST
            and max(polygon) < _FARTHEST
            and not math.isnan(sum(polygon))
            for polygon in outline
        )
    if not isinstance(outline, dict) or outline.get("size") != [height, width]:
        return False
    runs = outline.get("counts")
    if isinstance(runs, str):
        runs = _uncompressed(runs) if _COMPRESSED.fullmatch(runs) else None
    return (
        isinstance(runs, list)
        and all(isinstance(run, int) and run >= 0 for run in runs)
        and sum(runs) == width * height
    )


def is_rectangle(outline: object, box: Sequence[float]) -> bool:
    """Whether an outline is no more than the rectangle of its box (x, y, width, height), to a pixel.

    So tools write it where nobody has drawn outlines: one polygon of the box's corners, closed or not.
    """
    if not isinstance(outline, list) or len(outline) != 1 or len(outline[0]) not in (8, 10):
        return False
    x, y, width, height = box
    corners = set()
    for right, below in zip(outline[0][::2], outline[0][1::2], strict=True):
        at = right > x + width / 2, below > y + height / 2
        if abs(right - x - width * at[0]) > 1 or abs(below - y - height * at[1]) > 1:
            return False
        corners.add(at)
    return len(corners) == 4


def _uncompressed(text: str) -> list[int]:
    """Run lengths from pycocotools' text: groups of five bits, from the third number on the difference to the last but
    one.
    """
    runs: list[int] = []
    value = bits = 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 0x1F) << bits
        bits += 5
        if not group & 0x20:
            value -= (group & 0x10) << (bits - 4)  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return runs
