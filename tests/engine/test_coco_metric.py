"""The evaluation that is kept whole, beside mmdet's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric

from fvnet_mm.engine.coco_metric import AVERAGES, FullCocoMetric
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


def test_nothing_found(annotations: Path) -> None:
    samples, description = found(annotations, share=0.0)
    metric = FullCocoMetric(str(annotations), "bbox")
    assert evaluated(metric, samples, description) == {}  # as mmdet's
    assert metric.result.metrics["AP"] == metric.result.metrics["AR_100"] == 0


def test_other_kinds_are_refused(annotations: Path) -> None:
    with pytest.raises(ValueError, match="metric='proposal' must be 'bbox', 'segm' or both"):
        FullCocoMetric(str(annotations), "proposal")
