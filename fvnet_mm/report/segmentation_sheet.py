"""A sheet of validation images: labels, predicted classes and errors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw

from fvnet_mm.errors import UserError
from fvnet_mm.report.palette import INK, class_colours
from fvnet_mm.report.saved_predictions import NOT_LABELLED, read_label_map
from fvnet_mm.report.sheet import (
    LABEL,
    LegendEntry,
    contrast,
    evenly_spread,
    font,
    height_at,
    open_picture,
    save_sheet,
    side_by_side,
)

TILE = 256
"""Width in pixels at which an image is shown."""

_IMAGES_A_ROW = 2
_HATCH = ("#CCCCCC", "#9A9A9A")
_FADED = 0.65  # how far the photograph under the errors is whitened


Size = tuple[int, int]
"""(width, height) in pixels."""


class SegmentedImage(NamedTuple):
    """Files of an image: ``labels`` and ``prediction`` are greyscale or palette images of class numbers from 1."""

    image: Path
    labels: Path
    prediction: Path


def draw_segmentation_sheet(
    files: Sequence[SegmentedImage],
    classes: Sequence[str],
    out_file: Path,
    count: int = 12,
) -> None:
    """Draw images of a split, each with its labels, the predicted classes and the errors, into a PNG.

    The images are spread evenly over the split: neither the best nor the worst are chosen. The prediction is
    shown whole; the errors leave out, and hatch, what is not labelled, as the metrics do. A class has the same
    colour in every sheet.

    Args:
        files: Of each image of the split. Labels are as ADE20K has them: value v is
            class v - 1, and 0 is not labelled. Predictions are so, too, without 0: mmseg's ``IoUMetric`` writes
            them into its ``output_dir`` where the data set has ``reduce_zero_label=True``.
        classes: names.
        out_file: the picture to write.
        count: images to show at most.

    Raises:
        UserError: there is no image, or a file is missing, broken, of another size than its image, or has a
            value that is no class.
    """
    if not files:
        raise UserError("there is no image to draw: the split is empty.")
    examples = [_Example(files[index], len(classes)) for index in evenly_spread(len(files), count)]
    colours = class_colours(len(classes))
    rows = [_draw_row(example, colours, classes) for example in examples]
    occurring = sorted({value for example in examples for value in example.values()})
    legend: list[LegendEntry] = [(colours[value - 1], classes[value - 1]) for value in occurring]
    legend.append((_hatching((40, 40)).crop((0, 0, 16, 16)), "not labelled"))
    legend.append((INK, "wrong"))
    folder = "/".join(files[0].image.resolve().parent.parts[-3:])
    heading = f"{folder}: image, labels, prediction and errors"
    subheading = (
        f"{len(examples)} of {len(files):,} images, evenly spread; percentages are of an image's labelled pixels"
    )
    save_sheet(rows, _IMAGES_A_ROW, heading, subheading, legend, out_file)


class _Example:
    """The content of the files of one image.

    Attributes:
        name: file name of the image.
        picture: RGB.
        labels: (H, W) uint8, 0 where a pixel isn't labelled.
        prediction: (H, W) uint8, from 1.
    """

    def __init__(self, files: SegmentedImage, class_count: int) -> None:
        self.name = files.image.name
        self.picture = open_picture(files.image)
        self.labels = read_label_map(files.labels, "labels", class_count, NOT_LABELLED)
        self.labels[np.isin(self.labels, NOT_LABELLED)] = 0
        self.prediction = read_label_map(files.prediction, "prediction", class_count, ())
        for file, classes in ((files.labels, self.labels), (files.prediction, self.prediction)):
            if classes.shape[::-1] != self.picture.size:
                height, width = classes.shape
                raise UserError(
                    f"{file} is {width} x {height} pixels large, its image {files.image} {self.picture.width} x"
                    f" {self.picture.height}; name the files of the same image."
                )

    def values(self) -> set[int]:
        """The classes that occur in labels or prediction, from 1."""
        return {*np.unique(self.labels).tolist(), *np.unique(self.prediction).tolist()} - {0}

    @property
    def is_labelled(self) -> np.ndarray:
        return self.labels > 0

    @property
    def is_wrong(self) -> np.ndarray:
        return self.is_labelled & (self.labels != self.prediction)

    def accuracy(self) -> float | None:
        """Percentage of the labelled pixels that are right; None without any."""
        labelled = int(self.is_labelled.sum())
        return 100 * (1 - int(self.is_wrong.sum()) / labelled) if labelled else None


def _draw_row(example: _Example, colours: Sequence[str], classes: Sequence[str]) -> Image.Image:
    size = (TILE, height_at(TILE, example.picture))
    photograph = example.picture.resize(size, Image.Resampling.BICUBIC)
    unlabelled = _scaled(~example.is_labelled, size)
    labels, prediction = (
        _draw_classes(values, colours, classes, size) for values in (example.labels, example.prediction)
    )
    errors = Image.blend(photograph.convert("L").convert("RGB"), Image.new("RGB", size, "white"), _FADED)
    errors.paste(INK, mask=_scaled(example.is_wrong, size))
    for panel in (labels, errors):
        panel.paste(_hatching(size), mask=unlabelled)
    accuracy = example.accuracy()
    return side_by_side(
        [
            (photograph, example.name),
            (labels, "labels"),
            (prediction, "prediction"),
            (errors, "errors (nothing is labelled)" if accuracy is None else f"errors: {accuracy:.1f} % right"),
        ]
    )


def _draw_classes(values: np.ndarray, colours: Sequence[str], classes: Sequence[str], size: Size) -> Image.Image:
    """Colour the classes, and write their names where there is room."""
    table = np.array([(0, 0, 0), *map(ImageColor.getrgb, colours)], np.uint8)
    panel = Image.fromarray(table[values]).resize(size, Image.Resampling.BOX)
    small = np.array(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))
    draw = ImageDraw.Draw(panel)
    for value in np.unique(small[small > 0]):
        name = classes[value - 1]
        room = (round(font(LABEL).getlength(name)) + 8, LABEL + 8)
        place = _most_inside(small == value, room)
        if place is not None:
            draw.text(place, name, contrast(colours[value - 1]), font(LABEL), anchor="mm")
    return panel


def _most_inside(region: np.ndarray, room: Size) -> tuple[int, int] | None:
    """Return the centre (x, y) of a rectangle (width, height) inside a region, the farthest from its edge."""
    framed = np.pad(region.astype(np.uint8), 1)
    fits = cv2.erode(framed, np.ones(room[::-1], np.uint8))[1:-1, 1:-1] > 0
    if not fits.any():
        return None
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(np.where(fits, depth, 0).argmax(), depth.shape)
    return int(x), int(y)


def _scaled(mask: np.ndarray, size: Size) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)


def _hatching(size: Size) -> Image.Image:
    """Diagonal stripes."""
    y, x = np.indices(size[::-1])
    table = np.array([ImageColor.getrgb(colour) for colour in _HATCH], np.uint8)
    return Image.fromarray(table[((x + y) % 8 < 2).astype(int)])
