"""What drawn objects look like: outlines and patterns in an object's own coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Outline = Callable[[Array, Array], Array]
"""(u, v), the object's own coordinates in [-1, 1] with v downwards -> True inside the object."""
Pattern = Callable[[Array, Array], Array]
"""(u, v) -> index of the colour in ``Kind.colours``."""


@dataclass(frozen=True)
class Kind:
    """How the objects of one category look: an outline, and a pattern in its colours (RGB, 0 to 255)."""

    name: str
    outline: Outline
    pattern: Pattern
    colours: tuple[tuple[int, int, int], ...]


def regular_polygon(corners: int, depth: float = 1.0) -> Outline:
    """Outline of a regular polygon with a corner on top; ``depth`` < 1 pulls the edges' middles in to a star.

    Args:
        corners: how many.
        depth: radius of the edges' middles against that of the straight edge, in (0, 1].
    """
    inner = depth * np.cos(np.pi / corners)

    def outline(u: Array, v: Array) -> Array:
        angle = np.abs((np.arctan2(u, -v) + np.pi / corners) % (2 * np.pi / corners) - np.pi / corners)
        # The edge is the line from (1, 0) to the middle, which lies at radius `inner` and angle pi / corners.
        x, y = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
        middle_x, middle_y = inner * np.cos(np.pi / corners), inner * np.sin(np.pi / corners)
        return (1 - x) * middle_y >= y * (1 - middle_x)

    return outline


def _plain(u: Array, v: Array) -> Array:
    return np.zeros(u.shape, np.intp)


_regular_octagon = regular_polygon(8)


def _octagon(u: Array, v: Array) -> Array:
    """An octagon that stands on an edge."""
    turn = np.pi / 8
    return _regular_octagon(u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn))


KINDS: tuple[Kind, ...] = (
    Kind(
        "stop sign",
        _octagon,
        lambda u, v: np.where(_octagon(u / 0.86, v / 0.86) & (np.abs(v) > 0.18), 0, 1),
        ((205, 25, 35), (250, 245, 240)),
    ),
    Kind(
        "donut",
        lambda u, v: (np.hypot(u, v) <= 1) & (np.hypot(u, v) >= 0.42),
        lambda u, v: (np.sin(19 * u + 3) * np.sin(17 * v) > 0.72) * 1,
        ((235, 105, 170), (255, 240, 200)),
    ),
    Kind(
        "pizza",
        lambda u, v: (v >= -0.75) & (v <= 1 - 2.1 * np.abs(u)),
        lambda u, v: np.where(v < -0.5, 2, (np.sin(9 * u + 1.5) * np.sin(8 * v - 0.4) > 0.5) * 1),
        ((245, 205, 70), (200, 45, 25), (165, 95, 35)),
    ),
    Kind(
        "book",
        lambda u, v: (np.abs(u) <= 0.72) & (np.abs(v) <= 0.95),
        lambda u, v: np.where(u < -0.5, 1, ((np.abs(v + 0.35) < 0.12) | (np.abs(v) < 0.05)) * 2),
        ((35, 75, 190), (20, 40, 105), (235, 235, 245)),
    ),
    Kind(
        "kite",
        lambda u, v: np.abs(u) / 0.75 + np.abs(v) <= 1,
        lambda u, v: (u * v > 0) * 1,
        ((35, 190, 205), (120, 40, 165)),
    ),
    Kind(
        "sports ball",
        lambda u, v: np.hypot(u, v) <= 1,
        lambda u, v: (np.sin(5.2 * u) * np.sin(5.2 * v) > 0) * 1,
        ((245, 245, 245), (30, 30, 35)),
    ),
    Kind(
        "banana",
        lambda u, v: (np.hypot(u, v) <= 1) & (np.hypot(u, v + 0.62) >= 0.86),
        lambda u, v: (np.abs(u) > 0.86) * 1,
        ((250, 225, 50), (95, 70, 30)),
    ),
    Kind(
        "airplane",
        lambda u, v: (
            ((np.abs(u) <= 0.2) & (np.abs(v) <= 1))
            | ((np.abs(v + 0.1) <= 0.24) & (np.abs(u) <= 1))
            | ((np.abs(v - 0.82) <= 0.14) & (np.abs(u) <= 0.5))
        ),
        lambda u, v: ((np.abs(u) > 0.72) | (v < -0.72)) * 1,
        ((225, 230, 235), (230, 95, 30)),
    ),
    Kind(
        "broccoli",
        lambda u, v: np.hypot(u, v) <= 0.84 + 0.16 * np.cos(7 * np.arctan2(u, -v)),
        lambda u, v: (np.sin(13 * u) * np.sin(13 * v + 1) > 0.35) * 1,
        ((45, 135, 45), (125, 195, 80)),
    ),
    Kind("orange", lambda u, v: np.hypot(u, v) <= 1, _plain, ((250, 140, 20),)),
    Kind(
        "traffic light",
        lambda u, v: (np.abs(u) <= 0.42) & (np.abs(v) <= 1),
        lambda u, v: np.select([np.hypot(u, v - y) <= 0.26 for y in (-0.64, 0, 0.64)], [1, 2, 3], 0),
        ((35, 40, 45), (230, 40, 40), (250, 200, 50), (50, 210, 90)),
    ),
    Kind("potted plant", regular_polygon(5, 0.5), lambda u, v: (v > 0.25) * 1, ((70, 190, 60), (170, 85, 45))),
)
"""The kinds that can be drawn, named after COCO categories; the first ones are the easiest to tell apart."""
