from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from PIL import Image, ImageColor

from fvnet_mm.errors import UserError
from fvnet_mm.report.palette import INK, class_colours
from fvnet_mm.report.segmentation_sheet import TILE, SegmentedImage, _Example, _most_inside, draw_segmentation_sheet

CLASSES = ("sky", "road", "a class whose name is far too long to be written into its region of the picture", "tree")
GREY = 128
HEIGHT, WIDTH = 48, 64
SCALE = TILE // WIDTH


class Files:
    """One grey image after another, with labels and predictions."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "vis" / "sheet.png"
        self.files: list[SegmentedImage] = []

    def add(self, labels: np.ndarray, prediction: np.ndarray, grey: int = GREY) -> None:
        paths = []
        for name, content in (
            ("images", np.full((HEIGHT, WIDTH, 3), grey, np.uint8)),
            ("annotations", labels),
            ("predictions", prediction),
        ):
            paths.append(self.folder / name / "validation" / f"{len(self.files)}.png")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(paths[-1])
        self.files.append(SegmentedImage(*paths))

    def draw(self, **settings: object) -> np.ndarray:
        draw_segmentation_sheet(self.files, CLASSES, self.out, **settings)
        with Image.open(self.out) as picture:
            return np.array(picture)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def labels() -> np.ndarray:
    """Sky above, road below, and a stripe at the right that is not labelled."""
    values = np.ones((HEIGHT, WIDTH), np.uint8)
    values[24:] = 2
    values[:, 56:] = 0
    return values


def panels(sheet: np.ndarray) -> list[np.ndarray]:
    """Photograph, labels, prediction and errors of a sheet with one image."""
    photograph = (sheet == GREY).all(-1)
    (rows,) = np.nonzero(photograph.sum(1) >= TILE)
    (columns,) = np.nonzero(photograph.sum(0) >= HEIGHT * SCALE)
    picture = sheet[rows.min() : rows.min() + HEIGHT * SCALE]
    starts = [columns.min() + number * (TILE + 4) for number in range(4)]
    return [picture[:, start : start + TILE] for start in starts]


def is_colour(panel: np.ndarray, colour: str) -> np.ndarray:
    return (panel == ImageColor.getrgb(colour)).all(-1)


def enlarged(mask: np.ndarray) -> np.ndarray:
    return mask.repeat(SCALE, 0).repeat(SCALE, 1)


def test_each_pixel_has_the_colour_of_its_class(files: Files, labels: np.ndarray):
    prediction = np.where(labels == 1, 4, 2).astype(np.uint8)
    files.add(labels, prediction)
    _, truth, predicted, errors = panels(files.draw())
    colours = class_colours(len(CLASSES))
    for value, panel, where in (
        (1, truth, labels == 1),
        (2, truth, labels == 2),
        (4, predicted, prediction == 4),
        (2, predicted, prediction == 2),
    ):
        shown, expected = is_colour(panel, colours[value - 1]), enlarged(where)
        assert not (shown & ~expected).any()
        assert shown.sum() > 0.9 * expected.sum()  # but for the name
    np.testing.assert_array_equal(is_colour(errors, INK), enlarged(labels == 1))


@pytest.mark.parametrize("not_labelled", [0, 255])
def test_what_is_not_labelled_is_hatched_and_no_error(files: Files, labels: np.ndarray, not_labelled: int):
    labels[labels == 0] = not_labelled
    prediction = np.maximum(np.where(labels == 255, 0, labels), 1).astype(np.uint8)
    files.add(labels, prediction)
    photograph, truth, predicted, errors = panels(files.draw())
    stripe = np.s_[:, 56 * SCALE :]
    for panel in (truth, errors):
        grey = panel[stripe]
        assert (grey == grey[..., :1]).all()
        assert len(np.unique(grey)) == 2
    assert is_colour(predicted[stripe], class_colours(1)[0]).mean() > 0.9
    assert (photograph == GREY).all()
    assert not is_colour(errors, INK).any()


def test_names_are_written_where_there_is_room(files: Files):
    for value, has_name in ((2, True), (3, False)):
        region = np.full((HEIGHT, WIDTH), value, np.uint8)
        files.files.clear()
        files.add(region, region)
        _, truth, _, _ = panels(files.draw())
        assert is_colour(truth, class_colours(len(CLASSES))[value - 1]).all() != has_name


def test_centre_of_a_region():
    region = np.zeros((40, 60), bool)
    region[10:30, 20:50] = True
    x, y = _most_inside(region, (12, 10))
    assert 25 <= x <= 44
    assert 18 <= y <= 21
    assert region[y - 5 : y + 5, x - 6 : x + 6].all()
    assert _most_inside(region, (32, 10)) is None
    assert _most_inside(np.ones((8, 8), bool), (9, 4)) is None


def test_predictions_as_mmseg_writes_them(files: Files, tmp_path: Path):
    """Classes, and the share that is right, are those of mmseg's metric."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(CLASSES) + 1, (HEIGHT, WIDTH)).astype(np.uint8)
    classes = torch.from_numpy(generator.integers(0, len(CLASSES), (HEIGHT, WIDTH)))
    metric = IoUMetric(output_dir=str(tmp_path / "predictions" / "validation"), prefix="seg")
    metric.dataset_meta = dict(classes=CLASSES)
    reduced = torch.from_numpy(labels).long() - 1
    reduced[reduced < 0] = 255
    files.add(labels, np.ones_like(labels))
    sample = {
        "pred_sem_seg": {"data": classes[None]},
        "gt_sem_seg": {"data": reduced[None]},
        "img_path": str(files.files[0][0]),
        "reduce_zero_label": True,
    }
    metric.process({}, [sample])
    expected = metric.evaluate(1)["seg/aAcc"]
    example = _Example(files.files[0], len(CLASSES))
    np.testing.assert_array_equal(example.prediction, classes.numpy() + 1)
    assert example.accuracy() == pytest.approx(expected, abs=0.01)
    files.draw()


