"""Data sets for classification in ImageNet's layout: a folder for each split, in it one for each class.

Folders and files are found by mmpretrain's own functions, so classes, labels and counts are those of its data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmpretrain.datasets import ImageNet
from mmpretrain.datasets.custom import find_folders, get_samples

from fvnet_mm.data.coco_document import enumerate_differences, enumerate_offenders
from fvnet_mm.data.image_check import BadImage, decode_images
from fvnet_mm.data.listing import list_line
from fvnet_mm.data.roots import require_folder
from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text

EXTENSIONS: tuple[str, ...] = ImageNet.IMG_EXTENSIONS
"""Endings of the files that are images, whatever their case."""

_LAYOUT = "train/CLASS/*.jpg and val/CLASS/*.jpg, with the same class folders in both"


@dataclass(frozen=True)
class ImageFolderSplit:
    """One split.

    Attributes:
        name: 'train' or 'val'.
        image_dir: The folder of the class folders.
        class_counts: Images of each class, in the order of the labels.
        ignored_files: Files that are no images, beside or in the class folders; hidden ones are not counted.
        annotation_file: Lists the images that are used where these are not all (:func:`without_images`).
    """

    name: str
    image_dir: Path
    class_counts: tuple[int, ...]
    ignored_files: int
    annotation_file: Path | None = None

    @property
    def image_count(self) -> int:
        """Images of all classes."""
        return sum(self.class_counts)


@dataclass(frozen=True)
class ImageFolder:
    """A data set in ImageNet's layout.

    ``classes`` are the names of the class folders in the order of the labels, which is that of Python's
    ``sorted``. ``train`` is None where only the validation split was asked for.
    """

    root: Path
    classes: tuple[str, ...]
    train: ImageFolderSplit | None
    val: ImageFolderSplit


def find_image_folder(
    root: Path, names: Sequence[str] = ("train", "val"), folders: Mapping[str, str] | None = None
) -> ImageFolder:
    """Find the splits, classes and images of a data set in ImageNet's layout.

    Args:
        root: Folder of the data set, with ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``. Class folders may have
            folders of their own.
        names: The splits to look for: both, or ``("val",)`` for a test.
        folders: What the folders of splits are called that have not their split's name.

    Raises:
        UserError: A split is missing or has no class folders, the splits' classes differ, or a class has no
            training images. A class without validation images is none but has a count of 0.
    """
    root = Path(root)
    require_folder(root, _LAYOUT)
    called = {name: (folders or {}).get(name, name) for name in names}
    for folder in called.values():
        if not (root / folder).is_dir():
            there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
            held = f"its folders are {enumerate_offenders(there)}" if there else "it has no folders"
            raise UserError(f"{root} has no folder {folder!r} ({held}); it is to hold {_LAYOUT}.")
    classes = {name: _class_names(root / folder) for name, folder in called.items()}
    if "train" in classes:
        _check_same_classes({root / folder: classes[name] for name, folder in called.items()})
    splits = {name: _count(name, root / folder, classes[name]) for name, folder in called.items()}
    for split in splits.values():
        _check_no_empty_class(split, classes[split.name])
    return ImageFolder(root, classes["val"], splits.get("train"), splits["val"])


def list_images(split: ImageFolderSplit) -> Iterator[tuple[str, int]]:
    """A split's images: (path relative to its folder, label), a class after the other, or as its list has them."""
    if split.annotation_file:
        lines = split.annotation_file.read_text(encoding="utf-8").splitlines()
        return ((name, int(label)) for name, _, label in (line.strip().rpartition(" ") for line in lines))
    _, labels = find_folders(str(split.image_dir))
    return iter(get_samples(str(split.image_dir), labels, _is_image)[0])


def listed(split: ImageFolderSplit, file: Path) -> ImageFolderSplit:
    """The part of a split that a list names, as mmpretrain reads it: a line 'CLASS/path label' for each image.

    Raises:
        UserError: The list cannot be read, is empty, or has a line whose label is not that of the image's class folder.
    """
    classes, labels = find_folders(str(split.image_dir))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}, which lists the images of {split.image_dir}, cannot be read: {error}.") from error
    counts = [0] * len(labels)
    for number, line in enumerate(lines, 1):
        name, _, label = line.strip().rpartition(" ")
        if label != str(labels.get(name.partition("/")[0])):
            raise UserError(
                f"{file}, line {number}: {line[:80]!r} is not 'CLASS/IMAGE LABEL' with a class folder of "
                f"{split.image_dir} and its place in their sorted order, from 0; write it so."
            )
        counts[int(label)] += 1
    if not lines:
        raise UserError(f"{file} lists no image of {split.image_dir}; write a line 'CLASS/IMAGE LABEL' for each.")
    part = replace(split, class_counts=tuple(counts), annotation_file=file)
    _check_no_empty_class(part, classes)
    return part


