"""Saved predictions of several runs, read into what evaluates them on resampled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvnet_mm.data.coco_document import enumerate_offenders, read_coco_document
from fvnet_mm.errors import UserError
from fvnet_mm.report.saved_predictions import read_class_predictions
from fvnet_mm.report.statistics.accuracy_bootstrap import AccuracyEvaluation
from fvnet_mm.report.statistics.coco_bootstrap import CocoEvaluation
from fvnet_mm.report.statistics.coco_matching import match_detections
from fvnet_mm.report.statistics.miou_bootstrap import SegmentationEvaluation, measure_areas
from fvnet_mm.report.statistics.resampling import Evaluation, Resamples
from fvnet_mm.report.statistics.runs import Run, find_ground_truth

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much is."""

CLASS_METRICS = {"coco_boxes": "AP", "coco_masks": "mask AP", "label_maps": "IoU", "classes": "top-1"}
"""What a class is measured by, for each kind of predictions."""


@dataclass(frozen=True)
class ReadPredictions:
    """Predictions of one kind.

    Attributes:
        resamples: Of their images.
        classes: Names, in the order of the values per class.
        evaluations: One of each run.
    """

    resamples: Resamples
    classes: tuple[str, ...]
    evaluations: list[Evaluation]


def read_predictions(
    kind: str,
    runs: Sequence[Run],
    count: int,
    seed: int,
    ground_truth: Path | None = None,
    progress: Progress | None = None,
) -> ReadPredictions:
    """Read the predictions of one kind that the runs keep.

    Args:
        kind: A key of :data:`CLASS_METRICS`.
        runs: That :func:`~fvnet_mm.report.statistics.runs.check_comparable` has found to be so.
        count: Resamples that will be drawn of the images.
        seed: Of their drawing.
        ground_truth: Where it is, if not where the records say.
        progress: Told of each file.

    Raises:
        UserError: predictions or ground truth are missing, broken, changed, or of other images than the records say.
    """
    files = [run.file(kind) for run in runs]
    reports = [_of_file(file, progress) for file in files]
    classes = runs[0].record.data.classes
    if kind == "classes":
        found = [read_class_predictions(file, len(classes)) for file in files]
        for of_run in found:
            of_run.sort(key=lambda entry: entry["file"])  # so that the runs have their images in one order
        _check_same_images(runs, [{entry["file"]: entry["label"] for entry in of_run} for of_run in found])
        pairs = [np.array([(entry["label"], entry["prediction"]) for entry in of_run]).T for of_run in found]
        evaluations = [AccuracyEvaluation(labels, predicted, len(classes)) for labels, predicted in pairs]
        return ReadPredictions(Resamples(len(found[0]), count, seed), classes, evaluations)
    truth = find_ground_truth(runs, kind, ground_truth)
    if kind == "label_maps":
        areas = [measure_areas(truth, file, len(classes), report) for file, report in zip(files, reports, strict=True)]
        _check_same_images(runs, [of_run.files for of_run in areas])
        evaluations = [SegmentationEvaluation(of_run) for of_run in areas]
        return ReadPredictions(Resamples(len(areas[0].files), count, seed), classes, evaluations)
    document = read_coco_document(truth)
    if lacking := sorted(set(classes) - {category["name"] for category in document.categories}):
        raise UserError(
            f"{truth} lacks the categories {enumerate_offenders(lacking)} that {runs[0].name} detects; name the"
            " annotation file that it was evaluated with."
        )
    _check_count(runs, len(document.images), f"{truth} has")
    iou_type, prefix = ("bbox", "") if kind == "coco_boxes" else ("segm", "mask ")
    matches = [
        match_detections(document, file, iou_type, classes, report) for file, report in zip(files, reports, strict=True)
    ]
    resamples = Resamples(len(document.images), count, seed)
    evaluations = [CocoEvaluation(of_run, resamples.most_copies, prefix) for of_run in matches]
    return ReadPredictions(resamples, matches[0].classes, evaluations)


def _of_file(file: Path, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(f"reading {file}", done, total)


def _check_same_images(runs: Sequence[Run], images: Sequence[Sequence[str] | dict[str, int]]) -> None:
    for run, of_run in zip(runs, images, strict=True):
        if of_run != images[0]:
            raise UserError(
                f"the predictions of {runs[0].name} and {run.name} are of different images or labels; evaluate both on"
                " the same split."
            )
    _check_count(runs, len(images[0]), f"the predictions of {runs[0].name} are of")


def _check_count(runs: Sequence[Run], images: int, what: str) -> None:
    for run in runs:
        split = run.record.data.val
        if split is not None and split.images != images:
            raise UserError(
                f"{what} {images:,} images, but the record of {run.name} is of {split.images:,}; evaluate again on the"
                " whole split."
            )
