"""Drawn scenes: flat objects of known kinds over a textured ground, with the exact mask of what is visible.

Everything is a function of a random generator and plain numbers, so that one seed gives one scene.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fvnet_mm.data.kinds import Array, Kind, Outline


@dataclass(frozen=True)
class SceneSettings:
    """How scenes are composed; lengths in pixels.

    ``size_classes`` holds (share, smallest, largest side), a side being the square root of an object's area.
    Classes and parts of classes above ``max_side`` (a share of the shorter image side) are not drawn.
    """

    image_size: tuple[int, int]
    objects: tuple[int, int] = (2, 5)
    size_classes: tuple[tuple[float, float, float], ...] = ((0.2, 16, 29), (0.6, 36, 84), (0.2, 100, 140))
    max_side: float = 0.65
    max_tilt: float = np.pi / 8
    min_visible: float = 0.65


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene: index of its kind, and the (H, W) bool mask of its visible part."""

    kind: int
    mask: Array


@dataclass(frozen=True)
class Scene:
    """A drawn image, (H, W, 3) uint8 RGB, and its objects from the rearmost to the foremost."""

    image: Array
    objects: tuple[SceneObject, ...]


def draw_scene(
    rng: np.random.Generator, kinds: Sequence[Kind], settings: SceneSettings, ground: Array | None = None
) -> Scene:
    """Draw one scene of ``kinds``.

    Objects are placed one after the other over those before. A place where an object, this or an earlier
    one, would show less than ``settings.min_visible`` of its area is not taken, so nothing is drawn without
    a mask that is worth finding.

    Args:
        rng: decides all that is random.
        kinds: what is drawn, each as often as any other.
        settings: the composition.
        ground: (H, W, 3) float32, 0 to 255, of the settings' size: drawn upon, in place, instead of a muted one.

    Returns:
        The scene: as many objects as the range ``settings.objects`` gave, less those that found no place.
    """
    width, height = settings.image_size
    canvas = _background(rng, height, width) if ground is None else ground
    count = int(rng.integers(settings.objects[0], settings.objects[1] + 1))
    sides = sorted((_sample_side(rng, settings) for _ in range(count)), reverse=True)
    drawn: list[int] = []
    masks: list[Array] = []
    full_areas: list[float] = []
    for side in sides:
        kind = int(rng.integers(len(kinds)))
        for _ in range(30):
            layer = _place(rng, kinds[kind].outline, side, settings)
            mask = np.zeros((height, width), bool)
            mask[layer.window] = kinds[kind].outline(layer.u, layer.v)
            # What lies outside the image counts as hidden, too.
            shown = [float(mask.sum()), *(float((other & ~mask).sum()) for other in masks)]
            wanted = [side * side, *full_areas]
            if all(part >= settings.min_visible * full for part, full in zip(shown, wanted, strict=True)):
                break
        else:
            continue
        masks = [*(other & ~mask for other in masks), mask]
        full_areas.append(side * side)
        drawn.append(kind)
        _paint(rng, canvas, kinds[kind], layer)
    image = _light(rng, canvas)
    return Scene(image, tuple(SceneObject(kind, mask) for kind, mask in zip(drawn, masks, strict=True)))


@dataclass(frozen=True)
class _Layer:
    """An object in place: a window of the image, and there the pixels' (u, v)."""

    window: tuple[slice, slice]
    u: Array
    v: Array


@functools.cache
def _unit_area(outline: Outline) -> float:
    """Area of an outline in its own coordinates."""
    axis = (np.arange(256) + 0.5) / 128 - 1
    return float(outline(*np.meshgrid(axis, axis)).mean() * 4)


