"""Digests that tell whether two runs read the same data, wherever it is stored."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from fvnet_mm.data.ade20k_layout import Ade20kSplit
from fvnet_mm.data.coco_index import sha256_of_annotations
from fvnet_mm.data.coco_layout import CocoSplit
from fvnet_mm.data.image_folder import ImageFolderSplit, list_images


def fingerprint(split: CocoSplit | Ade20kSplit | ImageFolderSplit) -> str:
    """The SHA-256 of what matters of a split, in hexadecimal digits. Where it is stored does not matter.

    COCO's layout: the bytes of the annotation file, which names the images and their sizes. The others: the names,
    relative to their folders, and sizes in bytes of all images and label maps that are used, not their contents,
    which for a million images would be hours of reading.
    """
    if isinstance(split, CocoSplit):
        return sha256_of_annotations(split.annotation_file)
    if isinstance(split, Ade20kSplit):
        images = _names_and_sizes(split.image_dir, split.image_names)
        return _digest([*images, *_names_and_sizes(split.label_dir, split.label_names)])
    return _digest(_names_and_sizes(split.image_dir, sorted(name for name, _ in list_images(split))))


def _names_and_sizes(folder: Path, names: Iterable[str]) -> Iterable[str]:
    return (f"{name} {(folder / name).stat().st_size}" for name in names)


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
