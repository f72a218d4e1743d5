"""What drawn grounds look like, sky, sea, wall ..., and how a scene is laid out in them from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fvnet_mm.data.kinds import Array
from fvnet_mm.data.scenes import smooth_noise

Texture = Callable[[np.random.Generator, int, int], Array]
"""(rng, height, width) -> (H, W) float32, how much lighter or darker each pixel is than the ground's colour."""


@dataclass(frozen=True)
class Ground:
    """How the areas of one class look: a colour (RGB, 0 to 255), and a texture in lighter and darker shades.

    ``roughness`` is the height of the waves in the area's upper edge, as a share of the image's height.
    """

    name: str
    colour: tuple[int, int, int]
    texture: Texture
    roughness: float = 0.0


def _clouds(rng: np.random.Generator, height: int, width: int) -> Array:
    shade = np.linspace(-25, 20, height, dtype=np.float32)[:, None]
    return shade + 55 * np.maximum(smooth_noise(rng, height, width, 18, 2.5), 0)


def _waves(rng: np.random.Generator, height: int, width: int) -> Array:
    return 26 * smooth_noise(rng, height, width, 4, 5)


def _ripples(rng: np.random.Generator, height: int, width: int) -> Array:
    rows = np.arange(height, dtype=np.float32)[:, None]
    bends = 6 * smooth_noise(rng, height, width, 30)
    return 9 * np.sin((rows + bends) * (2 * np.pi / rng.uniform(9, 13))) + 9 * smooth_noise(rng, height, width, 2)


def _blades(rng: np.random.Generator, height: int, width: int) -> Array:
    return 30 * smooth_noise(rng, height, width, 7, 0.3) + 14 * smooth_noise(rng, height, width, 30)


def _slopes(rng: np.random.Generator, height: int, width: int) -> Array:
    rows, columns = np.mgrid[:height, :width]
    folds = columns + 0.6 * rows + 12 * smooth_noise(rng, height, width, 25)
    lit = np.sin(folds * (2 * np.pi / rng.uniform(34, 48))).astype(np.float32)
    return 20 * lit + 18 * smooth_noise(rng, height, width, 7)


def _bricks(rng: np.random.Generator, height: int, width: int) -> Array:
    brick = int(rng.integers(9, 14))
    rows, columns = np.mgrid[:height, :width]
    course = rows // brick
    along = columns + course % 2 * brick
    joints = (rows % brick == 0) | (along % (2 * brick) == 0)
    tones = rng.uniform(-12, 12, (course.max() + 1, along.max() // (2 * brick) + 1))
    return np.where(joints, 38, tones[course, along // (2 * brick)]).astype(np.float32)


def _boards(rng: np.random.Generator, height: int, width: int) -> Array:
    board = int(rng.integers(12, 18))
    columns = np.arange(width)
    tones = rng.uniform(-20, 20, width // board + 1)[columns // board]
    return np.where(columns % board == 0, -50, tones + 12 * smooth_noise(rng, height, width, 22, 0.1)).astype(
        np.float32
    )


GROUNDS: dict[str, Ground] = {
    ground.name: ground
    for ground in (
        Ground("sky", (135, 180, 225), _clouds),
        Ground("sea", (45, 100, 140), _waves, 0.004),
        Ground("sand", (215, 190, 140), _ripples, 0.05),
        Ground("mountain", (120, 112, 122), _slopes, 0.14),
        Ground("grass", (85, 135, 60), _blades, 0.04),
        Ground("wall", (185, 165, 155), _bricks),
        Ground("floor", (150, 105, 65), _boards),
    )
}
"""The grounds that can be drawn, by their names, which are classes of ADE20K."""

EDGE = 3.0
"""Width in pixels of the stripe between two grounds that belongs to neither."""


def draw_grounds(rng: np.random.Generator, names: Sequence[str], height: int, width: int) -> tuple[Array, Array]:
    """Lay grounds over each other from top to bottom, with smooth edges at random heights between them.

    Args:
        rng: decides heights, edges, colours and textures.
        names: of the grounds, the uppermost first.
        height: of the image in pixels.
        width: likewise.

    Returns:
        The picture, (H, W, 3) float32, 0 to 255; and of every pixel the position in ``names``, (H, W) int, or -1
        at an edge, in a stripe of :data:`EDGE` pixels.
    """
    canvas = np.empty((height, width, 3), np.float32)
    position = np.zeros((height, width), np.intp)
    rows = np.arange(height, dtype=np.float32)[:, None] + 0.5
    shares = rng.dirichlet(np.full(len(names), 12.0))
    tops = height * np.concatenate(([0], np.cumsum(shares)[:-1]))
    for number, (name, top) in enumerate(zip(names, tops, strict=True)):
        ground = GROUNDS[name]
        colour = np.array(ground.colour) * rng.uniform(0.88, 1.12) + rng.uniform(-12, 12, 3)
        picture = (colour + ground.texture(rng, height, width)[..., None]).astype(np.float32)
        if number == 0:
            canvas[:] = picture
            continue
        waves = smooth_noise(rng, 1, width, height / 4) + 0.3 * smooth_noise(rng, 1, width, height / 12)
        tilt = rng.uniform(-0.04, 0.04) * (np.arange(width) - width / 2)
        below = rows - (top + tilt + ground.roughness * height * waves)
        canvas += np.clip(below + 0.5, 0, 1)[..., None] * (picture - canvas)
        position[below > 0] = number
        position[np.abs(below) < EDGE / 2] = -1
    return canvas, position