def _sample_side(rng: np.random.Generator, settings: SceneSettings) -> float:
    limit = settings.max_side * min(settings.image_size)
    classes = [(share, low, min(high, limit)) for share, low, high in settings.size_classes if low < limit]
    if not classes:
        raise ValueError(f"no object of the size classes fits into an image of {settings.image_size} pixels")
    shares = np.array([share for share, _, _ in classes])
    _, low, high = classes[rng.choice(len(classes), p=shares / shares.sum())]
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _place(rng: np.random.Generator, outline: Outline, side: float, settings: SceneSettings) -> _Layer:
    """Put an object of a given side somewhere in the image, tilted and stretched a little."""
    width, height = settings.image_size
    tilt = rng.uniform(-settings.max_tilt, settings.max_tilt)
    scale = side / np.sqrt(_unit_area(outline))
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    margin = 0.4 * side
    x, y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
    reach = scale * np.sqrt(2) * max(stretch, 1 / stretch)
    left, right = max(int(x - reach), 0), min(int(x + reach) + 2, width)
    top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, height)
    columns = np.arange(left - x + 0.5, right - x, dtype=np.float32)
    rows = np.arange(top - y + 0.5, bottom - y, dtype=np.float32)[:, None]
    u = (columns * np.cos(tilt) + rows * np.sin(tilt)) / (scale * stretch)
    v = (rows * np.cos(tilt) - columns * np.sin(tilt)) / (scale / stretch)
    return _Layer((slice(top, bottom), slice(left, right)), u, v)


# In a rotated grid, so that near-horizontal and near-vertical edges get all five degrees of coverage.
_SAMPLES = ((-3 / 8, -1 / 8), (-1 / 8, 3 / 8), (1 / 8, -3 / 8), (3 / 8, 1 / 8))


def _sample(kind: Kind, colours: Array, layer: _Layer) -> tuple[Array, Array]:
    """A layer's coverage (h, w, 1) in [0, 1] and mean colour (h, w, 3), of four samples a pixel."""
    u_down, u_across = np.gradient(layer.u)
    v_down, v_across = np.gradient(layer.v)
    coverage = np.zeros((*layer.u.shape, 1), np.float32)
    total = np.zeros((*layer.u.shape, 3), np.float32)
    for row, column in _SAMPLES:
        u = layer.u + row * u_down + column * u_across
        v = layer.v + row * v_down + column * v_across
        inside = kind.outline(u, v)[..., None]
        coverage += inside
        total += inside * colours[kind.pattern(u, v)]
    return coverage / len(_SAMPLES), total / np.maximum(coverage, 1)


def _paint(rng: np.random.Generator, canvas: Array, kind: Kind, layer: _Layer) -> None:
    """Blend an object into ``canvas`` (H, W, 3; float32, 0 to 255) over the shadow that it throws."""
    colours = np.array(kind.colours, np.float32) * rng.uniform(0.88, 1.1, (len(kind.colours), 3))
    coverage, texture = _sample(kind, colours.astype(np.float32), layer)
    shadow = np.zeros(canvas.shape[:2], np.float32)
    shadow[layer.window] = coverage[..., 0]
    shadow = cv2.GaussianBlur(shadow, (0, 0), 2.5)
    canvas[3:, 3:] *= 1 - 0.35 * shadow[:-3, :-3, None]
    texture *= (1 - 0.12 * (layer.u + layer.v))[..., None]
    canvas[layer.window] += coverage * (texture - canvas[layer.window])


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float, stretch: float = 1) -> Array:
    """Smooth noise in about [-1, 1]; (H, W) float32. Its grains are ``cell`` pixels high, ``stretch`` times as wide."""
    cells = int(height / cell) + 3, int(width / (cell * stretch)) + 3
    return cv2.resize(rng.uniform(-1, 1, cells).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _background(rng: np.random.Generator, height: int, width: int) -> Array:
    """A muted ground with clouds, grain and a weave in a random direction; (H, W, 3) float32, 0 to 255."""
    base = rng.uniform(85, 185) + rng.uniform(-22, 22, 3)
    tint = rng.uniform(-1, 1, 3) * 14
    clouds = 18 * smooth_noise(rng, height, width, 48)[..., None]
    canvas = base + clouds + tint * smooth_noise(rng, height, width, 24)[..., None]
    direction, period = rng.uniform(0, np.pi), rng.uniform(6, 20)
    rows, columns = np.mgrid[:height, :width]
    weave = np.sin((columns * np.cos(direction) + rows * np.sin(direction)) * 2 * np.pi / period)
    canvas += (rng.uniform(0, 12) * weave + 9 * smooth_noise(rng, height, width, 3))[..., None]
    return canvas.astype(np.float32)


def _light(rng: np.random.Generator, canvas: Array) -> Array:
    """Light the canvas from one side, add a sensor's noise and round to uint8."""
    height, width = canvas.shape[:2]
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25)
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    field = 1 + strength * (columns * np.cos(direction) + rows * np.sin(direction)) / np.sqrt(2)
    noisy = canvas * field[..., None] * rng.uniform(0.85, 1.1) + rng.normal(0, 3, canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
