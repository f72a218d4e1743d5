"""The metric that sums up one matrix, beside mmseg's that keeps histograms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from PIL import Image

from fvnet_mm.engine.iou_metric import ConfusionIoUMetric, confusion_of

CLASSES = ("sky", "tree", "road", "lamp", "nothing")


def samples(count: int, device: str = "cpu") -> list[dict[str, object]]:
    """Predictions that are right in two pixels of three; no pixel is of the last class, some are ignored."""
    generator = torch.Generator().manual_seed(count)
    found = []
    for number in range(count):
        shape = (1, 20 + number, 30)
        truth = torch.randint(0, 4, shape, generator=generator)
        other = torch.randint(0, 4, shape, generator=generator)
        prediction = torch.where(torch.rand(shape, generator=generator) < 0.66, truth, other).to(device)
        truth[torch.rand(shape, generator=generator) < 0.1] = 255
        entry = dict(img_path=f"images/{number:03}.jpg", reduce_zero_label=True)
        found.append(entry | dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=truth.to(torch.uint8))))
    return found


def evaluated(metric: IoUMetric, found: list[dict[str, object]], size: int | None = None) -> dict[str, float]:
    metric.dataset_meta = dict(classes=CLASSES)
    for start in range(0, len(found), 2):
        metric.process({}, found[start : start + 2])
    return metric.evaluate(size or len(found))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_it_agrees_with_mmsegs(count: int, tmp_path: Path) -> None:
    kinds = ["mIoU", "mDice", "mFscore"]
    own = ConfusionIoUMetric(iou_metrics=kinds, output_dir=str(tmp_path / "own"))
    theirs = IoUMetric(iou_metrics=kinds, output_dir=str(tmp_path / "theirs"))
    expected = evaluated(theirs, samples(count))
    assert evaluated(own, samples(count)) == pytest.approx(expected, abs=0.0101, nan_ok=True)  # rounded to 0.01
    files = sorted((tmp_path / "theirs").iterdir())
    assert len(files) == count
    for file in files:
        assert np.array_equal(Image.open(file), Image.open(tmp_path / "own" / file.name))


@pytest.mark.parametrize("reduced", [True, False])
def test_files_are_numbered_as_the_data_sets_own(reduced: bool, tmp_path: Path) -> None:
    """ADE20K's labels begin at 1, which mmseg takes off; others' at 0."""
    found = [sample | dict(reduce_zero_label=reduced) for sample in samples(2)]
    evaluated(ConfusionIoUMetric(output_dir=str(tmp_path)), found)
    for sample in found:
        written = np.array(Image.open(tmp_path / f"{Path(sample['img_path']).stem}.png"))
        assert np.array_equal(written, sample["pred_sem_seg"]["data"][0].numpy() + reduced)


def test_every_evaluation_begins_anew() -> None:
    metric = ConfusionIoUMetric()
    evaluated(metric, samples(5))
    again = evaluated(metric, samples(3))
    assert again == evaluated(ConfusionIoUMetric(), samples(3))
    counted = sum(int((sample["gt_sem_seg"]["data"] != 255).sum()) for sample in samples(3))
    assert metric.confusion.sum() == counted


def test_an_image_that_only_fills_up_the_last_batch_does_not_count() -> None:
    """Several processes see equally many images; mmengine drops those that are there twice."""
    expected = evaluated(ConfusionIoUMetric(), samples(5)[:4])
    assert evaluated(ConfusionIoUMetric(), samples(5), size=4) == expected
    assert expected == pytest.approx(evaluated(IoUMetric(), samples(5)[:4]), abs=0.0101)


def test_labels_of_no_class_are_errors_of_nobody() -> None:
    truth = torch.tensor([[0, 1, 7, 255]])
    matrix = confusion_of(truth, torch.tensor([[0, 0, 1, 1]]), 2, ignored=255)
    assert matrix.tolist() == [[1, 0], [1, 0], [0, 1]]


@pytest.mark.gpu
def test_the_matrix_stays_on_the_gpu() -> None:
    metric = ConfusionIoUMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples(4, "cuda"))
    assert metric._last.is_cuda
    assert metric._before.is_cuda
    assert metric.evaluate(4) == evaluated(ConfusionIoUMetric(), samples(4))
