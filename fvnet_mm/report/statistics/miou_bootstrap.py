"""mIoU on resampled images, from the areas of each class in each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvnet_mm.data.coco_document import enumerate_offenders
from fvnet_mm.errors import UserError
from fvnet_mm.report.saved_predictions import NOT_LABELLED, read_label_map
from fvnet_mm.report.statistics.resampling import Values, mean_of_defined


@dataclass(frozen=True)
class ClassAreas:
    """Pixels of each class in each image, where it is labelled: all that mIoU depends on.

    Attributes:
        files: Names of the images' label maps, in order.
        intersect: (classes, images) pixels whose class was found.
        predicted: (classes, images) pixels that were taken for the class.
        labelled: (classes, images) pixels of the class.
    """

    files: tuple[str, ...]
    intersect: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray


def measure_areas(
    truth_dir: Path, prediction_dir: Path, classes: int, progress: Callable[[int, int], None] | None = None
) -> ClassAreas:
    """Measure a folder of predicted label maps against the labels of the same names.

    The images are those that were predicted.

    Args:
        truth_dir: PNG files, in folders of their own or not, .PNG too; value v is class v - 1,
            :data:`~fvnet_mm.report.saved_predictions.NOT_LABELLED` no class.
        prediction_dir: PNG files of the same names, in which every pixel has a class, numbered so, too.
        classes: Number of classes.
        progress: Told how many of how many images are done.

    Raises:
        UserError: there is no prediction, one has no labels or several files of its name, or a file is broken, of
            another size, or has a value that is no class.
    """
    truth: dict[str, list[Path]] = defaultdict(list)
    for path in Path(truth_dir).rglob("*.[pP][nN][gG]"):
        truth[f"{path.stem}.png"].append(path)
    if not truth:
        raise UserError(f"the labels {truth_dir} are no folder of PNG files; name where the data set is.")
    predictions = {path.name: path for path in sorted(Path(prediction_dir).glob("*.png"))}
    if not predictions:
        raise UserError(f"the predictions {prediction_dir} are no folder of PNG files; evaluate again.")
    if others := sorted(predictions.keys() - truth.keys()):
        raise UserError(
            f"the predictions {prediction_dir} are of other images than {truth_dir} has"
            f" ({enumerate_offenders(others)}); name the data set that they were made for."
        )
    for name in predictions:
        if len(truth[name]) > 1:
            places = " and ".join(map(str, sorted(truth[name])[:2]))
            raise UserError(f"the labels of {name} may be {places}; name the folder of the split that was predicted.")
    areas = np.zeros((3, classes, len(predictions)))
    for number, name in enumerate(predictions):
        (file,) = truth[name]
        labels = read_label_map(file, "label map", classes, NOT_LABELLED)
        found = read_label_map(predictions[name], "prediction", classes)
        if labels.shape != found.shape:
            raise UserError(
                f"{predictions[name]} is {found.shape[1]} x {found.shape[0]} pixels large, its labels {file}"
                f" {labels.shape[1]} x {labels.shape[0]}; keep predictions at the images' own size."
            )
        inside = ~np.isin(labels, NOT_LABELLED)
        labels, found = labels[inside], found[inside]
        for part, values in enumerate((labels[labels == found], found, labels)):
            areas[part, :, number] = np.bincount(values, minlength=classes + 1)[1:]
        if progress is not None:
            progress(number + 1, len(predictions))
    return ClassAreas(tuple(predictions), *areas)


class SegmentationEvaluation:
    """mIoU, mAcc and aAcc of one model on resamples, as mmseg's ``IoUMetric`` defines them; per class IoU.

    The areas of a resample are the sums of its images' areas, which are whole numbers below 2^53: exact. A class that
    a resample neither holds nor shows is left out of the mean.

    Args:
        areas: Of the model's predictions.
    """

    def __init__(self, areas: ClassAreas) -> None:
        self._areas = np.concatenate([areas.intersect, areas.predicted, areas.labelled])

    def __call__(self, times: np.ndarray) -> Values:
        """Evaluate resamples: ``times`` is (images, B), how often each image is in each, as float64."""
        intersect, predicted, labelled = np.split(self._areas @ times, 3)
        per_class = _percent(intersect, predicted + labelled - intersect)
        metrics = {
            "mIoU": mean_of_defined(per_class),
            "mAcc": mean_of_defined(_percent(intersect, labelled)),
            "aAcc": _percent(intersect.sum(axis=0), labelled.sum(axis=0)),
        }
        return Values(metrics, per_class)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to be a part of."""
    return np.divide(100 * part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
