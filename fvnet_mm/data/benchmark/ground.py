"""The ground of a scene: areas of different texture, through which one flow runs.

The flow bends smoothly. It is seen in the direction of every texture, and in comets, whose heads are downstream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from fvnet_mm.data.benchmark.classes import IMAGE_SIZE, SEMANTIC_CLASSES
from fvnet_mm.data.kinds import Array
from fvnet_mm.data.scenes import smooth_noise

EDGE = 0.035
"""Pixels where two areas' fields differ by less than this belong to neither."""


class Ground(NamedTuple):
    """A drawn ground.

    Attributes:
        canvas: (S, S, 3) float32, 0 to 255.
        labels: (S, S) uint8, semantic labels of the areas, 0 at their edges.
        direction: (S, S) float32, the angle in which the flow runs at each pixel: 0 to the right, pi / 2 downwards.
    """

    canvas: Array
    labels: Array
    direction: Array


def _two_highest(fields: Array) -> tuple[Array, Array]:
    """The highest and the second highest value at each pixel; a fifth of the time of ``np.partition``."""
    highest, second = np.maximum(fields[0], fields[1]), np.minimum(fields[0], fields[1])
    for field in fields[2:]:
        second = np.maximum(second, np.minimum(highest, field))
        highest = np.maximum(highest, field)
    return highest, second


class _Flow(NamedTuple):
    """Each pixel's place along and across the flow, in pixels from 0, (S, S) float32; and the largest ones."""

    along: Array
    across: Array
    length: float
    width: float


def draw_ground(rng: np.random.Generator) -> Ground:
    """Draw two to four areas of different textures and colours, and the flow through them."""
    size = IMAGE_SIZE
    flow, direction = _bend(rng)
    names = rng.permutation(list(_TEXTURES))[: rng.integers(2, 5)]
    fields = np.stack([smooth_noise(rng, size, size, 120) + 0.15 * smooth_noise(rng, size, size, 22) for _ in names])
    areas = fields.argmax(0)
    highest, second = _two_highest(fields)
    labels = np.array([SEMANTIC_CLASSES.index(name) + 1 for name in names], np.uint8)[areas]
    labels[highest - second < EDGE] = 0
    canvas = np.zeros((size, size, 3), np.float32)
    base = rng.uniform(70, 185) + rng.uniform(-30, 30, 3)
    for number, name in enumerate(names):
        share = cv2.GaussianBlur((areas == number).astype(np.float32), (0, 0), 0.8)
        shade = share * _TEXTURES[name](rng, flow)
        middle = 0.4 * base + 0.6 * (rng.uniform(60, 195) + rng.uniform(-45, 45, 3))
        spread = rng.uniform(16, 32) + rng.uniform(-8, 8, 3)
        for channel in range(3):
            canvas[..., channel] += float(middle[channel]) * share + float(spread[channel]) * shade
    canvas += (float(rng.choice((-1, 1))) * rng.uniform(55, 90) * _comets(rng, flow))[..., None]
    return Ground(canvas, labels, direction)


def _bend(rng: np.random.Generator) -> tuple[_Flow, Array]:
    size = IMAGE_SIZE
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    bend = rng.uniform(10, 38)
    x = columns + bend * smooth_noise(rng, size, size, 150)
    y = rows + bend * smooth_noise(rng, size, size, 150)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    down, right = np.gradient(across)
    along -= along.min()
    across -= across.min()
    return _Flow(along, across, float(along.max()), float(across.max())), np.arctan2(-right, down)


def _smear(rng: np.random.Generator, flow: _Flow, along: float, across: float) -> Array:
    """Noise of unit variance, smoothed over so many pixels along and across the flow."""
    # Coarse noise is made on a coarse grid; two cells are a standard deviation.
    column, row = max(along / 2, 1.0), max(across / 2, 1.0)
    noise = rng.standard_normal((int(flow.width / row) + 4, int(flow.length / column) + 4), np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=along / column, sigmaY=across / row)
    bent = cv2.remap(noise, flow.along / column + 1, flow.across / row + 1, cv2.INTER_CUBIC)
    return bent / max(float(noise.std()), 1e-6)


def _grass(rng: np.random.Generator, flow: _Flow) -> Array:
    return _smear(rng, flow, rng.uniform(5, 9), 1.0)


def _water(rng: np.random.Generator, flow: _Flow) -> Array:
    return 1.2 * np.sin(flow.across * (2 * math.pi / rng.uniform(9, 20)) + 1.1 * _smear(rng, flow, 22, 9))


def _gravel(rng: np.random.Generator, flow: _Flow) -> Array:
    grain = rng.uniform(2.0, 3.2)
    return 1.3 * np.tanh(2.5 * _smear(rng, flow, 1.9 * grain, grain))


def _bark(rng: np.random.Generator, flow: _Flow) -> Array:
    return 1.3 - 1.9 * np.abs(_smear(rng, flow, rng.uniform(12, 20), rng.uniform(2.2, 3.4)))


def _weave(rng: np.random.Generator, flow: _Flow) -> Array:
    period = rng.uniform(7, 13)
    checks = np.sin(flow.along * (math.pi / period)) * np.sin(flow.across * (2 * math.pi / period))
    return 1.1 * np.tanh(2.5 * checks) + 0.3 * _smear(rng, flow, 0.7, 0.7)


def _haze(rng: np.random.Generator, flow: _Flow) -> Array:
    return 0.9 * _smear(rng, flow, rng.uniform(24, 36), rng.uniform(7, 11))


_TEXTURES: dict[str, Callable[[np.random.Generator, _Flow], Array]] = {
    "grass": _grass,
    "water": _water,
    "gravel": _gravel,
    "bark": _bark,
    "weave": _weave,
    "haze": _haze,
}


def _comets(rng: np.random.Generator, flow: _Flow) -> Array:
    """Bright heads with tails that fade upstream, about 0 to 1."""
    height, width = int(flow.width) + 2, int(flow.length) + 2
    tile = np.zeros((height, width), np.float32)
    count = int(height * width * rng.uniform(0.002, 0.0034))
    tile[rng.integers(height, size=count), rng.integers(width, size=count)] = rng.uniform(0.6, 1.2, count)
    tail = np.exp(-np.arange(32, dtype=np.float32) / rng.uniform(6, 10))[None]
    # filter2D correlates: a pixel takes what lies at its anchor and downstream of it.
    tile = cv2.filter2D(tile, -1, tail, anchor=(0, 0), borderType=cv2.BORDER_REFLECT)
    tile = 1.9 * cv2.GaussianBlur(tile, (0, 0), sigmaX=0.6, sigmaY=0.8)
    return cv2.remap(tile, flow.along, flow.across, cv2.INTER_LINEAR)
