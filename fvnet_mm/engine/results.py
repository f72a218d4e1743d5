"""What an evaluation found, in full: every figure, every class, and where the predictions are."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fvnet_mm.data.ade20k_layout import IGNORED, Ade20kFolder, Ade20kSplit
from fvnet_mm.data.coco_layout import CocoFolder
from fvnet_mm.engine.coco_metric import CocoResult
from fvnet_mm.engine.tasks.base import Folder
from fvnet_mm.files import sha256_of
from fvnet_mm.records import ClassResult, Predictions, Result
from fvnet_mm.report.metrics import in_percent

Figures = dict[str, float | None]


def result_of(
    logged: Mapping[str, float],
    kept: CocoResult | np.ndarray | None,
    folder: Folder,
    place: Path | None,
    work_dir: Path,
) -> Result:
    """The last evaluation in full, from its predictions.

    Args:
        logged: The metrics under the libraries' names.
        kept: What a detector's evaluator kept, or a segmentor's confusion matrix. None of one that keeps nothing: then
            a detector's classes have no figures of their own, and a segmentor's label maps are read.
        folder: The data it ran on.
        place: Where the predictions are: a folder, or files with suffixes added; None where they are not kept in the
            form that a record names.
        work_dir: Folder of the record.
    """
    metrics: Figures = dict(in_percent(logged))
    per_class: Mapping[str, Figures] = {}
    confusion = None
    if place is None:
        return Result(metrics=metrics)
    if isinstance(folder, CocoFolder):
        if kept is not None:
            metrics, per_class = metrics | kept.metrics, kept.per_class
    elif isinstance(folder, Ade20kFolder):
        if _evaluated(folder.val, place):
            confusion = sum_confusion(folder.val, place, len(folder.classes)) if kept is None else kept
            overall, by_class = segmentation_figures(confusion)
            metrics, per_class = metrics | overall, dict(zip(folder.classes, by_class, strict=True))
    else:
        per_class = _classifier_figures(Path(f"{place}.json"), folder.classes)
    classes = [name for name in folder.classes if name in per_class]
    return Result(
        metrics=metrics,
        per_class=tuple(ClassResult(name=name, metrics=per_class[name]) for name in classes),
        confusion=None if confusion is None else tuple(map(tuple, confusion.tolist())),
        predictions=tuple(_predictions(folder, place, work_dir, masks=any("mask AP" in name for name in metrics))),
    )


def _predictions(folder: Folder, place: Path, work_dir: Path, masks: bool) -> Iterator[Predictions]:
    if isinstance(folder, CocoFolder):
        truth = folder.val.annotation_file
        found = [("coco_boxes", Path(f"{place}.bbox.json"))]
        found += [("coco_masks", Path(f"{place}.segm.json"))] if masks else []
    elif isinstance(folder, Ade20kFolder):
        truth, found = folder.val.label_dir, [("label_maps", place)]
    else:
        truth, found = None, [("classes", Path(f"{place}.json"))]  # the labels stand beside the predictions
    for kind, path in found:
        if path.exists():
            yield Predictions(
                kind=kind,
                path=Path(os.path.relpath(path, work_dir)).as_posix(),
                ground_truth=str(truth.resolve()) if truth else None,
                sha256=sha256_of(path),
            )


def _evaluated(split: Ade20kSplit, place: Path) -> bool:
    """Whether every image has a label map of its own; removes those of images that an earlier evaluation had.

    mmseg names them by the last part of the image's name, so images of one name in two folders share one.
    """
    names = [f"{Path(stem).name}.png" for stem in split.stems]
    for path in place.glob("*.png"):
        if path.name not in set(names):
            path.unlink()
    return len(set(names)) == len(names) and all((place / name).is_file() for name in names)


def sum_confusion(split: Ade20kSplit, place: Path, classes: int) -> np.ndarray:
    """The pixels of class i (row) that were taken for class j, over all images: shape (classes, classes), int64."""

    def of_image(names: tuple[str, str]) -> np.ndarray:
        stem, label = names
        return confusion_of(_pixels(split.label_dir / label), _pixels(place / f"{Path(stem).name}.png"), classes)

    total = np.zeros((classes, classes), np.int64)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for matrix in pool.map(of_image, zip(split.stems, split.label_names, strict=True)):
            total += matrix
    return total


def confusion_of(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """The confusion matrix of an image.

    Args:
        truth: Labels (H, W), where k + 1 is class k, and 0 and 255 count for nothing.
        prediction: Labels (H, W) likewise, of which all are classes.
        classes: Number of classes.
    """
    counted = (truth != 0) & (truth != IGNORED)
    pairs = (truth[counted].astype(np.int64) - 1) * classes + (prediction[counted].astype(np.int64) - 1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def segmentation_figures(confusion: np.ndarray) -> tuple[Figures, list[Figures]]:
    """mIoU, mAcc and aAcc, and IoU and Acc of each class, in percent, as mmseg's ``IoUMetric`` but not rounded."""
    hit, truth, taken = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        iou, accuracy = 100 * hit / (truth + taken - hit), 100 * hit / truth
    overall = {
        "mIoU": float(np.nanmean(iou)),
        "mAcc": float(np.nanmean(accuracy)),
        "aAcc": float(100 * hit.sum() / truth.sum()),
    }
    return overall, [{"IoU": _or_none(i), "Acc": _or_none(a)} for i, a in zip(iou, accuracy, strict=True)]


def _classifier_figures(file: Path, classes: Sequence[str]) -> dict[str, Figures]:
    if not file.is_file():
        return {}
    predictions = json.loads(file.read_bytes())
    labels = np.array([item["label"] for item in predictions])
    right = labels == [item["prediction"] for item in predictions]
    return {
        name: {"top-1": 100 * float(right[labels == k].mean()) if (labels == k).any() else None}
        for k, name in enumerate(classes)
    }


def _pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def _or_none(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
