"""Reading the predictions that an evaluation leaves behind."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fvnet_mm.errors import UserError

NOT_LABELLED = (0, 255)
"""Values of a label map that stand for no class; 0 is ADE20K's, 255 mmseg's."""


def read_json(path: Path) -> object:
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
