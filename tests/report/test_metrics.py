import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmpretrain.evaluation import Accuracy
from mmseg.evaluation import IoUMetric
from pycocotools import mask as coco_mask

from fvnet_mm.report.metrics import format_metrics, in_percent

SIZE = 64


@pytest.fixture
def detector_metrics(tmp_path: Path) -> dict[str, float]:
    """What mmdet says of a detector whose box is right and whose mask has 60 % of the true one's pixels."""
    square = [[10, 10, 50, 10, 50, 50, 10, 50]]
    annotation = dict(id=1, image_id=1, category_id=1, bbox=[10, 10, 40, 40], area=1600, iscrowd=0, segmentation=square)
    content = dict(
        images=[dict(id=1, file_name="1.jpg", width=SIZE, height=SIZE)],
        annotations=[annotation],
        categories=[dict(id=1, name="cat")],
        info={},
    )
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    metric = CocoMetric(str(file), metric=["bbox", "segm"])
    metric.dataset_meta = dict(classes=("cat",))
    mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
    mask[10:34, 10:50] = 1
    prediction = dict(
        bboxes=torch.tensor([[10.0, 10.0, 50.0, 50.0]]),
        scores=torch.tensor([0.9]),
        labels=torch.tensor([0]),
        masks=[coco_mask.encode(mask)],
    )
    metric.process({}, [dict(img_id=1, ori_shape=(SIZE, SIZE), pred_instances=prediction)])
    return metric.evaluate(1)


def test_detector(detector_metrics: dict[str, float]):
    found = in_percent(detector_metrics)
    assert found.pop("mask AP") == pytest.approx(30, abs=0.1)  # IoU 0.6: right at 0.50, 0.55 and 0.60
    assert found["AP"] == found["AP50"] == found["AP75"] == found["AP_M"] == pytest.approx(100, abs=0.1)
    assert found["mask AP50"] == pytest.approx(100, abs=0.1)
    assert found["mask AP75"] == 0
    assert not {"AP_S", "AP_L", "mask AP_S", "mask AP_L"} & found.keys()  # no object is that small or large
    assert format_metrics(detector_metrics).startswith("AP 100.0  AP50 100.0  AP75 100.0  AP_M 100.0  mask AP 30.0  ")


def test_segmentor():
    metric = IoUMetric(prefix=None)
    metric.dataset_meta = dict(classes=("sky", "road"))
    truth = torch.tensor([[0, 0, 0, 1, 255]])
    prediction = torch.tensor([[0, 0, 1, 1, 1]])
    metric.process({}, [{"pred_sem_seg": {"data": prediction}, "gt_sem_seg": {"data": truth}}])
    metrics = metric.evaluate(1)
    # IoU 2/3 and 1/2, accuracies 2/3 and 1, and 3 of 4 labelled pixels.
    assert format_metrics(metrics) == "mIoU 58.3  mAcc 83.3  aAcc 75.0"


def test_classifier():
    metric = Accuracy(topk=(1, 5))
    scores = torch.eye(8)[[0, 1, 2, 3]] + torch.linspace(0.5, 0, 8)
    for image, label in zip(scores, (0, 1, 4, 7), strict=True):
        metric.process({}, [{"pred_score": image, "gt_label": torch.tensor([label])}])
    metrics = metric.evaluate(4)
    assert format_metrics(metrics) == "top-1 50.0  top-5 75.0"


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        ({}, "AP 0.0  (no detection above the score threshold)"),
        ({"coco/bbox_mAP": -1.0}, "no AP: the evaluated images have no objects that count"),
        ({"coco/bbox_mAP": -1.0, "coco/segm_mAP": -1.0}, "no AP: the evaluated images have no objects that count"),
        ({"mIoU": math.nan}, "none of the usual metrics, but mIoU nan"),
        ({"a/mDice": 31.25}, "none of the usual metrics, but a/mDice 31.25"),
    ],
)
def test_nothing_to_show(metrics: dict[str, float], line: str):
    assert format_metrics(metrics) == line


def test_boxes_as_the_suite_has_always_written_them():
    keys = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
    metrics = {f"coco/bbox_{key}": number / 10 for number, key in enumerate(keys)}
    assert format_metrics(metrics) == "AP 0.0  AP50 10.0  AP75 20.0  AP_S 30.0  AP_M 40.0  AP_L 50.0"
