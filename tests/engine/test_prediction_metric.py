import json
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy
from mmpretrain.structures import DataSample

from fvnet_mm.engine.prediction_metric import SavedPredictions

CLASSES = 4
IMAGES = 10


@pytest.fixture
def samples() -> list[DataSample]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(IMAGES):
        scores = torch.rand(CLASSES, generator=generator).softmax(0)
        sample = DataSample(metainfo=dict(img_path=f"data/val/class {number % CLASSES}/{number}.jpg"))
        found.append(
            sample.set_gt_label(number % CLASSES).set_pred_score(scores).set_pred_label(scores.argmax(0, keepdim=True))
        )
    return found


def evaluate(samples: list[DataSample], out_file: Path) -> dict[str, float]:
    metrics = [dict(type="SavedPredictions", out_file=str(out_file), image_dir="data/val"), Accuracy(topk=1)]
    evaluator = Evaluator([METRICS.build(metric) if isinstance(metric, dict) else metric for metric in metrics])
    for start in range(0, len(samples), 3):
        evaluator.process(samples[start : start + 3])
    return evaluator.evaluate(len(samples))


def test_predictions_give_mmpretrains_accuracy(samples: list[DataSample], tmp_path: Path):
    out_file = tmp_path / "predictions" / "val.json"
    metrics = evaluate(samples, out_file)
    entries = json.loads(out_file.read_text())
    right = [entry["label"] == entry["prediction"] for entry in entries]
    assert metrics == {"accuracy/top1": pytest.approx(100 * sum(right) / IMAGES)}
    assert 0 < sum(right) < IMAGES
    assert [entry["file"] for entry in entries] == [f"class {n % CLASSES}/{n}.jpg" for n in range(IMAGES)]
    for entry, sample in zip(entries, samples, strict=True):
        assert entry["score"] == pytest.approx(float(sample.pred_score.max()), abs=1e-6)
        assert entry["label"] == int(sample.gt_label)


def test_next_evaluation_replaces_the_file(samples: list[DataSample], tmp_path: Path):
    out_file = tmp_path / "val.json"
    evaluate(samples, out_file)
    evaluate(samples[:4], out_file)
    assert len(json.loads(out_file.read_text())) == 4
    assert list(tmp_path.iterdir()) == [out_file]


def test_images_that_fill_up_the_last_batch_are_dropped(samples: list[DataSample], tmp_path: Path):
    """Distributed samplers repeat images; the evaluator is told how many there are."""
    metric = SavedPredictions(str(tmp_path / "val.json"), "data/val")
    metric.process(None, [sample.to_dict() for sample in [*samples, *samples[:2]]])
    assert metric.evaluate(IMAGES) == {}
    assert len(json.loads((tmp_path / "val.json").read_text())) == IMAGES


def test_folder_may_be_named_in_another_way(samples: list[DataSample], tmp_path: Path):
    metric = SavedPredictions(str(tmp_path / "val.json"), str(Path("data/val").absolute()))
    metric.process(None, [samples[0].to_dict()])
    metric.evaluate(1)
    assert json.loads((tmp_path / "val.json").read_text())[0]["file"] == "class 0/0.jpg"
