"""Decoding every image or label map of a folder once, and remembering what was found."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image

from fvnet_mm.cores import usable_cores
from fvnet_mm.data.cache import Stamp, cache_file, file_stamp
from fvnet_mm.files import write_text


@dataclass(frozen=True)
class BadImage:
    """An image, or an image with its label map, that can't be used: what its split calls it, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


class ImageFacts(NamedTuple):
    """What decoding an image file showed.

    Attributes:
        stamp: the file's when it was decoded.
        width: in pixels as OpenCV shows the image, which is turned as its EXIF orientation says; 0 if faulty.
        height: likewise.
        fault: why the image can't be read, or None.
    """

    stamp: Stamp
    width: int
    height: int
    fault: str | None


class LabelFacts(NamedTuple):
    """What decoding a label map showed.

    Attributes:
        stamp: the file's when it was decoded.
        width: in pixels; 0 if faulty.
        height: likewise.
        mode: Pillow's name of the kind of pixels: 'L' for 8 bits, 'P' for 8 bits with a palette, 'RGB' ...
        values: the pixels' values in ascending order, as mmseg reads them; of a palette that is the index. Empty
            where a pixel is not one value of at most 8 bits.
        pixels: how many pixels have each of ``values``.
        fault: why the file can't be read, or None.
    """

    stamp: Stamp
    width: int
    height: int
    mode: str
    values: list[int]
    pixels: list[int]
    fault: str | None


EXCHANGED = " (images are turned as their EXIF orientation says)"
"""What is said where an image has the width and height that it should have, exchanged."""

LABEL_MODES = ("1", "L", "P")
"""Pillow's modes that mmseg reads as one label a pixel."""

_Facts = TypeVar("_Facts", ImageFacts, LabelFacts)


def decode_images(
    folder: Path, names: Iterable[str], progress: Callable[[int, int], None] | None = None
) -> dict[str, ImageFacts]:
    """Decode images in as many threads as this process has cores.

    JPEG files are decoded at an eighth of their size, which reads the whole file but is several times faster.
    The facts of sound files are kept in the user's cache folder, and such a file is decoded again only after it has
    changed. A faulty one is decoded again each time: the fault may have been the disk's, or a permission's.

    Args:
        folder: of the images.
        names: files relative to ``folder``.
        progress: called with (images done, images to decode) now and then.

    Returns:
        The facts of every file that exists, by name.
    """
    return _examine(folder, names, _decode, ImageFacts, "images", progress)


def decode_labels(
    folder: Path, names: Iterable[str], progress: Callable[[int, int], None] | None = None
) -> dict[str, LabelFacts]:
    """Decode label maps and count their values, otherwise as :func:`decode_images`."""
    return _examine(folder, names, _decode_label, LabelFacts, "labels", progress)


_CHUNK = 512
_CACHE_VERSION = 3
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def _examine(
    folder: Path,
    names: Iterable[str],
    decode: Callable[[Path], tuple],
    facts_type: type[_Facts],
    kind: str,
    progress: Callable[[int, int], None] | None,
) -> dict[str, _Facts]:
    """Facts of the files that exist: a stamp, and what ``decode`` returned for the file as it is now."""
    stamps = {name: stamp for name in names if (stamp := _stamp_of(folder / name))}
    kept = cache_file(folder, kind, ".json")
    known = _read_cache(kept, facts_type)
    facts = {name: known[name] for name, stamp in stamps.items() if name in known and known[name].stamp == stamp}
    to_decode = [name for name in stamps if name not in facts]
    if not to_decode:
        return facts
    try:
        with ThreadPoolExecutor(usable_cores()) as pool:
            for start in range(0, len(to_decode), _CHUNK):
                chunk = to_decode[start : start + _CHUNK]
                decoded = pool.map(decode, [folder / name for name in chunk])
                for name, found in zip(chunk, decoded, strict=True):
                    facts[name] = facts_type(stamps[name], *found)
                if progress:
                    progress(len(chunk) + start, len(to_decode))
    finally:  # whoever interrupts the check does not lose what is done
        _write_cache(kept, known | facts)
    return facts


def _stamp_of(file: Path) -> Stamp | None:
    try:
        return file_stamp(file)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None


def _decode(file: Path) -> tuple[int, int, str | None]:
    """An image's (width, height), and what is wrong with it."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            image.draft(None, (max(width // 8, 1), max(height // 8, 1)))
            image.load()
            if image.getexif().get(_ORIENTATION) in _TURNED:
                width, height = height, width
            if image.format not in ("JPEG", "PNG"):
                if not cv2.haveImageReader(str(file)):
                    return 0, 0, f"OpenCV, which reads the images in training, reads no {image.format}"
                if cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) is None:  # as a TIFF of floats
                    kind = f"{image.format} of Pillow's mode {image.mode}"
                    return 0, 0, f"OpenCV, which reads the images in training, cannot read this {kind}"
            return width, height, None
    except Exception as error:  # a broken file makes decoders raise anything; the fault is reported
        return 0, 0, _describe(error, file)


def _decode_label(file: Path) -> tuple[int, int, str, list[int], list[int], str | None]:
    """A label map's width, height and mode, its values and how often each is there, and what is wrong with it."""
    try:
        with Image.open(file) as image:
            # As mmseg reads it: a palette's indices, not its colours.
            labels = np.asarray(image)
            counts = np.bincount(labels.ravel(), minlength=256) if image.mode in LABEL_MODES else np.zeros(256, int)
            values = np.flatnonzero(counts)
            return *image.size, image.mode, values.tolist(), counts[values].tolist(), None
    except Exception as error:  # as above
        return 0, 0, "", [], [], _describe(error, file)


def _describe(error: Exception, file: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # PIL names the file in full, as its callers do already.
    return str(error).replace(f" {str(file)!r}", "") or type(error).__name__


def _read_cache(file: Path, facts_type: type[_Facts]) -> dict[str, _Facts]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != _CACHE_VERSION:
            return {}
        return {name: facts_type(tuple(stamp), *entry) for name, (stamp, *entry) in content["images"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or not as we write it
        return {}


def _write_cache(file: Path, facts: dict[str, _Facts]) -> None:
    sound = {name: fact for name, fact in facts.items() if fact.fault is None}
    # A home that can't be written to costs the next run some time, no more.
    with contextlib.suppress(OSError):
        write_text(file, json.dumps({"version": _CACHE_VERSION, "images": sound}))
