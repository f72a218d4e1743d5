import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor
from pycocotools import mask as coco_mask

from fvnet_mm.errors import UserError
from fvnet_mm.report.contact_sheet import TILE, draw_contact_sheet
from fvnet_mm.report.palette import COLOURS

GREY = 128
SIZE = (64, 48)


class Files:
    """Grey images with one object each, of the categories cat and dog in turn."""

    def __init__(self, folder: Path, count: int) -> None:
        self.annotations, self.images = folder / "instances_val.json", folder / "set" / "val"
        self.predictions, self.out = folder / "predictions.bbox.json", folder / "vis" / "sheet.png"
        self.images.mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", SIZE, (GREY,) * 3).save(self.images / f"{number}.png")
        self.content = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": SIZE[0], "height": SIZE[1]} for i in range(count)],
            "annotations": [
                {
                    "id": i + 1,
                    "image_id": i,
                    "category_id": 1 + i % 2,
                    "bbox": [8, 12, 20, 24],
                    "area": 480,
                    "iscrowd": 0,
                }
                for i in range(count)
            ],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(("cat", "dog", "cow", "emu"))],
        }
        self.annotations.write_text(json.dumps(self.content))
        self.detect([])

    def detect(self, detections: list[tuple[int, int, float]]) -> None:
        """Write predictions, (image, category, score)."""
        entries = [
            {"image_id": image, "category_id": category, "bbox": [30, 14, 20, 20], "score": score}
            for image, category, score in detections
        ]
        self.predictions.write_text(json.dumps(entries))

    def segment(self, image: int, category: int, mask: np.ndarray, score: float = 0.9) -> Path:
        """Write one detection with a mask, (H, W) bool, as mmdet does; its box is far smaller than the mask."""
        rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        entry = {
            "image_id": image,
            "category_id": category,
            "bbox": [0, 0, 1, 1],
            "score": score,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        }
        file = self.predictions.with_name("predictions.segm.json")
        file.write_text(json.dumps([entry]))
        return file

    def draw(self, **settings: object) -> np.ndarray:
        draw_contact_sheet(self.annotations, self.images, self.predictions, self.out, **settings)
        with Image.open(self.out) as picture:
            return np.array(picture)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[int], Files]:
    return lambda count: Files(tmp_path, count)


def pixels_of(panel: np.ndarray, colour: str) -> int:
    return int((panel == ImageColor.getrgb(colour)).all(-1).sum())


