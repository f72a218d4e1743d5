import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor
from scipy.ndimage import gaussian_filter1d

from fvnet_mm.errors import UserError
from fvnet_mm.report.curves import draw_curves, smooth
from fvnet_mm.report.palette import BLUE, COLOURS, GREEN, INK, ORANGE, SKY, VERMILION


def drawn(tmp_path: Path, lines: list[dict]) -> np.ndarray:
    log = tmp_path / "scalars.json"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "vis" / "curves.png"
    draw_curves([log], out)
    with Image.open(out) as picture:
        return np.array(picture.convert("RGB"))


def has(picture: np.ndarray, colour: str) -> bool:
    return int((picture == ImageColor.getrgb(colour)).all(-1).sum()) > 50


def halves(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = picture.shape[1] // 2
    return picture[:, :middle], picture[:, middle:]


DETECTION = [{"loss": 5 / i, "loss_cls": 3 / i, "lr": 1e-3 / i, "epoch": 1, "iter": i, "step": i} for i in range(1, 40)]


def test_detector(tmp_path: Path):
    metrics = {"coco/bbox_mAP": 0.2, "coco/bbox_mAP_50": 0.4, "coco/bbox_mAP_l": -1.0, "step": 1}
    losses, evaluations = halves(drawn(tmp_path, [*DETECTION, metrics, {**metrics, "step": 2}]))
    assert has(losses, INK)
    assert has(losses, ORANGE)
    assert has(evaluations, BLUE)
    assert has(evaluations, VERMILION)
    assert not has(evaluations, GREEN)


def test_instance_segmentor(tmp_path: Path):
    names = ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask")
    lines = [
        {
            "loss": 9 / i,
            **{name: n / i for n, name in enumerate(names, 1)},
            "acc": 90.0,
            "lr": 0.1,
            "epoch": 1,
            "iter": i,
        }
        for i in range(1, 40)
    ]
    boxes = {"coco/bbox_mAP": 0.3, "coco/bbox_mAP_50": 0.5, "step": 1}
    masks = {"coco/segm_mAP": 0.2, "coco/segm_mAP_50": 0.4}
    losses, evaluations = halves(drawn(tmp_path, [*lines, {**boxes, **masks}, {**boxes, **masks, "step": 2}]))
    assert all(has(losses, colour) for colour in (INK, *COLOURS[:2], *COLOURS[4:7]))
    _, of_boxes = halves(drawn(tmp_path, [*lines, boxes, {**boxes, "step": 2}]))
    for colour in (BLUE, VERMILION):
        both, alone = ((half == ImageColor.getrgb(colour)).all(-1).sum() for half in (evaluations, of_boxes))
        assert both > 1.3 * alone


def test_segmentor(tmp_path: Path):
    lines = [
        {"loss": 1.4, "decode.loss_ce": 1.0, "decode.acc_seg": 60.0, "aux.loss_ce": 0.4, "lr": 0.1, "iter": 50},
        {"mIoU": 30.0, "mAcc": 45.0, "aAcc": 80.0, "step": 50},
        {"loss": 1.3, "decode.loss_ce": 0.9, "decode.acc_seg": 61.0, "aux.loss_ce": 0.4, "lr": 0.1, "iter": 100},
        {"mIoU": 31.0, "mAcc": 46.0, "aAcc": 81.0, "step": 100},
    ]
    losses, evaluations = halves(drawn(tmp_path, lines))
    assert all(has(losses, colour) for colour in (INK, ORANGE, SKY))
    assert all(has(evaluations, colour) for colour in (GREEN, ORANGE, SKY))
    assert not has(evaluations, BLUE)


def test_classifier(tmp_path: Path):
    lines = [{"loss": 2 / i, "lr": 0.1, "epoch": 1, "iter": i} for i in range(1, 40)]
    metrics = {"accuracy/top1": 60.0, "accuracy/top5": 85.0}
    losses, evaluations = halves(drawn(tmp_path, [*lines, {**metrics, "step": 1}, {**metrics, "step": 2}]))
    assert has(losses, INK)
    assert not has(losses, ORANGE)
    assert has(evaluations, BLUE)
    assert has(evaluations, VERMILION)


def test_percentages_are_not_taken_for_shares(tmp_path: Path):
    """AP 0.4 of mmdet and mIoU 40 of mmseg are drawn at one height."""
    heights = []
    for metrics, colour in (({"coco/bbox_mAP": 0.4}, BLUE), ({"mIoU": 40.0}, GREEN)):
        _, evaluations = halves(drawn(tmp_path, [{**metrics, "step": 1}, {**metrics, "step": 2}]))
        (rows,) = np.nonzero((evaluations == ImageColor.getrgb(colour)).all(-1).sum(1) > 200)
        heights.append(rows.mean())
    assert heights[0] == pytest.approx(heights[1], abs=1)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"loss": 1.0}],
        [{"coco/bbox_mAP": -1.0, "step": 0}],
        DETECTION[:1],
        [{"lr": 0.1, "step": 3}],
        [{"mIoU": float("nan")}],
    ],
)
def test_scant_logs_still_make_a_picture(tmp_path: Path, lines: list[dict]):
    assert drawn(tmp_path, lines).shape == drawn(tmp_path, DETECTION).shape


def test_successive_runs_are_joined(tmp_path: Path):
    files = []
    for number, lines in enumerate((DETECTION[:20], DETECTION[15:])):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_curves(files, tmp_path / "joined.png")
    with Image.open(tmp_path / "joined.png") as joined:
        np.testing.assert_array_equal(np.array(joined.convert("RGB")), drawn(tmp_path, DETECTION))


def test_missing_log(tmp_path: Path):
    with pytest.raises(UserError, match="can't be read"):
        draw_curves([tmp_path / "none.json"], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_smoothing_is_scipys_gaussian_away_from_the_ends():
    values = np.random.default_rng(0).normal(size=400)
    expected = gaussian_filter1d(values, 12.0, truncate=3.0)
    np.testing.assert_allclose(smooth(values, 12 / 400)[36:-36], expected[36:-36], rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_smoothing_keeps_constants_and_length(count: int):
    np.testing.assert_allclose(smooth([3.5] * count), [3.5] * count)
