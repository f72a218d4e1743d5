"""What an evaluation found, in full: every figure, every class, and where the predictions are."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fvnet_mm.data.ade20k_layout import Ade20kFolder, Ade20kSplit
from fvnet_mm.data.coco_layout import CocoFolder
from fvnet_mm.engine.coco_metric import CocoResult, Figures
from fvnet_mm.engine.tasks.base import Folder
from fvnet_mm.files import sha256_of
from fvnet_mm.records import ClassResult, Predictions, Result
from fvnet_mm.report.metrics import in_percent


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
            classes have no figures of their own.
        folder: The data it ran on.
        place: Where the predictions are: a folder, or files with suffixes added; None where they are not kept in the
            form that a record names.
        work_dir: Folder of the record.
    """
    if isinstance(folder, Ade20kFolder) and folder.val.shared_names:
        place = None  # mmseg names label maps by the last part of the image's name
    metrics: Figures = dict(in_percent(logged))
    per_class: Mapping[str, Figures] = {}
    confusion = None
    if isinstance(folder, CocoFolder):
        if kept is not None:
            metrics, per_class = metrics | kept.metrics, kept.per_class
    elif isinstance(folder, Ade20kFolder):
        if kept is not None and (place is None or _evaluated(folder.val, place)):
            confusion = kept
            overall, by_class = segmentation_figures(confusion)
            metrics, per_class = metrics | overall, dict(zip(folder.classes, by_class, strict=True))
    elif place is not None:
        per_class = _classifier_figures(Path(f"{place}.json"), folder.classes)
    saved = _predictions(folder, place, work_dir, masks=any("mask AP" in name for name in metrics)) if place else ()
    classes = [name for name in folder.classes if name in per_class]
    return Result(
        metrics=metrics,
        per_class=tuple(ClassResult(name=name, metrics=per_class[name]) for name in classes),
        confusion=None if confusion is None else tuple(map(tuple, confusion.tolist())),
        predictions=tuple(saved),
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
    """Whether every image has a label map; removes those of images that an earlier evaluation had."""
    names = [f"{Path(stem).name}.png" for stem in split.stems]
    for path in place.glob("*.png"):
        if path.name not in set(names):
            path.unlink()
    return all((place / name).is_file() for name in names)


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


def _or_none(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
