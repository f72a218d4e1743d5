"""Reading the predictions that an evaluation leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from fvnet_mm.data.coco_document import CocoDocument, enumerate_offenders, is_box, is_number
from fvnet_mm.errors import UserError
from fvnet_mm.report.masks import as_rle

if TYPE_CHECKING:
    from fvnet_mm.engine.prediction_metric import ClassPrediction  # loads torch

NOT_LABELLED = (0, 255)
"""Values of a label map that stand for no class; 0 is ADE20K's, 255 mmseg's."""

_SHAPES = {
    "bbox": ("x, y, width, height", is_box),
    "segmentation": ("run lengths", lambda value: as_rle(value) is not None),
}
"""What each is written as, and whether a JSON value is that."""


def read_class_predictions(path: Path, class_count: int) -> list[ClassPrediction]:
    """What a classifier says of each image, in the order of the file; one image or more, each once.

    Args:
        path: What :class:`~fvnet_mm.engine.prediction_metric.SavedPredictions` wrote.
        class_count: Number of classes.

    Raises:
        UserError: The file is missing or broken, or has classes that are none of so many.
    """
    entries = _read_json(path)
    if not isinstance(entries, list) or not all(map(_is_class_prediction, entries)):
        raise UserError(f"{path} is not a list of objects with file, label, prediction and score; evaluate again.")
    if not entries:
        raise UserError(f"{path} holds no prediction; evaluate again.")
    if repeated := len(entries) - len({entry["file"] for entry in entries}):
        raise UserError(f"{path} has {repeated:,} images more than once; evaluate again.")
    classes = {entry[key] for entry in entries for key in ("label", "prediction")}
    if others := sorted(number for number in classes if not 0 <= number < class_count):
        raise UserError(
            f"{path} has the classes {enumerate_offenders(others)}, but the {class_count} classes are numbered 0 to"
            f" {class_count - 1}; evaluate again with the class list that belongs to the predictions."
        )
    return entries


def read_detections(
    path: Path, truth: CocoDocument, shapes: Sequence[Literal["bbox", "segmentation"]]
) -> list[dict[str, object]]:
    """The detections of a file in COCO's result format.

    Args:
        path: The file.
        truth: Annotations of the images that were evaluated.
        shapes: What each detection must have: a box, a mask as compressed run lengths, or both.

    Raises:
        UserError: The file is missing or broken, or has images or categories that ``truth`` lacks.
    """
    entries = _read_json(path)
    if not isinstance(entries, list) or not all(_is_detection(entry, shapes) for entry in entries):
        keys = ", ".join(f"{shape} ({_SHAPES[shape][0]})" for shape in shapes)
        raise UserError(
            f"{path} is not in COCO's result format, a list of objects with image_id, category_id, {keys} and score;"
            " evaluate again."
        )
    for key, known in (("image_id", truth.images), ("category_id", truth.categories)):
        others = sorted({entry[key] for entry in entries} - {item["id"] for item in known})
        if others:
            raise UserError(
                f"{path} is of another data set than {truth.path}, which lacks its {key} {enumerate_offenders(others)};"
                " name the annotation file that the predictions were made for."
            )
    return entries


def read_label_map(file: Path, what: str, class_count: int, others: Sequence[int] = ()) -> np.ndarray:
    """An image of class numbers, from 1, as (H, W) uint8.

    Args:
        file: Greyscale image.
        what: What messages call it.
        class_count: Number of classes.
        others: Further values that may occur.

    Raises:
        UserError: It cannot be read, is coloured, or has another value.
    """
    try:
        with Image.open(file) as opened:
            values = np.array(opened)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"the {what} {file} can't be read: {error}.") from error
    if values.ndim != 2:
        raise UserError(f"{file} is a coloured image; {what} files are greyscale, a class number in every pixel.")
    found = np.unique(values)
    wrong = found[((found < 1) | (found > class_count)) & ~np.isin(found, others)]
    if len(wrong):
        raise UserError(
            f"{file} has the value {wrong[0]}, but the {class_count} classes are numbered 1 to {class_count}; name the"
            " class list that the file was made with, and keep reduce_zero_label=True."
        )
    return values.astype(np.uint8)


def _read_json(path: Path) -> object:
    """What a JSON file of predictions holds.

    Raises:
        UserError: It cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the predictions {path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"the predictions {path} are not JSON ({error}); evaluate again.") from error


def _is_class_prediction(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("file"), str)
        and all(type(entry.get(key)) is int for key in ("label", "prediction"))
        and is_number(entry.get("score"))
    )


def _is_detection(entry: object, shapes: Sequence[str]) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), int) for key in ("image_id", "category_id"))
        and all(_SHAPES[shape][1](entry.get(shape)) for shape in shapes)
        and is_number(entry.get("score"))
    )
