"""One image of the benchmark with its labels, from (version, seed, split, index) and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fvnet_mm.data.benchmark.classes import SEMANTIC_CLASSES, VERSION
from fvnet_mm.data.benchmark.ground import draw_ground
from fvnet_mm.data.benchmark.painting import paint
from fvnet_mm.data.benchmark.placing import lay_out
from fvnet_mm.data.kinds import Array

SPLITS = ("train", "val", "test")
"""The splits; their order decides what is drawn in them."""


@dataclass(frozen=True)
class Instance:
    """A labelled object: its class, an index into ``THINGS``, and the (S, S) bool mask of its visible part."""

    thing: int
    mask: Array


@dataclass(frozen=True)
class Scene:
    """A drawn image, (S, S, 3) uint8 RGB; its semantic labels, (S, S) uint8; its objects, the rearmost first."""

    image: Array
    labels: Array
    instances: tuple[Instance, ...]


def draw_scene(seed: int, split: str, index: int) -> Scene:
    """Draw image ``index`` of a split.

    Args:
        seed: of the data set, not negative.
        split: one of :data:`SPLITS`.
        index: from 0.
    """
    rng = np.random.default_rng([VERSION, seed, SPLITS.index(split), index])
    ground = draw_ground(rng)
    layout = lay_out(rng, ground.direction)
    image = paint(rng, ground.canvas, layout)
    labels = ground.labels.copy()
    instances = []
    for number, item in enumerate(layout.items):
        mask = layout.mask(number)
        labels[mask] = (SEMANTIC_CLASSES.index("clutter") if item.thing is None else item.thing) + 1
        if item.thing is not None:
            instances.append(Instance(item.thing, mask))
    return Scene(image, labels, tuple(instances))


def shrink(scene: Scene, size: int) -> Scene:
    """Scale a scene down to ``size`` x ``size`` pixels: colours are averaged, labels those of pixels' centres.

    Objects that lose all their pixels are left out.
    """
    if size == scene.labels.shape[0]:
        return scene

    def sample(labels: Array) -> Array:
        return cv2.resize(labels.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST_EXACT)

    image = cv2.resize(scene.image, (size, size), interpolation=cv2.INTER_AREA)
    instances = [Instance(item.thing, sample(item.mask) > 0) for item in scene.instances]
    return Scene(image, sample(scene.labels), tuple(item for item in instances if item.mask.any()))
