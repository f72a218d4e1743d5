"""Generated annotations as many and as large as COCO's, for measurements of what grows with them."""

import json
import os
from pathlib import Path

import numpy as np

from fvnet_mm.data.shapes import write_coco_shapes

TRAINING_IMAGES, VALIDATION_IMAGES = 118_287, 5_000
"""Images of COCO 2017 (Lin et al., *Microsoft COCO*, ECCV 2014; sizes of the 2017 split on cocodataset.org)."""

IMAGE = (640, 480)
"""(width, height) of all images, COCO's most frequent."""

CORNERS = 24
"""Of an outline. With them the file for training is about as large as COCO's, 448 MB."""


def scene(images: int, detections: int, classes: int = 80) -> tuple[dict, list[dict]]:
    """Annotations as many and as large as COCO's, and mmdet's outputs of a middling detector."""
    rng = np.random.default_rng(0)
    annotations, outputs = [], []
    for image in range(1, images + 1):
        count = int(rng.poisson(7.3))
        corners = rng.random((count, 2)) * [560, 400]
        boxes = np.concatenate([corners, np.exp(rng.normal(3.7, 1, (count, 2))).clip(4, 400)], 1)
        labels = rng.choice(rng.choice(classes, 3), count)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            crowd = int(rng.random() < 0.02)
            entry = dict(id=len(annotations) + 1, image_id=image, category_id=label + 1, bbox=box, iscrowd=crowd)
            annotations.append(entry | dict(area=box[2] * box[3]))
        chosen = rng.integers(0, max(count, 1), detections)
        near = rng.random(detections) < (0.5 if count else 0)
        found = np.concatenate([rng.random((detections, 2)) * 500, rng.random((detections, 2)) * 200 + 4], 1)
        found_labels = rng.integers(0, classes, detections)
        if count:
            found[near] = boxes[chosen[near]] + rng.normal(0, 4, (near.sum(), 4))
            found_labels[near] = np.where(rng.random(near.sum()) < 0.7, labels[chosen[near]], found_labels[near])
        found[:, 2:] = found[:, :2] + found[:, 2:].clip(1)
        scores = rng.beta(1, np.where(near, 2, 12)).astype(np.float32)
        outputs.append(dict(img_id=image, bboxes=found.astype(np.float32), scores=scores, labels=found_labels))
    names = [dict(id=number + 1, name=f"class {number}") for number in range(classes)]
    files = [
        dict(id=number, file_name=f"{number}.jpg", width=IMAGE[0], height=IMAGE[1]) for number in range(1, images + 1)
    ]
    return dict(info={}, images=files, annotations=annotations, categories=names), outputs


def write_coco_sized(folder: Path, images: int) -> None:
    """Writes a folder in COCO's layout with so many images to train on, which are links to a few files."""
    files = sorted((write_coco_shapes(folder / "few", 16, 4, IMAGE) / "train2017").glob("*.jpg"))
    rng = np.random.default_rng(0)
    for split, count in (("train2017", images), ("val2017", min(images, VALIDATION_IMAGES))):
        truth, _ = scene(count, 0)
        for annotation in truth["annotations"]:
            x, y, width, height = annotation["bbox"]
            width, height = min(width, IMAGE[0] - x), min(height, IMAGE[1] - y)
            annotation |= dict(bbox=[x, y, width, height], area=width * height)
            outline = np.array([x, y]) + rng.random((CORNERS, 2)) * [width, height]
            annotation["segmentation"] = [outline.round(2).ravel().tolist()]
        (folder / split).mkdir(parents=True)
        for number, image in enumerate(truth["images"]):
            os.link(files[number % len(files)], folder / split / image["file_name"])
        file = folder / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(truth))
