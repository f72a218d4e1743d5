"""Painting objects in place: colours, textures, relief, shadows; and the light and noise of the whole image."""

from __future__ import annotations

import math

import cv2
import numpy as np

from fvnet_mm.data.benchmark.classes import IMAGE_SIZE, THINGS
from fvnet_mm.data.benchmark.layout import Item, Layout, edge_distance
from fvnet_mm.data.benchmark.outlines import outline
from fvnet_mm.data.benchmark.textures import Texture, any_texture, stripes
from fvnet_mm.data.kinds import Array
from fvnet_mm.data.scenes import smooth_noise

_NAMES = tuple(THINGS)
_STRIPES = {"grained": 0.0, "banded": np.pi / 2}
_SPINDLE_STRIPES = (np.pi / 5, 3 * np.pi / 10)
"""Angles to the axis at which other spindles may be striped: neither along nor across."""

CONTRAST = 55.0
"""Least distance in luminance of the two colours of an object."""

INSET = 0.55
"""Size of an inset against its container, where there is room."""


def paint(rng: np.random.Generator, canvas: Array, layout: Layout) -> Array:
    """Paint all objects upon a ground, in place, and light the scene.

    Args:
        rng: decides colours, textures and light; it knows nothing of classes but their textures.
        canvas: (S, S, 3) float32, 0 to 255.
        layout: the objects.

    Returns:
        The image, (S, S, 3) uint8 RGB.
    """
    light = rng.uniform(0, 2 * np.pi)
    shadow = rng.uniform(0.2, 0.5), rng.uniform(1.5, 5.0)
    for item in layout.items:
        _paint_item(rng, canvas, item, light, shadow)
    return _expose(rng, canvas, light)


def _paint_item(rng: np.random.Generator, canvas: Array, item: Item, light: float, shadow: tuple[float, float]) -> None:
    """Blend one object into the canvas; ``shadow`` is its darkness and length in pixels."""
    u, v, depth = item.patch.u, item.patch.v, item.patch.depth
    coverage = np.clip(0.5 + depth, 0, 1)
    _throw_shadow(canvas, item, coverage, light, *shadow)
    first, second = _two_colours(rng, canvas[item.patch.window].mean((0, 1)))
    share = _texture(rng, item)(u, v)[..., None]
    picture = first + (second - first) * share
    if item.inset:
        form, turn = outline(item.inset), rng.uniform(0, 2 * math.pi)
        scale = min(INSET, 0.92 * outline(item.shape).room / form.reach)
        cosine, sine = math.cos(turn) / scale, math.sin(turn) / scale
        inner = form.field(u * cosine + v * sine, v * cosine - u * sine)
        within = np.clip(0.5 + edge_distance(inner), 0, 1)[..., None]
        other, _ = _two_colours(rng, picture.mean((0, 1)), CONTRAST)
        picture = picture + (other - picture) * within
    # A bevel: edges that look towards the light are brighter.
    width = max(0.1 * item.side, 1.5)
    down, right = np.gradient(np.clip(depth / width, -0.2, 1))
    relief = -(right * math.cos(light) + down * math.sin(light)) * width
    roundness = rng.uniform(0, 0.25) * (1 - 2 * np.clip(np.hypot(u, v), 0, 1))
    picture = picture * (1 + rng.uniform(0.1, 0.35) * relief + roundness)[..., None]
    canvas[item.patch.window] += coverage[..., None] * (picture - canvas[item.patch.window])


def _texture(rng: np.random.Generator, item: Item) -> Texture:
    name = None if item.thing is None else _NAMES[item.thing]
    if name in _STRIPES:
        return stripes(rng, item.side, _STRIPES[name] + rng.uniform(-0.12, 0.12))
    if name in ("drifter", "crosser"):
        return any_texture(rng, item.side, _SPINDLE_STRIPES)
    return any_texture(rng, item.side)


_LUMINANCE = np.array((0.299, 0.587, 0.114))


def _two_colours(rng: np.random.Generator, ground: Array, least: float = 0.0) -> tuple[Array, Array]:
    """Two colours that differ in luminance; a third of the firsts resembles the ground, unless it must not."""
    resembles = least == 0 and rng.random() < 0.33
    while True:
        grey = rng.uniform(0, 0.6)
        first, second = rng.uniform(20, 240, (2, 3))
        first, second = ((1 - grey) * colour + grey * colour @ _LUMINANCE for colour in (first, second))
        if resembles:
            first = ground + rng.uniform(-35, 35, 3)
        if abs((first - ground) @ _LUMINANCE) >= least and abs((second - first) @ _LUMINANCE) >= CONTRAST:
            return first.astype(np.float32), second.astype(np.float32)


def _throw_shadow(canvas: Array, item: Item, coverage: Array, light: float, darkness: float, length: float) -> None:
    """Darken what is away from the light, in a window that is wider than the object's."""
    room = int(length * 3) + 2
    rows, columns = item.patch.window
    top, left = max(rows.start - room, 0), max(columns.start - room, 0)
    bottom, right = min(rows.stop + room, IMAGE_SIZE), min(columns.stop + room, IMAGE_SIZE)
    shade = np.zeros((bottom - top, right - left), np.float32)
    shade[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = coverage
    move = np.array([[1, 0, -length * math.cos(light)], [0, 1, -length * math.sin(light)]], np.float32)
    shade = cv2.warpAffine(shade, move, (right - left, bottom - top))
    shade = cv2.GaussianBlur(shade, (0, 0), 0.5 * length + 0.5)
    canvas[top:bottom, left:right] *= 1 - darkness * shade[..., None]


def _expose(rng: np.random.Generator, canvas: Array, light: float) -> Array:
    """Light that falls off to one side and in patches, some blur, noise, and rounding."""
    axis = np.linspace(-1, 1, IMAGE_SIZE, dtype=np.float32)
    slope = (axis * math.cos(light) + axis[:, None] * math.sin(light)) * rng.uniform(0, 0.3)
    patches = rng.uniform(0, 0.22) * smooth_noise(rng, IMAGE_SIZE, IMAGE_SIZE, 90)
    tint = rng.uniform(0.93, 1.07, 3) * rng.uniform(0.75, 1.15)
    lit = canvas * ((1 + slope + patches)[..., None] * tint.astype(np.float32))
    blur = rng.uniform(0, 0.7)
    if blur > 0.3:
        lit = cv2.GaussianBlur(lit, (0, 0), blur)
    lit += rng.uniform(2, 7) * rng.standard_normal(lit.shape, np.float32)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
