"""COCO's evaluation with all that it computes: unrounded, with recall, and for each class."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmdet.datasets.api_wrappers import COCO as MmdetCoco
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from fvnet_mm.files import write_text

AVERAGES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR_1", "AR_10", "AR_100", "AR_S", "AR_M", "AR_L")
"""pycocotools' twelve figures, in its order."""

_LOGGED = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "AP_S": "mAP_s", "AP_M": "mAP_m", "AP_L": "mAP_l"}

Figures = dict[str, float | None]


@dataclass
class CocoResult:
    """Figures of an evaluation in percent, of everything and by class name; None where nothing is to be found.

    Those of masks have the prefix 'mask '.
    """

    metrics: Figures = field(default_factory=dict)
    per_class: dict[str, Figures] = field(default_factory=dict)


@METRICS.register_module()
class FullCocoMetric(CocoMetric):
    """mmdet's ``CocoMetric`` with its result files and names, from one evaluation in C++ that is kept whole.

    mmdet rounds to a tenth of a percent, and evaluates up to 1000 detections of an image where COCO takes 100. Where
    nothing was detected no metric is logged, as by mmdet, but the figures are there and 0. The annotations are read
    when they are first needed.

    Args:
        ann_file: Annotation file.
        metric: 'bbox', 'segm', or both.
        outfile_prefix: What the result files begin with, before ``.bbox.json`` and ``.segm.json``; None writes none.
        prefix: Of the logged names.
        collect_device: Where the processes' results meet, 'cpu' or 'gpu'.

    Attributes:
        result: Of the last evaluation, in the main process.
    """

    def __init__(
        self,
        ann_file: str,
        metric: str | Sequence[str] = "bbox",
        outfile_prefix: str | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        kinds = [metric] if isinstance(metric, str) else list(metric)
        super().__init__(None, kinds, outfile_prefix=outfile_prefix, prefix=prefix, collect_device=collect_device)
        if not set(kinds) <= {"bbox", "segm"}:
            raise ValueError(f"metric={metric!r} must be 'bbox', 'segm' or both")
        if not Path(ann_file).is_file():
            raise ValueError(f"the annotation file {ann_file} does not exist")
        self.ann_file = ann_file
        self.result: CocoResult | None = None
        self._truth: COCO | None = None
        self._coco_api = MmdetCoco()  # tells mmdet that the truth is in a file, not in the data set's samples

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Writes the result files and evaluates them; mmengine calls this in the main process."""
        if self._truth is None:
            self._truth = read_truth(self.ann_file)
        category_ids = self._truth.getCatIds(catNms=self.dataset_meta["classes"])
        self.result = CocoResult()
        logged: dict[str, float] = {}
        for kind in self.metrics:
            detections = [item for _, result in results for item in detections_of(result, kind, category_ids)]
            if self.outfile_prefix is not None:
                # Three times as fast as json.dump.
                write_text(Path(f"{self.outfile_prefix}.{kind}.json"), json.dumps(detections))
            figures, per_class = figures_of(evaluate(self._truth, detections, kind, category_ids))
            before = "mask " if kind == "segm" else ""
            self.result.metrics |= {before + name: value for name, value in figures.items()}
            for name, of_class in per_class.items():
                own = self.result.per_class.setdefault(name, {})
                own |= {before + metric: value for metric, value in of_class.items()}
            if detections:
                shown = {key: figures[name] for name, key in _LOGGED.items()}
                logged |= {f"{kind}_{key}": -1.0 if value is None else value / 100 for key, value in shown.items()}
        return logged


def read_truth(file: str) -> COCO:
    """The annotations of a file, numbered from 1.

    COCO's evaluation takes the number 0 for 'not matched', so that an object of that number would never be found; and
    there are tools that begin with it.
    """
    truth = COCO(file)
    if 0 in truth.anns:
        for number, annotation in enumerate(truth.dataset["annotations"], 1):
            annotation["id"] = number
        truth.createIndex()
    return truth


def detections_of(result: dict[str, object], kind: str, category_ids: Sequence[int]) -> Iterator[dict[str, object]]:
    """An image's detections as COCO's result files have them, with mmdet's keys in mmdet's order.

    What a network is not certain of in any number (NaN) it has not detected.

    Args:
        result: What mmdet's metric keeps of an image: ``img_id``, ``bboxes`` (N, 4) as corners, ``scores`` and
            ``labels`` (N,), and with masks ``masks`` (run-length codes) and perhaps ``mask_scores``.
        kind: 'bbox' or 'segm'.
        category_ids: By label.
    """
    scores = result["scores"] if kind == "bbox" else result.get("mask_scores", result["scores"])
    boxes = zip(result["bboxes"].tolist(), scores.tolist(), result["labels"].tolist(), strict=True)
    for number, ((left, top, right, bottom), score, label) in enumerate(boxes):
        if math.isnan(score):
            continue
        detection = {
            "image_id": result["img_id"],
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
            "category_id": category_ids[label],
        }
        if kind == "segm":
            code = result["masks"][number]
            counts = code["counts"]
            detection["segmentation"] = {**code, "counts": counts.decode() if isinstance(counts, bytes) else counts}
        yield detection


def evaluate(
    truth: COCO, detections: list[dict[str, object]], kind: str, category_ids: Sequence[int]
) -> COCOeval_faster:
    """Evaluates detections at pycocotools' own settings, and to its figures.

    Args:
        truth: The annotations.
        detections: As result files have them; changed by the evaluation.
        kind: 'bbox' or 'segm'.
        category_ids: Categories that count.
    """
    if kind == "segm":
        for detection in detections:
            detection.pop("bbox", None)  # or its area would be taken for that of the mask
    evaluation = COCOeval_faster(truth, truth.loadRes(detections), kind)
    evaluation.params.catIds = list(category_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def figures_of(evaluation: COCOeval_faster) -> tuple[Figures, dict[str, Figures]]:
    """An evaluation's twelve figures, and AP and AP50 of each class by name, all in percent.

    The mean of the classes' AP, over those that have one, is AP.
    """
    averages = {name: _percent(value) for name, value in zip(AVERAGES, evaluation.stats, strict=True)}
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # threshold, recall, class; all areas, 100 detections
    names = [evaluation.cocoGt.cats[number]["name"] for number in evaluation.params.catIds]  # evaluate() sorted them
    per_class = {
        name: {"AP": _percent(precision[..., i].mean()), "AP50": _percent(precision[0, :, i].mean())}
        for i, name in enumerate(names)
    }
    return averages, per_class


def _percent(share: np.floating) -> float | None:
    """None for -1, pycocotools' sign for 'of nothing', which all values of a class without objects are."""
    return None if share < 0 else 100 * float(share)
