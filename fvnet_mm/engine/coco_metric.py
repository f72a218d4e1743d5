"""COCO's evaluation with all that it computes: unrounded, with recall, and for each class."""

import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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
    """mmdet's ``CocoMetric`` with its result files and names, from one evaluation by pycocotools that is kept whole.

    mmdet rounds to a tenth of a percent, and evaluates up to 1000 detections of an image where COCO takes 100. Where
    nothing was detected no metric is logged, as by mmdet, but the figures are there and 0.

    Args:
        ann_file: Annotation file.
        metric: 'bbox', 'segm', or both.
        outfile_prefix: What the result files begin with, before ``.bbox.json`` and ``.segm.json``.
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
        super().__init__(ann_file, kinds, outfile_prefix=outfile_prefix, prefix=prefix, collect_device=collect_device)
        if not set(kinds) <= {"bbox", "segm"}:
            raise ValueError(f"metric={metric!r} must be 'bbox', 'segm' or both")
        self.result: CocoResult | None = None

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Writes the result files and evaluates them; mmengine calls this in the main process."""
        self.cat_ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta["classes"])
        self.img_ids = self._coco_api.get_img_ids()
        with contextlib.ExitStack() as stack:
            prefix = self.outfile_prefix or str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "results"))
            Path(prefix).parent.mkdir(parents=True, exist_ok=True)
            files = self.results2json([prediction for _, prediction in results], prefix)
            evaluations = {
                kind: evaluate(self._coco_api, Path(files[kind]), kind, self.cat_ids) for kind in self.metrics
            }
        self.result = CocoResult()
        logged: dict[str, float] = {}
        for kind, evaluation in evaluations.items():
            before = "mask " if kind == "segm" else ""
            figures, per_class = figures_of(evaluation)
            self.result.metrics |= {before + name: value for name, value in figures.items()}
            for name, of_class in per_class.items():
                own = self.result.per_class.setdefault(name, {})
                own |= {before + metric: value for metric, value in of_class.items()}
            if evaluation.cocoDt.anns:
                shown = {key: figures[name] for name, key in _LOGGED.items()}
                logged |= {f"{kind}_{key}": -1.0 if value is None else value / 100 for key, value in shown.items()}
        return logged


def evaluate(truth: COCO, result_file: Path, kind: str, category_ids: Sequence[int]) -> COCOeval:
    """Evaluates a COCO result file at pycocotools' own settings, without a word on the console.

    Args:
        truth: The annotations.
        result_file: Detections, as a JSON list; it may be empty.
        kind: 'bbox' or 'segm'.
        category_ids: Categories that count.
    """
    detections = json.loads(result_file.read_bytes())
    if kind == "segm":
        for detection in detections:
            detection.pop("bbox", None)  # or pycocotools would take the area of the box for that of the mask
    with contextlib.redirect_stdout(io.StringIO()):
        if detections:
            found = truth.loadRes(detections)
        else:
            found = COCO()
            found.dataset = {"images": truth.dataset["images"], "categories": truth.dataset["categories"]}
            found.createIndex()
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.catIds = list(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def figures_of(evaluation: COCOeval) -> tuple[Figures, dict[str, Figures]]:
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
