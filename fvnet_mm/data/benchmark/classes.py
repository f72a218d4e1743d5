"""What is labelled in the ``shapes`` benchmark, and how large it is."""

from __future__ import annotations

VERSION = 1
"""Version of what is drawn; whoever changes a pixel or a label raises it."""

IMAGE_SIZE = 320
"""Width and height of an image in pixels."""

THINGS: dict[str, str] = {
    "drifter": "spindle that lies along the flow of the ground around it",
    "crosser": "the same spindle, lying across the flow",
    "follower": "dart that points where the flow goes",
    "opposer": "the same dart, pointing where the flow comes from",
    "grained": "spindle with stripes along its own length, whatever the flow",
    "banded": "the same spindle with stripes across its length",
    "quatrefoil": "flower of four petals",
    "cinquefoil": "flower of five petals",
    "nest": "triangle, square or disc around a smaller one of its own kind",
    "misfit": "triangle, square or disc around a smaller one of another kind",
    "facer": "disc with a mouth that is turned to the nearest other disc with a mouth",
    "averter": "the same disc, its mouth turned away from the nearest other one",
}
"""The classes with instances, by what tells them apart; category ids and semantic labels count from 1 in this order."""

STUFF: dict[str, str] = {
    "grass": "short streaks along the flow",
    "water": "long waves along the flow",
    "gravel": "pebbles, a little longer along the flow",
    "bark": "ridges along the flow",
    "weave": "a chequered cloth that the flow bends",
    "haze": "soft clouds along the flow",
    "clutter": "things of no class that lie about: sticks, rings, crescents, crosses, plain discs",
}
"""The classes without instances, labelled after the things in the semantic maps; clutter lies on the other ones."""

SEMANTIC_CLASSES: tuple[str, ...] = (*THINGS, *STUFF)
"""The classes of the semantic maps: ``SEMANTIC_CLASSES[k]`` has the label ``k + 1``; 0 is an edge between grounds."""

SMALL, LARGE = 32**2, 96**2
"""COCO's bounds of small and large objects: visible area in pixels."""

SIZE_SHARES = (0.414, 0.343, 0.243)
"""Shares of small, medium and large objects in COCO, which the benchmark has, too."""


def size_class(area: float) -> int:
    """0 for a small object, 1 for a medium, 2 for a large one; as pycocotools counts what is on a bound."""
    return int(area >= SMALL) + int(area > LARGE)
