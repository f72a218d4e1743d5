"""Folders of generated data: each made as a whole or not at all, kept while its settings stay, and made again after."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2

from fvnet_mm.data.kinds import Array
from fvnet_mm.errors import UserError

SEED = 0
"""Of every set."""

MIN_SIDE = 32
"""Of an image, in pixels."""


def write_generated(
    root: Path,
    settings_file: str,
    settings: Mapping[str, object],
    files: Mapping[str, int],
    write: Callable[[Path], None],
) -> Path:
    """Have ``write`` fill the folder ``root``, unless a whole set with the same settings is there.

    Anything else that was generated into ``root`` before is replaced. The set is written beside ``root`` and
    renamed, so ``root`` is never half a set.

    Args:
        root: folder of the set; its parents are made.
        settings_file: name of the file in ``root`` that holds the settings; written last, it tells a folder
            that was generated from one that was not.
        settings: what decides the set's content, as JSON can hold it.
        files: how many files a whole set has, by patterns of their names.
        write: fills a new, empty folder.

    Returns:
        ``root``.

    Raises:
        UserError: ``root`` exists and was not generated here.
    """
    root = Path(root)

    def is_there() -> bool:
        try:
            same = json.loads((root / settings_file).read_text()) == settings
            return same and all(sum(1 for _ in root.glob(pattern)) == count for pattern, count in files.items())
        except (OSError, ValueError):
            return False

    if is_there():
        return root
    if root.exists() and not (root / settings_file).is_file() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(
            f"{root} exists and is no generated data set ({settings_file} is missing), so it is left alone;"
            " name another folder, or empty this one."
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
        new = Path(temporary, "set")
        new.mkdir()
        write(new)
        (new / settings_file).write_text(json.dumps(settings, indent=2) + "\n")
        with contextlib.suppress(FileNotFoundError):
            root.replace(Path(temporary, "old"))
        try:
            new.replace(root)
        except OSError:
            # Another process of the same run was faster; what it wrote is the same.
            if not is_there():
                raise
    return root


def check_sizes(train_images: int, val_images: int, image_size: tuple[int, int], least: int = 1) -> None:
    """Check what a set is asked to have: ``least`` images in each split, and sides of images.

    Raises:
        ValueError: a number is out of its range.
    """
    if min(train_images, val_images) < least or min(image_size) < MIN_SIDE:
        raise ValueError(
            f"{train_images} training and {val_images} validation images of {image_size} pixels: a split needs at least"
            f" {least}, an image {MIN_SIDE} pixels a side"
        )


def write_image(file: Path, pixels: Array) -> None:
    """Write RGB pixels, (H, W, 3), or labels, (H, W), in the format that the file's suffix says; its folder is made."""
    channels = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if file.suffix == ".jpg" else []
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(cv2.imencode(file.suffix, channels, quality)[1].tobytes())