def test_image_without_labels(files: Files):
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8)
    files.add(nothing, nothing + 1)
    _, truth, _, errors = panels(files.draw())
    np.testing.assert_array_equal(truth, errors)


def test_images_are_spread_evenly(files: Files, labels: np.ndarray):
    for number in range(9):
        files.add(labels, np.ones_like(labels), grey=2 * number)
    sheet = files.draw(count=3)
    assert {number for number in range(9) if (sheet == 2 * number).all(-1).sum() > 5000} == {0, 4, 8}


def test_palette_images_are_read_by_their_numbers(files: Files, labels: np.ndarray):
    files.add(labels, np.maximum(labels, 1))
    expected = files.draw()
    for path in files.files[0][1:]:
        with Image.open(path) as opened:
            coloured = Image.fromarray(np.array(opened)).convert("P")
            coloured.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
            coloured.putdata(list(np.array(opened).ravel().tolist()))
        coloured.save(path)
    np.testing.assert_array_equal(files.draw(), expected)


def overwrite(path: Path, value: int, size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "L") -> None:
    Image.new(mode, size, value).save(path)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda image, labels, prediction: overwrite(labels, 5), r"0\.png has the value 5, but the 4 classes"),
        (lambda image, labels, prediction: overwrite(prediction, 0), r"0\.png has the value 0, but the 4 classes"),
        (lambda image, labels, prediction: overwrite(prediction, 255), "has the value 255"),
        (lambda image, labels, prediction: overwrite(labels, 1, mode="RGB"), "is a coloured image; labels files are"),
        (lambda image, labels, prediction: overwrite(prediction, 1, (32, 24)), "is 32 x 24 pixels large"),
        (lambda image, labels, prediction: overwrite(image, 1, (32, 24)), "is 64 x 48 pixels large, its image"),
        (lambda image, labels, prediction: prediction.unlink(), r"the prediction .*0\.png can't be read"),
        (lambda image, labels, prediction: labels.write_bytes(b"x"), r"the labels .*0\.png can't be read"),
        (lambda image, labels, prediction: image.write_bytes(b"x"), r"the image .*0\.png can't be read"),
    ],
)
def test_wrong_files_end_in_a_sentence(files: Files, labels: np.ndarray, spoil: Callable, sentence: str):
    files.add(labels, np.ones_like(labels))
    spoil(*files.files[0])
    with pytest.raises(UserError, match=sentence):
        files.draw()
    assert not files.out.exists()


def test_no_image_ends_in_a_sentence(files: Files):
    with pytest.raises(UserError, match="no image to draw"):
        files.draw()
