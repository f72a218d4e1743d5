"""Surfaces of the benchmark's objects: patterns between 0 and 1 in an object's own coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fvnet_mm.data.kinds import Array

Texture = Callable[[Array, Array], Array]
"""(u, v), in units of the square root of the object's area -> the second colour's share, 0 to 1."""

FINEST = 3.6
"""Least period of a pattern in pixels: finer ones would not survive sampling and compression."""


def stripes(rng: np.random.Generator, side: float, angle: float) -> Texture:
    """Stripes whose lines run at ``angle`` to the object's u axis; ``side`` is its size in pixels."""
    pitch = _pitch(rng, side, 0.15, 0.3)
    phase, duty = rng.uniform(0, 2 * math.pi), rng.uniform(-0.25, 0.25)

    def texture(u: Array, v: Array) -> Array:
        return _step(
            np.sin((v * math.cos(angle) - u * math.sin(angle)) * 2 * math.pi / pitch + phase) + duty, side * pitch
        )

    return texture


def any_texture(rng: np.random.Generator, side: float, angles: tuple[float, float] = (0.0, np.pi)) -> Texture:
    """One of five kinds of patterns; stripes only at an angle to the u axis within ``angles``, or mirrored."""
    kind = rng.integers(5)
    if kind == 0:
        return stripes(rng, side, rng.uniform(*angles) * float(rng.choice((-1, 1))))
    pitch = _pitch(rng, side, 0.2, 0.38)
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * math.pi, 2).tolist()
    if kind == 1:
        return lambda u, v: np.full_like(u, 0.15)
    if kind == 2:  # rings around a point near the middle
        x, y = rng.uniform(-0.2, 0.2, 2).tolist()
        return lambda u, v: _step(np.sin(np.hypot(u - x, v - y) * 2 * math.pi / pitch + phase[0]), side * pitch)
    limit = 0.0 if kind == 3 else 0.45  # checks or dots

    def texture(u: Array, v: Array) -> Array:
        a = np.sin((u * math.cos(turn) + v * math.sin(turn)) * 2 * math.pi / pitch + phase[0])
        b = np.sin((v * math.cos(turn) - u * math.sin(turn)) * 2 * math.pi / pitch + phase[1])
        return _step(a * b - limit, side * pitch)

    return texture


def _pitch(rng: np.random.Generator, side: float, low: float, high: float) -> float:
    """A period as a share of the object's side, not finer than :data:`FINEST`."""
    return max(float(rng.uniform(low, high)), FINEST / side)


def _step(wave: Array, period: float) -> Array:
    """Sharpens a wave of a period in pixels to a step that is about one pixel wide."""
    return np.clip(0.5 + wave * max(period / 6, 0.6), 0, 1)
