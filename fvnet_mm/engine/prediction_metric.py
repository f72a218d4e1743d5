"""Keeping what a classifier predicts for each image, as mmdet's and mmseg's metrics do for theirs."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from fvnet_mm.files import write_text


class ClassPrediction(TypedDict):
    """What a classifier said of an image.

    Attributes:
        file: The image, relative to its split's folder, with forward slashes.
        label: Index of the true class.
        prediction: Index of the class with the highest score.
        score: That score, in [0, 1].
    """

    file: str
    label: int
    prediction: int
    score: float


@METRICS.register_module()
class SavedPredictions(BaseMetric):
    """Writes each evaluation's predictions into a JSON file and adds no metric.

    The file is a list of :class:`ClassPrediction` in the data set's order; the next evaluation replaces it.

    Args:
        out_file: The file to write.
        image_dir: Folder of the split's images.
        collect_device: Where the processes' results meet, 'cpu' or 'gpu'.
    """

    default_prefix = "saved"  # of no metric; mmengine warns where there is none

    def __init__(self, out_file: str, image_dir: str, collect_device: str = "cpu") -> None:
        super().__init__(collect_device=collect_device)
        self.out_file = Path(out_file)
        self.image_dir = Path(image_dir)

    def process(self, data_batch: object, data_samples: Sequence[dict[str, object]]) -> None:
        """Keeps a batch's predictions.

        Args:
            data_batch: Not used.
            data_samples: mmpretrain's, with ``img_path``, ``gt_label``, ``pred_label`` and ``pred_score``.
        """
        for sample in data_samples:
            scores: torch.Tensor = sample["pred_score"]
            prediction = int(sample["pred_label"])
            self.results.append(
                ClassPrediction(
                    file=Path(os.path.relpath(sample["img_path"], self.image_dir)).as_posix(),
                    label=int(sample["gt_label"]),
                    prediction=prediction,
                    score=round(float(scores[prediction]), 6),
                )
            )

    def compute_metrics(self, results: list[ClassPrediction]) -> dict[str, float]:
        """Writes the file; mmengine calls this in the main process, with the results of all."""
        write_text(self.out_file, json.dumps(results) + "\n")
        return {}
