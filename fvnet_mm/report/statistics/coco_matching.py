"""Detections matched with objects by pycocotools, once; what it finds is kept in a form that can be resampled."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fvnet_mm.data.coco_document import CocoDocument, enumerate_offenders
from fvnet_mm.errors import UserError
from fvnet_mm.report.saved_predictions import read_detections

AREAS = {"all": "", "small": "_S", "medium": "_M", "large": "_L"}
"""COCO's ranges of object size, and what a metric's name has at its end for them."""

FALSE, TRUE, IGNORED = range(3)
"""What becomes of a detection: it counts as an error, it finds an object, or it does not count."""

DETECTIONS = 100
"""Detections that count of an image and a class, the best ones; pycocotools' default and AP's."""


@dataclass(frozen=True)
class ClassMatches:
    """Detections and objects of one class in one range of sizes.

    Attributes:
        scores: (D,) float64, in the images' order, and from the highest down in an image.
        images: (D,) index of each detection's image.
        outcomes: (T, D) uint8 at each IoU threshold: FALSE, TRUE or IGNORED.
        objects: (N,) objects of each image that count, in the order of the images' ids.
    """

    scores: np.ndarray
    images: np.ndarray
    outcomes: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class CocoMatches:
    """All that AP depends on.

    Attributes:
        classes: Names, in the order of the categories' ids.
        thresholds: Of IoU.
        areas: For each of :data:`AREAS`, the matches of every class.
    """

    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    areas: dict[str, tuple[ClassMatches, ...]]


def match_detections(
    truth: CocoDocument,
    result_file: Path,
    iou_type: Literal["bbox", "segm"],
    classes: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CocoMatches:
    """Match a result file with the objects, as ``COCOeval.evaluate`` does.

    Args:
        truth: The annotation file.
        result_file: Boxes or masks in COCO's result format.
        iou_type: What overlaps: boxes or masks.
        classes: Names of the categories that count; None for all.
        progress: Told how many of how many classes are done.

    Raises:
        UserError: the result file is missing or broken, or has images or categories that ``truth`` lacks, or masks of
            another size.
    """
    detections = _read_detections(result_file, truth, iou_type)
    categories = [entry for entry in truth.categories if classes is None or entry["name"] in classes]
    categories.sort(key=lambda entry: entry["id"])
    # Copies, because pycocotools writes into them, numbered from 1, because it takes 0 for 'not matched'.
    objects = [{**annotation, "id": number} for number, annotation in enumerate(truth.annotations, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = _index(truth, objects)
        found = ground_truth.loadRes(detections) if detections else _index(truth, [])
        areas: dict[str, list[ClassMatches]] = {area: [] for area in AREAS}
        for number, category in enumerate(categories, 1):
            evaluation = COCOeval(ground_truth, found, iou_type)
            evaluation.params.catIds = [category["id"]]
            evaluation.params.maxDets = [DETECTIONS]
            evaluation.evaluate()
            for area, per_image in zip(evaluation.params.areaRngLbl, _chunks(evaluation), strict=True):
                areas[area].append(_compact(per_image, len(evaluation.params.iouThrs)))
            if progress is not None:
                progress(number, len(categories))
    return CocoMatches(
        classes=tuple(category["name"] for category in categories),
        thresholds=tuple(evaluation.params.iouThrs.tolist()),
        areas={area: tuple(per_class) for area, per_class in areas.items()},
    )


def _index(truth: CocoDocument, annotations: list[dict]) -> COCO:
    coco = COCO()
    coco.dataset = {"images": truth.images, "annotations": annotations, "categories": truth.categories, "info": {}}
    coco.createIndex()
    return coco


def _chunks(evaluation: COCOeval) -> list[list[dict | None]]:
    """The results of the images, for each range of sizes."""
    count = len(evaluation.params.imgIds)
    return [evaluation.evalImgs[start : start + count] for start in range(0, len(evaluation.evalImgs), count)]


def _compact(per_image: Sequence[dict | None], thresholds: int) -> ClassMatches:
    objects = np.zeros(len(per_image))
    scores, images, outcomes = [np.empty(0)], [np.empty(0, int)], [np.empty((thresholds, 0), np.uint8)]
    for index, result in enumerate(per_image):
        if result is None:
            continue
        objects[index] = np.count_nonzero(result["gtIgnore"] == 0)
        scores.append(np.asarray(result["dtScores"], float))
        images.append(np.full(len(result["dtScores"]), index))
        # A match is the id of the object, so that pycocotools takes the object 0 for none.
        matched = np.where(result["dtMatches"] != 0, TRUE, FALSE)
        outcomes.append(np.where(result["dtIgnore"], IGNORED, matched).astype(np.uint8))
    return ClassMatches(np.concatenate(scores), np.concatenate(images), np.concatenate(outcomes, axis=1), objects)


def _read_detections(path: Path, truth: CocoDocument, iou_type: str) -> list[dict]:
    entries = read_detections(path, truth, ["bbox"] if iou_type == "bbox" else ["segmentation"])
    if iou_type == "segm":
        _check_masks(path, truth, entries)
    # pycocotools takes the area of a box beside a mask for the mask's.
    dropped = {"bbox"} if iou_type == "segm" else {"segmentation"}
    return [{key: value for key, value in entry.items() if key not in dropped} for entry in entries]


def _check_masks(path: Path, truth: CocoDocument, entries: list[dict]) -> None:
    """pycocotools takes masks of different sizes for such that don't overlap."""
    without = [annotation["id"] for annotation in truth.annotations if not annotation.get("segmentation")]
    if without:
        raise UserError(
            f"{truth.path} has no masks for the annotations {enumerate_offenders(without)}; name the file with masks."
        )
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth.images}
    for entry in entries:
        image, size = entry["image_id"], entry["segmentation"]["size"]
        if size != sizes[image]:
            raise UserError(
                f"{path} has a mask of {size} pixels (height, width) in image {image} of {sizes[image]}; evaluate again"
                " at the images' own size."
            )
