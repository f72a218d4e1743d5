"""Top-1 accuracy of classifiers on resampled images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from fvnet_mm.data.coco_document import enumerate_offenders
from fvnet_mm.errors import UserError
from fvnet_mm.report.saved_predictions import read_json
from fvnet_mm.report.statistics.resampling import Values


class AccuracyEvaluation:
    """Top-1 accuracy of one model on resamples; per class the share of its images that were recognised.

    Args:
        labels: (N,) index of each image's class.
        predictions: (N,) index of the class with the highest score.
        classes: Number of classes.
    """

    def __init__(self, labels: np.ndarray, predictions: np.ndarray, classes: int) -> None:
        self.images = len(labels)
        place = (labels, np.arange(self.images))
        shape = (classes, self.images)
        self._all = sparse.csr_array((np.ones(self.images), place), shape=shape)
        self._right = sparse.csr_array(((labels == predictions).astype(float), place), shape=shape)

    def __call__(self, times: np.ndarray) -> Values:
        """Evaluate resamples: ``times`` is (images, B), how often each image is in each, as float64."""
        right, count = self._right @ times, self._all @ times
        per_class = np.divide(100 * right, count, out=np.full(right.shape, np.nan), where=count > 0)
        return Values({"top-1": 100 * right.sum(axis=0) / count.sum(axis=0)}, per_class)


def read_classes(path: Path, classes: int) -> dict[str, tuple[int, int]]:
    """Read a classifier's saved predictions: file name -> label and prediction, sorted by name.

    Raises:
        UserError: the file is missing or not what ``SavedPredictions`` writes.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(map(_is_prediction, entries)):
        raise UserError(f"{path} is not a list of objects with file, label and prediction; evaluate again.")
    found = {entry["file"]: (entry["label"], entry["prediction"]) for entry in entries}
    if len(found) < len(entries):
        raise UserError(f"{path} has {len(entries) - len(found):,} images more than once; evaluate again.")
    wrong = sorted({number for pair in found.values() for number in pair if not 0 <= number < classes})
    if wrong:
        raise UserError(
            f"{path} has the classes {enumerate_offenders(wrong)}, but the {classes} classes of its record are numbered"
            f" 0 to {classes - 1}; evaluate again."
        )
    return dict(sorted(found.items()))


def _is_prediction(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        return False
    return all(type(entry.get(key)) is int for key in ("label", "prediction"))
