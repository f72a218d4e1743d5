"""Whether what is named as a data set's folder can be one, before its parts are looked for."""

from __future__ import annotations

from pathlib import Path

from fvnet_mm.errors import UserError

_SIGNS = {"COCO": "annotations/instances_*.json", "ADE20K": "annotations/validation"}
"""What is in the folder of a data set, by its layout."""

_CONFIGS = {
    "COCO": "detectors (retinanet_*, mask_rcnn_*)",
    "ADE20K": "segmentors (semantic_fpn_*, upernet_*)",
}
"""Which of the suite's configs read a layout."""


def require_folder(root: Path, held: str) -> None:
    """Raise a UserError, which says what the folder is to hold, if there is no such folder."""
    if root.is_file():
        raise UserError(f"{root} is a file, and the data set's folder is wanted; it is to hold {held}.")
    if not root.is_dir():
        raise UserError(f"the data folder {root} does not exist; it is to hold {held}.")


def refuse_other_layout(root: Path, layout: str) -> None:
    """Raise a UserError if a folder lacks the signs of its layout and shows that it is of another, or which is meant.

    Args:
        root: a folder.
        layout: 'COCO' or 'ADE20K'.
    """
    sign = _SIGNS[layout]
    if _has(root, sign):
        return
    for other in _SIGNS.keys() - {layout}:
        if _has(root, _SIGNS[other]):
            raise UserError(
                f"{root} is in {other}'s layout (it has {_SIGNS[other]}), which the configs of {_CONFIGS[other]} read;"
                f" this config is of {_CONFIGS[layout]} and reads {layout}'s: take another config or another folder."
            )
    resolved = root.resolve()
    for place in (*sorted(folder for folder in root.iterdir() if folder.is_dir()), *list(resolved.parents)[:2]):
        if _has(place, sign):
            raise UserError(f"{root} has no {sign}, but {place} has; that is the data set's folder.")


def _has(folder: Path, sign: str) -> bool:
    return next(folder.glob(sign), None) is not None
