"""Outlines of the benchmark's objects, as functions that are positive inside.

An outline is scaled to area 1 and equal spread along both axes, and moved to its centroid, so that neither the size nor
the aspect ratio of an object's box says which outline it has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fvnet_mm.data.kinds import Array

Field = Callable[[Array, Array], Array]
"""(u, v) -> positive inside, negative outside, zero on the edge."""


class Outline(NamedTuple):
    """A normalised outline: its field, and the radii of the circles around its centroid that contain it and that it has
    room for.
    """

    field: Field
    reach: float
    room: float


def _disc(u: Array, v: Array) -> Array:
    return 1 - np.hypot(u, v)


def _superellipse(power: float) -> Field:
    return lambda u, v: 1 - (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)


def _lens(u: Array, v: Array) -> Array:
    return 1.25 - np.hypot(u, np.abs(v) + 0.75)


def _dart(u: Array, v: Array) -> Array:
    """An arrowhead that points along u, with a notch in its back."""
    side = np.abs(v)
    return np.minimum((0.75 * (1 - u) - 1.7 * side) / 1.86, (u + 0.3 + 0.53 * side) / 1.13)


def _flower(petals: int) -> Field:
    return lambda u, v: 0.7 + 0.3 * np.cos(petals * np.arctan2(v, u)) - np.hypot(u, v)


def _regular_polygon(corners: int) -> Field:
    turns = [2 * math.pi * corner / corners for corner in range(corners)]

    def field(u: Array, v: Array) -> Array:
        sides = [u * math.cos(turn) + v * math.sin(turn) for turn in turns]
        return math.cos(math.pi / corners) - np.max(sides, axis=0)

    return field


def _mouthed_disc(u: Array, v: Array) -> Array:
    """A disc without a wedge that opens along u."""
    past = np.abs(np.arctan2(v, u)) - 0.62
    radius = np.hypot(u, v)
    return np.minimum(1 - radius, radius * np.sin(np.minimum(past, np.pi / 2)))


def _ring(u: Array, v: Array) -> Array:
    return 0.2 - np.abs(np.hypot(u, v) - 0.8)


def _crescent(u: Array, v: Array) -> Array:
    return np.minimum(1 - np.hypot(u, v), np.hypot(u - 0.55, v) - 0.85)


def _cross(u: Array, v: Array) -> Array:
    wide, narrow = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return np.minimum(1 - wide, 0.3 - narrow)


_FIELDS: dict[str, Field] = {
    "ellipse": _disc,
    "lens": _lens,
    "lozenge": _superellipse(1.35),
    "board": _superellipse(4.0),
    "dart": _dart,
    "quatrefoil": _flower(4),
    "cinquefoil": _flower(5),
    "triangle": _regular_polygon(3),
    "square": _regular_polygon(4),
    "disc": _disc,
    "mouth": _mouthed_disc,
    "ring": _ring,
    "crescent": _crescent,
    "cross": _cross,
}

SPINDLES = ("ellipse", "lens", "lozenge", "board")
CONTAINERS = ("triangle", "square", "disc")
CLUTTER = ("ring", "crescent", "cross", "disc", "stick")


@functools.cache
def outline(name: str) -> Outline:
    """The normalised outline of a name in :data:`SPINDLES`, :data:`CONTAINERS` ...; a stick is a long board."""
    raw = _FIELDS["board" if name == "stick" else name]
    axis = (np.arange(-240, 240) + 0.5) / 160
    u, v = np.meshgrid(axis, axis)
    inside = raw(u, v) > 0
    area = float(inside.sum()) / 160**2
    middle_u, middle_v = float(u[inside].mean()), float(v[inside].mean())
    ratio = float(u[inside].std() / v[inside].std()) / (8.0 if name == "stick" else 1.0)
    along, across = float(np.sqrt(area * ratio)), float(np.sqrt(area / ratio))

    def field(u: Array, v: Array) -> Array:
        return raw(u * along + middle_u, v * across + middle_v)

    radius = np.hypot((u - middle_u) / along, (v - middle_v) / across)
    return Outline(field, float(radius[inside].max()), float(radius[~inside].min()))
