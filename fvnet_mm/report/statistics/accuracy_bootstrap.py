"""Top-1 accuracy of classifiers on resampled images."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from fvnet_mm.report.statistics.resampling import Values


class AccuracyEvaluation:
    """Top-1 accuracy of one model on resamples; per class the share of its images that were recognised.

    Args:
        labels: (N,) index of each image's class.
        predictions: (N,) index of the class with the highest score.
        classes: Number of classes.
    """

    def __init__(self, labels: np.ndarray, predictions: np.ndarray, classes: int) -> None:
        images = len(labels)
        place = (labels, np.arange(images))
        shape = (classes, images)
        self._all = sparse.csr_array((np.ones(images), place), shape=shape)
        self._right = sparse.csr_array(((labels == predictions).astype(float), place), shape=shape)

    def __call__(self, times: np.ndarray) -> Values:
        """Evaluate resamples: ``times`` is (images, B), how often each image is in each, as float64."""
        right, count = self._right @ times, self._all @ times
        per_class = np.divide(100 * right, count, out=np.full(right.shape, np.nan), where=count > 0)
        return Values({"top-1": 100 * right.sum(axis=0) / count.sum(axis=0)}, per_class)
