"""Objects in place: the pixels that each covers, and who hides whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fvnet_mm.data.benchmark.classes import IMAGE_SIZE, size_class
from fvnet_mm.data.benchmark.outlines import outline
from fvnet_mm.data.kinds import Array

MIN_VISIBLE = 0.5
"""Least share of an object's area that is visible in the image."""

MIN_AREA = 80
"""Least visible area in pixels."""


class Patch(NamedTuple):
    """The part of the image that an object is in.

    Attributes:
        window: its rows and columns.
        u: along the object's own axis, in units of its side, at each pixel.
        v: likewise across.
        depth: about the distance to the outline in pixels, positive inside.
    """

    window: tuple[slice, slice]
    u: Array
    v: Array
    depth: Array


@dataclass(frozen=True)
class Item:
    """An object in place.

    Attributes:
        thing: its class, an index into ``THINGS``; None for clutter.
        shape: name of its outline.
        side: square root of its whole area, in pixels.
        centre: (x, y) of its centroid.
        patch: the pixels that it covers, whoever hides them.
        inset: name of the smaller outline within, or None.
    """

    thing: int | None
    shape: str
    side: float
    centre: tuple[float, float]
    patch: Patch
    inset: str | None = None


def patch(shape: str, side: float, centre: tuple[float, float], angle: float, axis: float, stretch: float) -> Patch:
    """Find the pixels of an outline that is turned and stretched.

    Args:
        shape: name of the outline.
        side: square root of its area, in pixels.
        centre: (x, y) of its centroid.
        angle: where the object's u axis points in the image, 0 to the right and pi / 2 downwards.
        axis: in which direction the object is stretched.
        stretch: how much longer it is in that direction than across.
    """
    turn = np.array([[np.cos(axis), np.sin(axis)], [-np.sin(axis), np.cos(axis)]])
    shrink = turn.T @ np.diag([stretch**-0.5, stretch**0.5]) @ turn / side
    pointing = shrink @ (np.cos(angle), np.sin(angle))
    cosine, sine = pointing / np.hypot(*pointing)
    (xu, yu), (xv, yv) = (np.array([[cosine, sine], [-sine, cosine]]) @ shrink).tolist()
    form = outline(shape)
    # The ellipse that a circle of the outline's reach is stretched to, with a pixel to spare.
    long, short = form.reach * side * stretch**0.5, form.reach * side * stretch**-0.5
    half_width = np.hypot(long * np.cos(axis), short * np.sin(axis)) + 2
    half_height = np.hypot(long * np.sin(axis), short * np.cos(axis)) + 2
    x, y = centre
    left, right = max(int(x - half_width), 0), min(int(x + half_width) + 1, IMAGE_SIZE)
    top, bottom = max(int(y - half_height), 0), min(int(y + half_height) + 1, IMAGE_SIZE)
    columns = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x)
    rows = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y))[:, None]
    u = columns * xu + rows * yu
    v = columns * xv + rows * yv
    return Patch((slice(top, bottom), slice(left, right)), u, v, edge_distance(form.field(u, v)))


def edge_distance(field: Array) -> Array:
    """About how many pixels each pixel is inside (positive) or outside the zero line of a field."""
    down, right = np.gradient(field)
    return field / np.maximum(np.hypot(down, right), 1e-6)


class Layout:
    """Objects from the rearmost to the foremost.

    Attributes:
        items: the objects.
        owner: (S, S) int16, the place in ``items`` of what is seen at each pixel, -1 for the ground.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.owner = np.full((IMAGE_SIZE, IMAGE_SIZE), -1, np.int16)
        self._areas: list[int] = []

    def mask(self, number: int) -> Array:
        """(S, S) bool: the visible part of an object."""
        return self.owner == number

    def add(self, *items: Item) -> bool:
        """Put objects before the others, if all stay as visible as they have to; else nothing is changed."""
        before = self.owner.copy(), self.items.copy(), self._areas.copy()
        if all(self._add(item) for item in items):
            return True
        self.owner, self.items, self._areas = before
        return False

    def _add(self, item: Item) -> bool:
        inside = item.patch.depth > 0
        below = self.owner[item.patch.window]
        area = int(np.count_nonzero(inside))
        if not _is_seen(item, area):
            return False
        hidden = np.bincount(below[inside] + 1, minlength=len(self.items) + 1)[1:]
        for number in np.flatnonzero(hidden):
            self._areas[number] -= int(hidden[number])
            if not _is_seen(self.items[number], self._areas[number]):
                return False
        below[inside] = len(self.items)
        self.items.append(item)
        self._areas.append(area)
        return True


def _is_seen(item: Item, area: int) -> bool:
    """Whether enough is visible, and as much as keeps an object small, medium or large as it is."""
    if item.thing is None:
        return True
    whole = item.side**2
    return area >= max(MIN_VISIBLE * whole, MIN_AREA) and size_class(area) == size_class(whole)
