"""A sheet of validation images: the class a classifier predicts, and the true one where it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from fvnet_mm.engine.prediction_metric import ClassPrediction
from fvnet_mm.report.palette import GREEN, QUIET, VERMILION
from fvnet_mm.report.saved_predictions import read_class_predictions
from fvnet_mm.report.sheet import (
    CAPTION,
    CAPTION_HEIGHT,
    evenly_spread,
    font,
    open_picture,
    save_sheet,
    shortened,
)

TILE = 160
"""Width and height in pixels at which an image is shown."""

_IMAGES_A_ROW = 8
_FRAME = 4


def draw_classification_sheet(
    predictions_file: Path,
    image_dir: Path,
    classes: Sequence[str],
    out_file: Path,
    count: int = 40,
) -> None:
    """Draw images of a split, each with its predicted class and score, into a PNG.

    The images are spread evenly over the split, and so over its classes where it is sorted by them: neither the
    best nor the worst are chosen. They are cropped to their central square.

    Args:
        predictions_file: what :class:`fvnet_mm.engine.prediction_metric.SavedPredictions` wrote.
        image_dir: folder to which the predictions' file names are relative.
        classes: names.
        out_file: the picture to write.
        count: images to show at most.

    Raises:
        UserError: a file is missing or broken, an image is in the predictions twice, or a class is not in ``classes``.
    """
    predictions = read_class_predictions(predictions_file, len(classes))
    shown = [predictions[index] for index in evenly_spread(len(predictions), count)]
    cells = [_draw_cell(image_dir / item["file"], item, classes) for item in shown]
    right = sum(item["prediction"] == item["label"] for item in predictions)
    folder = image_dir.resolve()
    heading = f"{folder.parent.name}/{folder.name}: predicted classes"
    subheading = (
        f"{len(shown)} of {len(predictions):,} images, evenly spread;"
        f" of all, {right:,} are right ({100 * right / len(predictions):.1f} %)"
    )
    legend = [(GREEN, "right, with its score"), (VERMILION, "wrong, and below it the true class")]
    save_sheet(cells, _IMAGES_A_ROW, heading, subheading, legend, out_file)


def _draw_cell(file: Path, item: ClassPrediction, classes: Sequence[str]) -> Image.Image:
    is_right = item["prediction"] == item["label"]
    colour = GREEN if is_right else VERMILION
    cell = Image.new("RGB", (TILE, TILE + 2 * CAPTION_HEIGHT + _FRAME), "white")
    cell.paste(ImageOps.fit(open_picture(file), (TILE, TILE), Image.Resampling.BICUBIC))
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, TILE, TILE - 1, TILE + _FRAME - 1), colour)
    top = TILE + _FRAME + 2
    score = f" {item['score']:.2f}"
    room = TILE - font(CAPTION, bold=True).getlength(score)
    name = shortened(classes[item["prediction"]], font(CAPTION, bold=True), room, keep_start=True)
    draw.text((0, top), f"{name}{score}", colour, font(CAPTION, bold=True))
    if not is_right:
        true = shortened(classes[item["label"]], font(CAPTION), TILE, keep_start=True)
        draw.text((0, top + CAPTION_HEIGHT - 2), true, QUIET, font(CAPTION))
    return cell