def find_bad_images(split: ImageFolderSplit, progress: Callable[[int, int], None] | None = None) -> list[BadImage]:
    """Decode every image of a split by :func:`fvnet_mm.data.image_check.decode_images`, and name those that fail."""
    names = [name for name, _ in list_images(split)]
    facts = decode_images(split.image_dir, names, progress)
    reasons = {name: facts[name].fault if name in facts else "there is no such file" for name in names}
    return [BadImage(name, reason) for name, reason in reasons.items() if reason is not None]


def without_images(split: ImageFolderSplit, bad: Sequence[BadImage], out_file: Path) -> ImageFolderSplit:
    """Write a list of a split's images without some of them; returns the split with it.

    It has a line 'path label' for each image, as mmpretrain's ``CustomDataset`` reads its ``ann_file``.

    Raises:
        UserError: A training class, or the validation split, has no other images; or a name cannot be listed.
    """
    names = {image.name for image in bad}
    counts = [0] * len(split.class_counts)
    lines = []
    for name, label in list_images(split):
        if name in names:
            continue
        lines.append(list_line(name, split.image_dir, f" {label}"))
        counts[label] += 1
    shortened = replace(split, class_counts=tuple(counts), annotation_file=Path(out_file))
    changes = enumerate(zip(split.class_counts, counts, strict=True))
    emptied = [label for label, (before, after) in changes if before > after == 0]
    if not lines or (split.name == "train" and emptied):
        classes, _ = find_folders(str(split.image_dir))
        raise UserError(
            f"without the {len(names):,} bad images of {split.image_dir} the classes"
            f" {enumerate_offenders([classes[label] for label in emptied])} have no images left; mend the images."
        )
    write_text(out_file, "".join(lines))
    return shortened


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders of a split.

    Raises:
        UserError: There are none or only one, or one is hidden, which mmpretrain would take for a class, too.
    """
    classes, _ = find_folders(str(folder))
    if not classes:
        raise UserError(f"{folder} {_what_lies_there(folder)}")
    hidden = [name for name in classes if name.startswith(".")]
    if hidden:
        raise UserError(
            f"{folder} has hidden folders ({enumerate_offenders(hidden)}), each of which would become a class and"
            " shift the labels of the others; delete them."
        )
    if len(classes) == 1:
        raise UserError(
            f"{folder} has a single class folder, {classes[0]!r}, and there is nothing to tell apart;"
            " if the classes lie in it, move them one level up."
        )
    return tuple(classes)


def _what_lies_there(folder: Path) -> str:
    """What a split without class folders holds instead, and what to do."""
    files = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    images, archives = sum(map(_is_image, files)), sum(name.endswith(".tar") for name in files)
    if archives:
        return f"holds {archives:,} .tar archives and no class folders; unpack each into a folder of its name."
    if images:
        return (
            f"holds {images:,} images and no class folders; move each image into the folder of its class,"
            " named as in train (for ImageNet's validation images the script valprep.sh does it)."
        )
    return f"has no class folders; the data folder is to hold {_LAYOUT}."


def _check_same_classes(classes: Mapping[Path, tuple[str, ...]]) -> None:
    differences = enumerate_differences({folder.name: names for folder, names in classes.items()})
    if differences:
        raise UserError(
            f"the class folders of {' and '.join(map(str, classes))} differ ({differences});"
            " make the same folders in both, as a label is a folder's place among them."
        )


def _count(name: str, folder: Path, classes: Sequence[str]) -> ImageFolderSplit:
    ignored = sum(entry.is_file() and not entry.name.startswith(".") for entry in folder.iterdir())

    def is_image(file: str) -> bool:
        nonlocal ignored
        ignored += not _is_image(file)
        return _is_image(file)

    try:
        samples, _ = get_samples(str(folder), {name: label for label, name in enumerate(classes)}, is_image)
    except OSError as error:  # a folder without permission, or a link to a folder that it is in
        place = Path(error.filename or folder).relative_to(folder).parts[:3]
        raise UserError(
            f"{folder} cannot be listed: {error.strerror or error}, at {folder.joinpath(*place)}; make its folders"
            " readable, and let no link lead back to where it is."
        ) from error
    counts = [0] * len(classes)
    for _, label in samples:
        counts[label] += 1
    return ImageFolderSplit(name, folder, tuple(counts), ignored)


def _check_no_empty_class(split: ImageFolderSplit, classes: Sequence[str]) -> None:
    empty = [name for name, count in zip(classes, split.class_counts, strict=True) if count == 0]
    if empty and (split.name == "train" or len(empty) == len(classes)):
        raise UserError(
            f"{len(empty)} of {len(classes)} class folders of {split.image_dir} hold no images"
            f" ({enumerate_offenders(empty)}); images are files that end in {', '.join(EXTENSIONS)}."
        )
