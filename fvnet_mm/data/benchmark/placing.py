"""What makes the classes of the benchmark: how objects of each are shaped, turned and placed."""

from __future__ import annotations

import numpy as np

from fvnet_mm.data.benchmark.classes import IMAGE_SIZE, THINGS
from fvnet_mm.data.benchmark.layout import Item, Layout, patch
from fvnet_mm.data.benchmark.outlines import CLUTTER, CONTAINERS, SPINDLES
from fvnet_mm.data.kinds import Array

OBJECTS = (4, 11)
CLUTTERED = (1, 6)
TRIES = 30

SIDES = ((13.0, 31.5), (34.0, 94.0), (100.0, 165.0))
"""Side of small, medium and large objects: the square root of their whole area, in pixels."""

DRAWN_SHARES = (0.40, 0.33, 0.27)
"""How often each size is tried; large objects find a place less often."""

STRETCH = (1.3, 1.8)
TOLERANCE = np.pi / 15
"""By how much a direction may differ from what its class says."""

ALONE_NEAREST = 1.4
"""How many times further than its partner every other mouthed disc is from one."""

_NAMES = tuple(THINGS)
_PAIRED = ("facer", "averter")
_ALONE = tuple(name for name in _NAMES if name not in _PAIRED)
_AGAINST_FLOW = {"drifter": 0.0, "crosser": np.pi / 2, "follower": 0.0, "opposer": np.pi}


def lay_out(rng: np.random.Generator, direction: Array) -> Layout:
    """Place the objects and the clutter of one scene upon a ground.

    Sizes are drawn before classes, and all classes are stretched alike.

    Args:
        rng: decides all that is random.
        direction: (S, S), the flow's angle at each pixel.
    """
    layout = Layout()
    sides = [_draw_side(rng) for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1))]
    clutter = [float(rng.uniform(12, 60)) for _ in range(rng.integers(CLUTTERED[0], CLUTTERED[1] + 1))]
    planned = [(side, False) for side in sides] + [(side, True) for side in clutter]
    # The larger the further back, more or less: the other way round the small ones would be hidden.
    rank = np.array([side for side, _ in planned]) * np.exp(rng.normal(0, 0.4, len(planned)))
    for number in np.argsort(-rank):
        side, is_clutter = planned[number]
        _place(rng, layout, side, is_clutter, direction)
    return layout


def _place(rng: np.random.Generator, layout: Layout, side: float, is_clutter: bool, direction: Array) -> None:
    """Add one object, or a pair, wherever it finds a place; what it is and how large is drawn but once."""
    number, names, partner = rng.integers(len(_ALONE) + 1), rng.choice(_PAIRED, 2), _draw_side(rng)
    for _ in range(TRIES):
        if is_clutter:
            items = (_clutter(rng, side),)
        elif number < len(_ALONE):
            items = (_alone(rng, _ALONE[number], side, direction),)
        else:
            items = _pair(rng, names, (side, partner))
        if items and _keeps_partners(layout, items) and layout.add(*items):
            return


def _draw_side(rng: np.random.Generator) -> float:
    low, high = SIDES[rng.choice(len(SIDES), p=DRAWN_SHARES)]
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_centre(rng: np.random.Generator, side: float) -> tuple[float, float]:
    margin = 0.2 * side
    x, y = rng.uniform(margin, IMAGE_SIZE - margin, 2)
    return float(x), float(y)


def _clutter(rng: np.random.Generator, side: float) -> Item:
    shape = str(rng.choice(CLUTTER))
    centre = _draw_centre(rng, side)
    angle, axis = rng.uniform(0, 2 * np.pi, 2)
    return Item(None, shape, side, centre, patch(shape, side, centre, angle, axis, rng.uniform(*STRETCH)))


def _alone(rng: np.random.Generator, name: str, side: float, direction: Array) -> Item:
    """An object of a class that no other object decides."""
    centre = _draw_centre(rng, side)
    angle = rng.uniform(0, 2 * np.pi)
    if name in _AGAINST_FLOW:
        flow = direction[int(centre[1]), int(centre[0])]
        angle = flow + _AGAINST_FLOW[name] + rng.uniform(-TOLERANCE, TOLERANCE)
    axis, inset = rng.uniform(0, np.pi), None
    if name in ("drifter", "crosser", "grained", "banded"):
        shape, axis = str(rng.choice(SPINDLES)), angle
    elif name in ("follower", "opposer"):
        shape, axis = "dart", angle
    elif name in ("nest", "misfit"):
        shape = str(rng.choice(CONTAINERS))
        inset = shape if name == "nest" else str(rng.choice([other for other in CONTAINERS if other != shape]))
    else:
        shape = name
    where = patch(shape, side, centre, angle, axis, rng.uniform(*STRETCH))
    return Item(_NAMES.index(name), shape, side, centre, where, inset)


def _pair(rng: np.random.Generator, names: tuple[str, str], sides: tuple[float, float]) -> tuple[Item, ...]:
    """Two mouthed discs, each turned to the other or away from it; nothing where the second is outside the image."""
    first = _draw_centre(rng, sides[0])
    bearing = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.75, 1.1) * sum(sides)
    second = first[0] + distance * np.cos(bearing), first[1] + distance * np.sin(bearing)
    if not all(0 <= place < IMAGE_SIZE for place in second):
        return ()
    items = []
    for name, side, centre, partner in zip(names, sides, (first, second), (bearing, bearing + np.pi), strict=True):
        angle = partner + np.pi * (name == "averter") + rng.uniform(-TOLERANCE, TOLERANCE)
        where = patch("mouth", side, centre, angle, rng.uniform(0, np.pi), rng.uniform(*STRETCH))
        items.append(Item(_NAMES.index(name), "mouth", side, centre, where))
    return tuple(items)


def _keeps_partners(layout: Layout, items: tuple[Item, ...]) -> bool:
    """Whether mouthed discs, which come in pairs, stay by far the nearest ones of each other."""
    if items[0].shape != "mouth":
        return True
    discs = [item for item in (*layout.items, *items) if item.shape == "mouth"]
    x, y = np.array([disc.centre for disc in discs]).T
    distances = np.hypot(x[:, None] - x, y[:, None] - y)
    numbers = np.arange(len(discs))
    to_partner = distances[numbers, numbers ^ 1]
    distances[numbers, numbers] = distances[numbers, numbers ^ 1] = np.inf
    return bool((distances.min(1) > ALONE_NEAREST * to_partner).all())
