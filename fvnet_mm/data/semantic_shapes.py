"""A generated semantic segmentation set in exactly ADE20K's layout, to try a segmentor without a download.

An image is a function of (version, split, index, size) alone: a larger set begins with the smaller one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fvnet_mm.data.ade20k_layout import OBJECT_INFO_FILE, SCENES_FILE, SPLIT_FOLDERS
from fvnet_mm.data.classes import ADE20K_CLASSES
from fvnet_mm.data.generated import SEED, check_sizes, write_generated, write_image
from fvnet_mm.data.grounds import GROUNDS, draw_grounds
from fvnet_mm.data.kinds import KINDS, Array
from fvnet_mm.data.scenes import SceneSettings, draw_scene

VERSION = 1
"""Version of what is drawn; whoever changes a pixel raises it, and older sets are made again."""

SETTINGS_FILE = "semantic_shapes.json"
"""Written last into a set's folder: a folder that has it was made here, and with which settings."""

SCENES: dict[str, tuple[str, ...]] = {
    "beach": ("sky", "sea", "sand"),
    "coast": ("sky", "mountain", "sea"),
    "pasture": ("sky", "mountain", "grass"),
    "park": ("sky", "grass"),
    "dune": ("sky", "sand"),
    "living_room": ("wall", "floor"),
}
"""Scene categories, and their grounds from top to bottom."""

THINGS = {
    "sports ball": "ball",
    "book": "book",
    "stop sign": "signboard",
    "airplane": "airplane",
    "traffic light": "traffic light",
    "donut": None,
    "kite": None,
}
"""The kinds of objects that lie on the grounds, by their names in :data:`fvnet_mm.data.kinds.KINDS`, and their class.

Those without a class stay unlabelled, as the many things in ADE20K do that are none of its 150 classes.
"""


class SemanticScene(NamedTuple):
    """A drawn image, (H, W, 3) uint8 RGB; its labels, (H, W) uint8 with 0 for not labelled; and its category."""

    image: Array
    labels: Array
    category: str


def write_ade20k_shapes(root: Path, train_images: int, val_images: int, image_size: tuple[int, int]) -> Path:
    """Write a data set of drawn scenes: ``images``, ``annotations``, ``objectInfo150.txt``, ``sceneCategories.txt``.

    Of ADE20K's 150 classes the grounds of :data:`SCENES` and the classes of :data:`THINGS` occur. Edges between
    grounds and things without a class are labelled 0. ``image_size`` is (width, height) in pixels. What becomes of a
    set that is there, what is returned and what is raised is :func:`~fvnet_mm.data.generated.write_generated`'s.

    Raises:
        ValueError: a number is out of its range.
    """
    check_sizes(train_images, val_images, image_size)
    counts = {"train": train_images, "val": val_images}
    settings = {"version": VERSION, "seed": SEED, "images": counts, "image_size": list(image_size)}
    files = {
        f"{part}/{SPLIT_FOLDERS[split]}/*{suffix}": count
        for split, count in counts.items()
        for part, suffix in (("images", ".jpg"), ("annotations", ".png"))
    }

    def write(folder: Path) -> None:
        scenes: list[str] = []
        pixels: dict[str, list[Array]] = {split: [] for split in counts}
        for split, count in counts.items():
            for index in range(count):
                scene = draw_semantic_image(split, index, image_size)
                stem = f"ADE_{split}_{index + 1:08d}"
                write_image(folder / "images" / SPLIT_FOLDERS[split] / f"{stem}.jpg", scene.image)
                write_image(folder / "annotations" / SPLIT_FOLDERS[split] / f"{stem}.png", scene.labels)
                scenes.append(f"{stem} {scene.category}\n")
                pixels[split].append(np.bincount(scene.labels.ravel(), minlength=len(ADE20K_CLASSES) + 1))
        (folder / SCENES_FILE).write_text("".join(scenes))
        (folder / OBJECT_INFO_FILE).write_text(_object_info(np.array(pixels["train"]), np.array(pixels["val"])))

    return write_generated(root, SETTINGS_FILE, settings, files, write)


def draw_semantic_image(split: str, index: int, image_size: tuple[int, int]) -> SemanticScene:
    """Draw image ``index`` of a split; nothing but the arguments and :data:`VERSION` decides what is seen."""
    rng = np.random.default_rng([VERSION, SEED, list(SPLIT_FOLDERS).index(split), index])
    width, height = image_size
    category = list(SCENES)[rng.integers(len(SCENES))]
    grounds = SCENES[category]
    canvas, position = draw_grounds(rng, grounds, height, width)
    # The position -1, at an edge, takes the last entry.
    labels = np.array([*map(_label, grounds), 0], np.uint8)[position]
    kinds = [kind for kind in KINDS if kind.name in THINGS]
    scene = draw_scene(rng, kinds, SceneSettings(image_size, objects=(1, 4)), canvas)
    for item in scene.objects:
        labels[item.mask] = _label(THINGS[kinds[item.kind].name])
    return SemanticScene(scene.image, labels, category)


def _label(name: str | None) -> int:
    return 0 if name is None else ADE20K_CLASSES.index(name) + 1


def _object_info(train: Array, val: Array) -> str:
    """ADE20K's table of classes, from the pixels that each label has in each image, (images, labels)."""
    ratios = (train.sum(0) + val.sum(0)) / (train.sum() + val.sum())
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    for label, name in enumerate(ADE20K_CLASSES, 1):
        images = np.count_nonzero(train[:, label]), np.count_nonzero(val[:, label])
        rows.append(f"{label}\t{ratios[label]:.4f}\t{images[0]}\t{images[1]}\t{int(name in GROUNDS)}\t{name}")
    return "\n".join(rows) + "\n"
