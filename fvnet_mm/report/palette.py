"""Colours that stay apart for colour-blind readers, on white as on photographs."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import ImageColor

COLOURS: tuple[str, ...] = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#882255",
    "#44AA99",
    "#332288",
    "#999933",
    "#DDDDDD",
)
"""Okabe and Ito's seven colours (Color Universal Design, 2008), then five of Tol's muted scheme (2021)."""

BLUE, SKY, ORANGE, VERMILION, GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73"
INK = "#222222"
QUIET = "#777777"

_GREYS = ("#000000", "#444444", "#888888", "#CCCCCC", "#FFFFFF")  # not for classes: "not labelled" is grey
_LIGHTNESS = (30, 92)
_CHROMA = (18, 78)  # above are the neon colours


@lru_cache(maxsize=8)
def class_colours(count: int) -> tuple[str, ...]:
    """Return a colour for each class index; a class keeps its colour however many classes there are.

    The first are those of ``COLOURS`` that aren't grey. Each later one is, of a grid over sRGB without greys and
    neon colours, the farthest from all before it in CIELAB (after Glasbey et al., Color Research and
    Application 32, 2007): of 150 colours no two are closer than 14.
    """
    first = COLOURS[:-1]
    steps = np.linspace(0, 255, 16)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    lab = _cielab(grid)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    wanted = (lightness > _LIGHTNESS[0]) & (lightness < _LIGHTNESS[1]) & (chroma > _CHROMA[0]) & (chroma < _CHROMA[1])
    grid, lab = grid[wanted], lab[wanted]
    taken = _cielab(np.array([ImageColor.getrgb(colour) for colour in (*first, *_GREYS)]))
    distance = np.linalg.norm(lab[:, None] - taken, axis=-1).min(1)
    colours = list(first[:count])
    while len(colours) < count:
        farthest = distance.argmax()
        red, green, blue = grid[farthest].astype(int)
        colours.append(f"#{red:02X}{green:02X}{blue:02X}")
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=-1))
    return tuple(colours)


def _cielab(colours: np.ndarray) -> np.ndarray:
    """Turn (N, 3) sRGB colours, 0 to 255, into (N, 3) of CIELAB."""
    return cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2Lab)[0]
