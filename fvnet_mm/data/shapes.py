"""A generated instance data set in exactly COCO 2017's layout, to try a detector without a download.

An image is a function of (version, split, index, size) alone: a larger set begins with the smaller one.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely

from fvnet_mm.data.classes import COCO_CATEGORIES
from fvnet_mm.data.generated import SEED, check_sizes, write_generated, write_image
from fvnet_mm.data.kinds import KINDS
from fvnet_mm.data.scenes import Scene, SceneSettings, draw_scene

VERSION = 1
"""Version of what is drawn; whoever changes a pixel raises it, and older sets are made again."""

SETTINGS_FILE = "shapes.json"
"""Written last into a set's folder: a folder that has it was made here, and with which settings."""

CATEGORIES = 6
"""Kinds of objects that are drawn, the first of :data:`fvnet_mm.data.kinds.KINDS`."""

_SPLITS = {"train": 1, "val": 500_001}  # the first image's id: as in COCO, no id is in two splits
_ANNOTATIONS_PER_IMAGE = 100  # room in the annotations' ids, which are therefore the image's own affair


def write_coco_shapes(root: Path, train_images: int, val_images: int, image_size: tuple[int, int]) -> Path:
    """Write a data set of drawn objects: ``train2017``, ``val2017`` and ``annotations/instances_*.json``.

    The annotations list all 80 categories of COCO with their ids; objects are of :data:`CATEGORIES` of them. Boxes,
    areas and polygons are those of the visible part. ``image_size`` is (width, height) in pixels. What becomes of a
    set that is there, what is returned and what is raised is :func:`~fvnet_mm.data.generated.write_generated`'s.

    Raises:
        ValueError: a number is out of its range.
    """
    check_sizes(train_images, val_images, image_size)
    counts = {"train": train_images, "val": val_images}
    settings = {
        "version": VERSION,
        "seed": SEED,
        "train_images": train_images,
        "val_images": val_images,
        "image_size": list(image_size),
        "categories": CATEGORIES,
    }
    files = {f"{split}2017/*.jpg": count for split, count in counts.items()}
    files |= {f"annotations/instances_{split}2017.json": 1 for split in counts}

    def write(folder: Path) -> None:
        (folder / "annotations").mkdir()
        for split, count in counts.items():
            _write_split(folder, split, count, image_size)

    return write_generated(root, SETTINGS_FILE, settings, files, write)


def draw_shapes_image(split: str, index: int, image_size: tuple[int, int]) -> Scene:
    """Draw image ``index`` of a split; nothing but the arguments and :data:`VERSION` decides what is seen.

    The objects' kinds are indices into :data:`fvnet_mm.data.kinds.KINDS`.
    """
    rng = np.random.default_rng([VERSION, SEED, _SPLITS[split], index])
    return draw_scene(rng, KINDS[:CATEGORIES], SceneSettings(image_size))


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Outline a mask along its pixels' edges, in COCO's form [[x1, y1, x2, y2, ...], ...].

    COCO's polygons are united when they are drawn and know no holes, so a part with holes is cut through
    them. Coordinates are floats because mmdet scales them in place.

    Args:
        mask: (H, W) bool.
    """
    bounded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    starts = np.argwhere(np.diff(bounded, axis=1) == 1)
    ends = np.argwhere(np.diff(bounded, axis=1) == -1)
    runs = shapely.box(starts[:, 1], starts[:, 0], ends[:, 1], starts[:, 0] + 1)
    parts = list(shapely.get_parts(shapely.union_all(runs)))
    polygons = []
    while parts:
        part = parts.pop()
        if part.interiors:
            x = np.rint(part.interiors[0].centroid.x)
            left, bottom, right, top = part.bounds
            for half in (shapely.box(left, bottom, x, top), shapely.box(x, bottom, right, top)):
                cut = shapely.get_parts(shapely.intersection(part, half))
                parts.extend(piece for piece in cut if piece.geom_type == "Polygon")
            continue
        corners = shapely.get_coordinates(part.exterior.simplify(0))[:-1]
        polygons.append(corners.ravel().tolist())
    return polygons


def _write_split(root: Path, split: str, count: int, image_size: tuple[int, int]) -> None:
    """Write one split's images and its annotation file."""
    category_ids = {category.name: category.id for category in COCO_CATEGORIES}
    width, height = image_size
    images, annotations = [], []
    for index in range(count):
        scene = draw_shapes_image(split, index, image_size)
        image_id = _SPLITS[split] + index
        file_name = f"{image_id:012d}.jpg"
        write_image(root / f"{split}2017" / file_name, scene.image)
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height, "license": 1})
        for number, item in enumerate(scene.objects):
            rows, columns = np.nonzero(item.mask)
            left, top = int(columns.min()), int(rows.min())
            box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
            annotations.append(
                {
                    "id": image_id * _ANNOTATIONS_PER_IMAGE + number,
                    "image_id": image_id,
                    "category_id": category_ids[KINDS[item.kind].name],
                    "bbox": box,
                    "area": int(item.mask.sum()),
                    "iscrowd": 0,
                    "segmentation": mask_to_polygons(item.mask),
                }
            )
    document = {
        "info": {"description": "Generated shapes in COCO 2017's layout", "version": str(VERSION)},
        "licenses": [{"id": 1, "name": "Public domain", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"supercategory": category.supercategory, "id": category.id, "name": category.name}
            for category in COCO_CATEGORIES
        ],
    }
    (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(document))
