"""A generated data set in ImageNet's layout, to try a classifier without a download.

An image is a function of (version, split, index, size) alone: a larger set begins with the smaller one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fvnet_mm.data.generated import SEED, check_sizes, write_generated, write_image
from fvnet_mm.data.kinds import KINDS, Array
from fvnet_mm.data.scenes import SceneSettings, draw_scene

VERSION = 1
"""Version of what is drawn; whoever changes a pixel raises it, and older sets are made again."""

SETTINGS_FILE = "class_shapes.json"
"""Written last into a set's folder: a folder that has it was made here, and with which settings."""

CLASSES: tuple[str, ...] = tuple(kind.name.replace(" ", "_") for kind in KINDS)
"""Names of the class folders, in the order of :data:`fvnet_mm.data.kinds.KINDS`."""

_SPLITS = {"train": 1, "val": 2}
_SIDES = (0.35, 0.65)  # of an object, as shares of the image's shorter side


def write_class_shapes(root: Path, train_images: int, val_images: int, image_size: tuple[int, int]) -> Path:
    """Write a data set of drawn objects, one in each image: ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``.

    The classes are the kinds of :data:`fvnet_mm.data.kinds.KINDS`, by turns; a split has at least one image of each.
    ``image_size`` is (width, height) in pixels. What becomes of a set that is there, what is returned and what is
    raised is :func:`~fvnet_mm.data.generated.write_generated`'s.

    Raises:
        ValueError: A number is out of its range.
    """
    check_sizes(train_images, val_images, image_size, least=len(KINDS))
    counts = {"train": train_images, "val": val_images}
    settings = {
        "version": VERSION,
        "seed": SEED,
        "train_images": train_images,
        "val_images": val_images,
        "image_size": list(image_size),
    }
    files = {f"{split}/*/*.jpg": count for split, count in counts.items()}

    def write(folder: Path) -> None:
        for split, count in counts.items():
            for index in range(count):
                image, label = draw_class_image(split, index, image_size)
                write_image(folder / split / CLASSES[label] / f"{index:06d}.jpg", image)

    return write_generated(root, SETTINGS_FILE, settings, files, write)


def draw_class_image(split: str, index: int, image_size: tuple[int, int]) -> tuple[Array, int]:
    """Draw image ``index`` of a split; nothing but the arguments and :data:`VERSION` decides what is seen.

    Returns:
        The image, (H, W, 3) uint8 RGB, and the index into :data:`CLASSES` of the one object in it.
    """
    label = index % len(KINDS)
    low, high = (share * min(image_size) for share in _SIDES)
    settings = SceneSettings(image_size, objects=(1, 1), size_classes=((1.0, low, high),), max_side=_SIDES[1])
    rng = np.random.default_rng([VERSION, SEED, _SPLITS[split], index])
    while True:  # a scene gives up an object that found no place; an image of a class without its object can't be
        scene = draw_scene(rng, KINDS[label : label + 1], settings)
        if scene.objects:
            return scene.image, label