def panels(sheet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth and detections of a sheet with one image: left and right of the seam in the grey."""
    grey = (sheet == GREY).all(-1)
    (rows,) = np.nonzero(grey.sum(1) > 50)  # more than letters have
    (columns,) = np.nonzero(grey.sum(0) > 50)
    picture = sheet[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return picture[:, :TILE], picture[:, -TILE:]


def test_boxes_stand_where_they_belong(files: Callable):
    one = files(1)
    one.detect([(0, 3, 0.9)])
    truth, found = panels(one.draw())
    scale = TILE / SIZE[0]
    for panel, colour, (x, y, width, height) in (
        (truth, COLOURS[0], (8, 12, 20, 24)),
        (found, COLOURS[1], (30, 14, 20, 20)),
    ):
        right, bottom = (x + width) * scale, (y + height) * scale
        rows, columns = np.nonzero((panel == ImageColor.getrgb(colour)).all(-1))
        assert abs(rows.max() - bottom) <= 2
        assert abs(columns.min() - x * scale) <= 2
        # The label above the box may be wider than the box, its lower half can't be.
        lower = columns[rows > (y + height / 2) * scale]
        assert abs(lower.max() - right) <= 2
    assert pixels_of(truth, COLOURS[1]) == pixels_of(found, COLOURS[0]) == 0


def test_labels_are_on_the_boxes(files: Callable):
    one = files(1)
    with_label, _ = panels(one.draw())
    outline = 2 * 2 * (20 + 24) * TILE / SIZE[0]
    assert pixels_of(with_label, COLOURS[0]) > 1.3 * outline  # the chip behind the text


def test_threshold_divides_the_detections(files: Callable):
    one = files(1)
    one.detect([(0, 3, 0.55), (0, 4, 0.45)])
    _, found = panels(one.draw(score_threshold=0.5))
    assert pixels_of(found, COLOURS[1]) > 0
    assert pixels_of(found, COLOURS[2]) == 0


def test_best_three_are_shown_where_none_reaches_the_threshold(files: Callable):
    one = files(1)
    one.detect([(0, category, score) for category, score in ((1, 0.01), (2, 0.2), (3, 0.1), (4, 0.15))])
    colours_with_fallback = {colour for colour in COLOURS[:4] if pixels_of(panels(one.draw())[1], colour) > 0}
    assert colours_with_fallback == set(COLOURS[1:4])  # of categories 2, 3 and 4; the 0.01 is the fourth
    one.detect([(0, 1, 0.31), (0, 2, 0.2)])
    assert pixels_of(panels(one.draw())[1], COLOURS[1]) == 0


def test_no_detections_at_all(files: Callable):
    truth, found = panels(files(1).draw())
    assert pixels_of(truth, COLOURS[0]) > 0
    assert (found == GREY).all()


def test_images_are_spread_evenly(files: Callable):
    many = files(21)
    for number in (0, 5, 10, 15, 20):
        Image.new("RGB", SIZE, (number, 200, 100)).save(many.images / f"{number}.png")
    sheet = many.draw(count=5)
    shown = {number for number in range(21) if ((sheet == (number, 200, 100)).all(-1)).any()}
    assert shown == {0, 5, 10, 15, 20}


def test_sheet_grows_by_rows_and_is_the_same_every_time(files: Callable):
    many = files(7)
    small, large = many.draw(count=3), many.draw(count=7)
    assert small.shape[1] == large.shape[1]
    assert large.shape[0] > 2 * small.shape[0] - 200
    np.testing.assert_array_equal(many.draw(count=7), large)


@pytest.mark.parametrize(
    ("predictions", "sentence"),
    [
        ('[{"image_id": 0, "category_id": 1, "score": 0.5}]', "is not in COCO's result format"),
        ('[{"image_id": 0, "category_id": 8, "score": 1, "bbox": [1, 2, 3, 4]}]', "lacks its category_id 8"),
    ],
)
def test_wrong_predictions_end_in_a_sentence(files: Callable, predictions: str, sentence: str):
    one = files(1)
    one.predictions.write_text(predictions)
    with pytest.raises(UserError, match=sentence):
        one.draw()
    assert not one.out.exists()


def test_missing_files_end_in_a_sentence(files: Callable):
    one = files(1)
    (one.images / "0.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"the image .*0\.png can't be read"):
        one.draw()
    one.annotations.unlink()
    with pytest.raises(UserError, match="does not exist"):
        one.draw()


def test_odd_boxes_and_long_names_do_no_harm(files: Callable):
    one = files(1)
    name = "x" * 200 + ".png"
    (one.images / "0.png").rename(one.images / name)
    one.content["images"][0]["file_name"] = name
    one.content["categories"][0]["name"] = "a very long name of a category " * 4
    one.content["annotations"][0].update(bbox=[-500, 5, 2000, -3], iscrowd=1)
    one.annotations.write_text(json.dumps(one.content))
    assert pixels_of(one.draw(), COLOURS[0]) > 0


def tinted(panel: np.ndarray) -> np.ndarray:
    return np.abs(panel.astype(int) - GREY).max(-1) > 25  # about half of a mask's inside


def test_masks_cover_what_they_cover(files: Callable):
    one = files(1)
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[10:40, 30:60] = True
    mask[20:30, 40:50] = False  # a hole
    # The same outline as a polygon, without the hole; the box is that of another place.
    one.content["annotations"][0].update(segmentation=[[30, 10, 60, 10, 60, 40, 30, 40]], bbox=[0, 0, 1, 1])
    one.annotations.write_text(json.dumps(one.content))
    truth, found = panels(one.draw(segmentations_file=one.segment(0, 1, mask)))
    scale = TILE // SIZE[0]
    expected = mask.repeat(scale, 0).repeat(scale, 1)
    filled = expected.copy()
    filled[20 * scale : 30 * scale, 40 * scale : 50 * scale] = True
    away_from_the_label = np.s_[8 * scale :, 25 * scale :]
    assert (tinted(found) == expected)[away_from_the_label].mean() > 0.97
    assert (tinted(truth) == filled)[away_from_the_label].mean() > 0.97


def test_masks_are_translucent_with_a_solid_outline(files: Callable):
    one = files(1)
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[10:40, 30:60] = True
    _, found = panels(one.draw(segmentations_file=one.segment(0, 1, mask)))
    scale = TILE // SIZE[0]
    colour = np.array(ImageColor.getrgb(COLOURS[0]))
    middle = found[25 * scale, 45 * scale].astype(int)
    assert (np.abs(middle - GREY) < np.abs(colour - GREY)).all()
    assert (middle != GREY).all()
    outline = (found[25 * scale] == colour).all(-1).nonzero()[0]
    np.testing.assert_allclose([outline.min(), outline.max()], [30 * scale, 60 * scale], atol=3)


def test_boxes_with_masks_are_thinner(files: Callable):
    one = files(1)
    with_boxes, _ = panels(one.draw())
    segmentations = one.segment(0, 1, np.zeros((SIZE[1], SIZE[0]), bool))
    one.content["annotations"][0]["segmentation"] = [[0, 0, 1, 0, 1, 1]]
    one.annotations.write_text(json.dumps(one.content))
    with_masks, _ = panels(one.draw(segmentations_file=segmentations))
    outline = 2 * (20 + 24) * TILE / SIZE[0]
    difference = pixels_of(with_boxes, COLOURS[0]) - pixels_of(with_masks, COLOURS[0])
    assert difference == pytest.approx(outline, rel=0.1)


def test_without_masks_annotated_ones_are_not_drawn(files: Callable):
    one = files(1)
    before = one.draw()
    one.content["annotations"][0]["segmentation"] = [[30, 10, 60, 10, 60, 40]]
    one.annotations.write_text(json.dumps(one.content))
    np.testing.assert_array_equal(one.draw(), before)


@pytest.mark.parametrize("wrong", [None, [[1, 2, 3, 4, 5, 6]], {"size": [48, 64]}])
def test_detections_without_run_lengths_end_in_a_sentence(files: Callable, wrong: object):
    one = files(1)
    entry = {"image_id": 0, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4], "segmentation": wrong}
    one.predictions.write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=r"is not in COCO's result format, .* segmentation \(run lengths\)"):
        one.draw(segmentations_file=one.predictions)


def test_broken_run_lengths_end_in_a_sentence(files: Callable):
    one = files(1)
    file = one.segment(0, 1, np.ones((SIZE[1], SIZE[0]), bool))
    content = json.loads(file.read_text())
    content[0]["segmentation"]["counts"] = "garbage!!!"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"a mask of 0\.png can't be decoded"):
        one.draw(segmentations_file=file)
