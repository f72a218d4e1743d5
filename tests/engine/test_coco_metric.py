"""The evaluation that is kept whole, beside mmdet's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO
from mmdet.evaluation import CocoMetric
from pycocotools import mask as coco_mask

from fvnet_mm.engine.coco_metric import AVERAGES, FullCocoMetric, detections_of, evaluate, figures_of
from fvnet_mm.report.metrics import in_percent


def found(file: Path, share: float) -> tuple[list[dict], dict]:
    """Detections near a share of the objects, and the data set's own description."""
    document = json.loads(file.read_text())
    labels = {category["id"]: i for i, category in enumerate(document["categories"])}
    generator = np.random.default_rng(0)
    samples = []
    for image in document["images"]:
        size = (image["height"], image["width"])
        objects = [item for item in document["annotations"] if item["image_id"] == image["id"]]
        objects = [item for item in objects if generator.random() < share]
        boxes = np.array([item["bbox"] for item in objects]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes = np.clip(boxes + generator.normal(0, 1.5, boxes.shape), 0, 64)
        masks = np.zeros((len(objects), *size), bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
            mask[top : bottom + 1, left : right + 1] = True
        instances = dict(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            scores=torch.tensor(generator.random(len(objects)), dtype=torch.float32),
            labels=torch.tensor([labels[item["category_id"]] for item in objects], dtype=torch.long),
            masks=torch.tensor(masks),
        )
        samples.append(dict(img_id=image["id"], ori_shape=size, pred_instances=instances))
    return samples, dict(classes=tuple(category["name"] for category in document["categories"]))


def evaluated(metric: CocoMetric, samples: list[dict], description: dict) -> dict[str, float]:
    metric.dataset_meta = description
    metric.process({}, samples)
    return metric.evaluate(size=len(samples))


@pytest.fixture
def annotations(tiny_coco: Path, tmp_path: Path) -> Path:
    """Eight images; ids of the categories fall where labels rise."""
    document = json.loads((tiny_coco / "annotations" / "instances_train2017.json").read_text())
    for item in document["annotations"]:
        item["category_id"] = 1000 - item["category_id"]
    for category in document["categories"]:
        category["id"] = 1000 - category["id"]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(document))
    return file


def test_it_agrees_with_mmdets(annotations: Path, tmp_path: Path) -> None:
    samples, description = found(annotations, share=0.8)
    metric = FullCocoMetric(str(annotations), ["bbox", "segm"], outfile_prefix=str(tmp_path / "own" / "val"))
    own = evaluated(metric, samples, description)
    (tmp_path / "theirs").mkdir()
    theirs = evaluated(
        CocoMetric(str(annotations), ["bbox", "segm"], outfile_prefix=str(tmp_path / "theirs" / "val")),
        samples,
        description,
    )
    assert own.keys() == theirs.keys()
    assert own["coco/bbox_mAP"] > 0.1
    assert own == pytest.approx(theirs, abs=0.00051)
    for kind in ("bbox", "segm"):
        name = f"val.{kind}.json"
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()

    assert list(metric.result.metrics) == [*AVERAGES, *(f"mask {name}" for name in AVERAGES)]
    for name, value in in_percent(own).items():
        assert metric.result.metrics[name] == pytest.approx(value, abs=1e-9)


def test_classes_have_their_own_figures(annotations: Path) -> None:
    """Only one class is detected: none but it has an AP above 0."""
    samples, description = found(annotations, share=1.0)
    label = int(samples[0]["pred_instances"]["labels"][0])
    for sample in samples:
        instances = sample["pred_instances"]
        kept = instances["labels"] == label
        sample["pred_instances"] = {name: value[kept] for name, value in instances.items()}
    metric = FullCocoMetric(str(annotations), ["bbox", "segm"])
    evaluated(metric, samples, description)
    for name in ("AP", "AP50", "mask AP", "mask AP50"):
        by_class = {which: figures[name] for which, figures in metric.result.per_class.items()}
        assert [which for which, value in by_class.items() if value] == [description["classes"][label]]
        defined = [value for value in by_class.values() if value is not None]
        assert np.mean(defined) == pytest.approx(metric.result.metrics[name], abs=1e-9)


def test_an_object_of_the_number_0_is_found(annotations: Path) -> None:
    """COCO's evaluation has 0 for 'not matched'."""
    samples, description = found(annotations, share=1.0)
    metrics = []
    for first in (1, 0):
        document = json.loads(annotations.read_text())
        for number, item in enumerate(document["annotations"], first):
            item["id"] = number
        annotations.write_text(json.dumps(document))
        metrics.append(FullCocoMetric(str(annotations), ["bbox", "segm"]))
        evaluated(metrics[-1], samples, description)
    assert metrics[0].result == metrics[1].result
    assert metrics[0].result.metrics["AP50"] == pytest.approx(100)


def test_nothing_found(annotations: Path) -> None:
    samples, description = found(annotations, share=0.0)
    metric = FullCocoMetric(str(annotations), "bbox")
    assert evaluated(metric, samples, description) == {}  # as mmdet's
    assert metric.result.metrics["AP"] == metric.result.metrics["AR_100"] == 0


def test_other_kinds_are_refused(annotations: Path) -> None:
    with pytest.raises(ValueError, match="metric='proposal' must be 'bbox', 'segm' or both"):
        FullCocoMetric(str(annotations), "proposal")


@pytest.mark.parametrize(("kind", "scores"), [("bbox", [0.5, 0.75]), ("segm", [0.25, 0.125])])
def test_masks_have_the_scores_that_are_theirs(kind: str, scores: list[float]) -> None:
    """As Mask Scoring R-CNN gives them."""
    result = dict(
        img_id=7,
        bboxes=torch.tensor([[1.0, 2, 5, 9], [0, 0, 3, 4]]),
        scores=torch.tensor([0.5, 0.75]),
        mask_scores=torch.tensor([0.25, 0.125]),
        labels=torch.tensor([1, 0]),
        masks=[dict(size=[9, 9], counts=b"a"), dict(size=[9, 9], counts="b")],
    )
    found = list(detections_of(result, kind, category_ids=[30, 10]))
    assert [detection["score"] for detection in found] == scores
    assert [detection["bbox"] for detection in found] == [[1, 2, 4, 7], [0, 0, 3, 4]]
    assert [(detection["image_id"], detection["category_id"]) for detection in found] == [(7, 10), (7, 30)]
    if kind == "segm":
        assert [detection["segmentation"]["counts"] for detection in found] == ["a", "b"]


def test_what_has_no_number_for_a_score_is_not_detected() -> None:
    result = dict(
        img_id=7,
        bboxes=torch.tensor([[1.0, 2, 5, 9], [0, 0, 3, 4]]),
        scores=torch.tensor([torch.nan, 0.75]),
        labels=torch.tensor([1, 0]),
    )
    assert [detection["score"] for detection in detections_of(result, "bbox", category_ids=[30, 10])] == [0.75]


def test_a_mask_is_as_large_as_itself_not_as_its_box(tmp_path: Path) -> None:
    """A wrong mask of 100 pixels in a box of 2500: among small objects it counts, before the right one of 400."""

    def entry(side: int, corner: int) -> dict[str, object]:
        mask = np.zeros((100, 100), np.uint8, order="F")
        mask[corner : corner + side, corner : corner + side] = 1
        code = coco_mask.encode(mask)
        code["counts"] = code["counts"].decode()
        return dict(image_id=1, category_id=1, bbox=[corner, corner, side, side], segmentation=code)

    right, wrong = entry(20, 0), entry(10, 40) | dict(bbox=[40, 40, 50, 50])
    document = dict(
        images=[dict(id=1, file_name="1.jpg", width=100, height=100)],
        categories=[dict(id=1, name="cup")],
        annotations=[right | dict(id=1, area=400, iscrowd=0)],
    )
    (tmp_path / "truth.json").write_text(json.dumps(document))
    detections = [wrong | dict(score=0.9), right | dict(score=0.8)]
    figures, _ = figures_of(evaluate(COCO(str(tmp_path / "truth.json")), detections, "segm", [1]))
    assert (figures["AP"], figures["AP_S"]) == pytest.approx((50, 50))
