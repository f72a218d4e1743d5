"""mIoU from a confusion matrix that is summed up where the predictions are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric
from PIL import Image
from torch import Tensor


@METRICS.register_module()
class ConfusionIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric``, with its arguments, names and files, from one confusion matrix.

    mmseg moves four histograms of each image to the CPU, waiting for the GPU each time, and adds them up in float32,
    which cannot count beyond 2^24. Here an image is one histogram of integers on its own device, and one matrix is
    moved at the end.

    Attributes:
        confusion: Of the last evaluation, in the main process: pixels of class i (row) that were taken for class j,
            (C, C) int64.
    """

    confusion: np.ndarray | None = None
    _before: Tensor | None = None  # the sum over all images but the last
    _last: Tensor | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Adds a batch's images.

        Args:
            data_batch: Not used.
            data_samples: mmseg's, with ``pred_sem_seg`` and ``gt_sem_seg``, label maps of (1, H, W).
        """
        if self.format_only:
            super().process(data_batch, data_samples)
            return
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            prediction = sample["pred_sem_seg"]["data"].squeeze()
            truth = sample["gt_sem_seg"]["data"].squeeze().to(prediction.device)
            if self._last is not None:
                self._before = self._last if self._before is None else self._before + self._last
            self._last = confusion_of(truth, prediction, classes, self.ignore_index)
            self.results.append(None)
            if self.output_dir is not None:
                self._write(sample, prediction)

    def _write(self, sample: dict, prediction: Tensor) -> None:
        shift = 1 if sample.get("reduce_zero_label", False) else 0
        file = Path(self.output_dir, f"{Path(sample['img_path']).stem}.png")
        Image.fromarray((prediction + shift).to(torch.uint8).cpu().numpy()).save(file)

    def evaluate(self, size: int) -> dict[str, float]:
        """Computes the metrics of ``size`` images, which all processes have seen together.

        A process's last image may be another's first again, to make their numbers equal; mmengine drops what comes
        after ``size``, one entry for each image, and so the last has an entry of its own.
        """
        if self._last is not None:
            self.results[-1] = self._last.cpu()
            if self._before is not None:
                self.results[-2] = self._before.cpu()
        self._before = self._last = None
        return super().evaluate(size)

    def compute_metrics(self, results: list[Tensor | None]) -> dict[str, float]:
        """Sums up the matrices; mmengine calls this in the main process, with the entries of all."""
        if self.format_only:
            return super().compute_metrics(results)
        total = sum(matrix for matrix in results if matrix is not None)
        self.confusion = total[:-1].numpy()
        intersection, truth, taken = self.confusion.diagonal(), self.confusion.sum(1), total.sum(0).numpy()
        areas = (intersection, truth + taken - intersection, taken, truth)
        return super().compute_metrics([tuple(torch.from_numpy(area.astype(np.float64)) for area in areas)])


def confusion_of(truth: Tensor, prediction: Tensor, classes: int, ignored: int) -> Tensor:
    """The confusion matrix of an image, on its device.

    Args:
        truth: Labels (H, W).
        prediction: Labels (H, W), all of them classes.
        classes: Number of classes C.
        ignored: The label that counts for nothing.

    Returns:
        Pixels of class i (row) that were taken for class j, (C + 1, C) int64; the last row is of labels that are no
        class and not ignored.
    """
    counted = truth != ignored
    rows = truth[counted].long().clamp_(max=classes)
    pairs = rows.mul_(classes).add_(prediction[counted].long())
    return torch.bincount(pairs, minlength=(classes + 1) * classes).view(classes + 1, classes)
