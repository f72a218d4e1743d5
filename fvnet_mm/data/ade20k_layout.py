"""Finding the parts of a semantic segmentation data set in ADE20K's layout (ADEChallengeData2016)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from fvnet_mm.data.classes import ADE20K_CLASSES
from fvnet_mm.data.coco_document import enumerate_offenders
from fvnet_mm.data.roots import refuse_other_layout, require_folder
from fvnet_mm.errors import UserError

ARCHIVE = "ADEChallengeData2016"
"""Name of the folder, and but for '.zip' of the archive, in which ADE20K's 150-class benchmark comes."""

SPLIT_FOLDERS = {"train": "training", "val": "validation"}
"""The folder of each split below ``images`` and ``annotations``."""

CLASSES_FILE = "classes.txt"
OBJECT_INFO_FILE = "objectInfo150.txt"
SCENES_FILE = "sceneCategories.txt"

IGNORED = 255
"""The label that training and evaluation leave out, as they do 0; classes are the labels in between."""


@dataclass(frozen=True)
class Ade20kSplit:
    """One split: pairs of an image and a label map that have the same name but for the suffix.

    Attributes:
        name: 'train' or 'val'.
        image_dir: folder of the images, ``{stem}{image_suffix}``.
        label_dir: folder of the label maps, ``{stem}{label_suffix}``.
        stems: the pairs' names, sorted; those in subfolders as 'folder/name'.
        image_suffix: with its dot, as it is written in this split.
        label_suffix: likewise.
        list_file: names the stems, one a line, where they are not all that is in the folders (mmseg's
            ``ann_file``).
        first_label: the label of the first class: 1, where 0 means not labelled, or 0 (mmseg's data sets with
            ``reduce_zero_label=False``).
    """

    name: str
    image_dir: Path
    label_dir: Path
    stems: tuple[str, ...]
    image_suffix: str = ".jpg"
    label_suffix: str = ".png"
    list_file: Path | None = None
    first_label: int = 1

    @property
    def image_count(self) -> int:
        """How many pairs there are."""
        return len(self.stems)

    @property
    def image_names(self) -> list[str]:
        """The images' file names relative to ``image_dir``, in the order of ``stems``."""
        return [stem + self.image_suffix for stem in self.stems]

    @property
    def label_names(self) -> list[str]:
        """The label maps' file names relative to ``label_dir``, in the order of ``stems``."""
        return [stem + self.label_suffix for stem in self.stems]

    @property
    def shared_names(self) -> list[str]:
        """Names without suffix that images in several folders have: their predictions would overwrite each other."""
        counts = Counter(PurePath(stem).name for stem in self.stems)
        return sorted(name for name, count in counts.items() if count > 1)


@dataclass(frozen=True)
class Ade20kFolder:
    """A data set in ADE20K's layout.

    ``classes[k]`` is the class of the label ``k + first_label``. ``train`` is None where only the validation split was
    asked for.
    """

    root: Path
    classes: tuple[str, ...]
    train: Ade20kSplit | None
    val: Ade20kSplit


def find_ade20k(root: Path, names: Sequence[str] = ("train", "val")) -> Ade20kFolder:
    """Find the classes, images and label maps of a data set in ADE20K's layout.

    Images are in ``images/training`` and ``images/validation``, label maps of the same names in
    ``annotations/training`` and ``annotations/validation``: PNG files of one 8-bit channel, in which 0 means not
    labelled and k the k-th class. See :func:`find_classes` for the classes.

    Args:
        root: folder of the data set, or the one that ``ADEChallengeData2016`` was unpacked into.
        names: the splits to look for: both, or ``("val",)`` for a test.

    Raises:
        UserError: it is the wrong archive of ADE20K, a folder is missing or empty, an image or label map is without
            its partner, a split has images of several suffixes, or the classes can't be told.
    """
    root = Path(root)
    require_folder(root, _LAYOUT)
    if not (root / "annotations").is_dir() and (root / ARCHIVE).is_dir():
        root = root / ARCHIVE
    if not (root / "annotations" / SPLIT_FOLDERS["val"]).is_dir():
        _refuse_full_ade20k(root)
        refuse_other_layout(root, "ADE20K")
    splits = {
        name: as_split(name, root / "images" / SPLIT_FOLDERS[name], root / "annotations" / SPLIT_FOLDERS[name])
        for name in names
    }
    return Ade20kFolder(root, find_classes(root), splits.get("train"), splits["val"])


def as_split(name: str, image_dir: Path, label_dir: Path, list_file: Path | None = None) -> Ade20kSplit:
    """Describe a split whose folders are known, of which ``list_file`` may name the stems to use, one a line.

    Raises:
        UserError: as :func:`find_ade20k`.
    """
    image_suffix, images = _list_files(image_dir, "images", _IMAGE_SUFFIXES)
    label_suffix, labels = _list_files(label_dir, "label maps", (".png",))
    if list_file:
        used = _read_list(Path(list_file))
        missing = sorted(used - images)
        if missing:
            raise UserError(
                f"{list_file} names {len(missing):,} of {len(used):,} images that are not in {image_dir}"
                f" ({enumerate_offenders(missing)}); put them there or take them out of the list."
            )
        images, labels = used, labels & used
    unpaired = [
        f"{len(alone):,} {what} ({enumerate_offenders(alone)})"
        for alone, what in (
            (sorted(images - labels), "images have no label map"),
            (sorted(labels - images), "label maps have no image"),
        )
        if alone
    ]
    if unpaired:
        raise UserError(
            f"{' and '.join(unpaired)} in {image_dir} and {label_dir}; give an image and its label map the same name"
            f" but for {image_suffix} and {label_suffix}, and remove what has no partner."
        )
    return Ade20kSplit(name, image_dir, label_dir, tuple(sorted(images)), image_suffix, label_suffix, list_file)


def find_classes(root: Path) -> tuple[str, ...]:
    """The classes of a data set in ADE20K's layout, in the order of the labels 1, 2, 3 ...

    They are the lines of ``classes.txt``. Lines that begin with # are left out; the label 0, not labelled, is no
    class and has no line. Without that file ADE20K's 150 classes are taken where ``objectInfo150.txt``,
    ``sceneCategories.txt`` or the name ``ADEChallengeData2016`` says that it is ADE20K.

    Raises:
        UserError: there is no sign of either, or a file has a wrong form.
    """
    if (root / CLASSES_FILE).is_file():
        return _read_classes(root / CLASSES_FILE)
    if (root / OBJECT_INFO_FILE).is_file():
        _check_object_info(root / OBJECT_INFO_FILE)
    elif root.resolve().name != ARCHIVE and not (root / SCENES_FILE).is_file():
        raise UserError(
            f"{root} does not say which classes it has: write them into {root / CLASSES_FILE}, one name a line, that"
            " of label 1 first (label 0 means not labelled and has no line)."
        )
    return ADE20K_CLASSES


_LAYOUT = "images/training, images/validation, annotations/training and annotations/validation"
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def _list_files(folder: Path, what: str, suffixes: Sequence[str]) -> tuple[str, set[str]]:
    """The one suffix of a folder's files, as mmseg wants it, and their names without it."""
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist, where the {what} are expected; a data set in ADE20K's layout has {_LAYOUT}."
        )
    found: dict[str, set[str]] = {}
    for name in _walk(folder):
        suffix = PurePath(name).suffix
        if suffix.lower() in suffixes:
            found.setdefault(suffix, set()).add(name.removesuffix(suffix))
    if not found:
        raise UserError(f"{folder} has no {what} ({', '.join(suffixes)}); put them there.")
    if len(found) > 1:
        counts = ", ".join(f"{len(stems):,} {suffix}" for suffix, stems in sorted(found.items()))
        raise UserError(f"the {what} in {folder} have different suffixes ({counts}); convert or rename them to one.")
    return found.popitem()


def _walk(folder: Path) -> Iterator[str]:
    """The files below a folder that mmseg lists: in subfolders too, hidden ones not."""
    for parent, _, files in os.walk(folder, followlinks=True):
        inner = Path(parent).relative_to(folder)
        yield from ((inner / file).as_posix() for file in files if not file.startswith("."))


def _text_of(file: Path, encoding: str) -> str:
    try:
        return file.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: byte {error.start:,} is no UTF-8 text; save the file as UTF-8.") from error


def _read_list(file: Path) -> set[str]:
    if not file.is_file():
        raise UserError(f"{file} does not exist, which is to name the images to use, one a line without the suffix.")
    # As mmseg reads it, to which a byte order mark is part of the first name.
    stems = {line.strip() for line in _text_of(file, "utf-8").splitlines()} - {""}
    if not stems:
        raise UserError(f"{file} is empty; write the names of the images to use into it, one a line.")
    return stems


def _read_classes(file: Path) -> tuple[str, ...]:
    lines = _text_of(file, "utf-8-sig").splitlines()
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if not line.lstrip().startswith("#")]
    while numbered and not numbered[-1][1]:
        numbered.pop()
    names = [name for _, name in numbered]
    if not names:
        raise UserError(f"{file} is empty; write the classes into it, one name a line, that of label 1 first.")
    for number, name in numbered:
        if not name:
            raise UserError(
                f"{file}: line {number} is empty, so it is unclear which label the next class has; write the missing"
                " name, or take the line out."
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{file}: {enumerate_offenders(repeated)} are there more than once; give each class its name.")
    if len(names) >= IGNORED:
        raise UserError(
            f"{file} has {len(names)} classes; 8-bit label maps have room for {IGNORED - 1} beside 0 (not labelled)"
            f" and {IGNORED} (ignored)."
        )
    return tuple(names)


def _check_object_info(file: Path) -> None:
    """Refuse a table whose rows are not numbered from 1 to 150: it would describe other classes than ADE20K's."""
    _, *rows = file.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    numbers = [row.split("\t")[0].strip() for row in rows if row.strip()]
    if numbers != [str(number) for number in range(1, len(ADE20K_CLASSES) + 1)]:
        raise UserError(
            f"{file} is not the table of ADE20K's {len(ADE20K_CLASSES)} classes that its name promises; for other"
            f" classes write {file.with_name(CLASSES_FILE)}, one name a line, that of label 1 first."
        )


def _refuse_full_ade20k(root: Path) -> None:
    """Recognise the full ADE20K, of 2016 or 2021, in a folder that lacks annotations, above or below it."""
    inside = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    for place in (root, *_enclosing_archives(root), *inside):
        signs = [*place.glob("index_ade20k.*"), *place.glob("images/ADE")]
        signs = signs or next(([file] for file in place.glob("images/*/*/*/*_seg.png")), [])
        if signs or place.name.startswith("ADE20K_20"):
            why = f"it has {signs[0].relative_to(place)}" if signs else "its name says so"
            raise UserError(
                f"{place} is the full ADE20K ({why}), whose thousands of object names come as colour-coded *_seg.png"
                f" files, not the 150-class benchmark with one 8-bit label map an image; get {ARCHIVE}.zip from"
                " http://data.csail.mit.edu/places/ADEchallenge/ (MIT Scene Parsing Benchmark) and unpack it."
            )


def _enclosing_archives(folder: Path) -> Iterator[Path]:
    """The folders above one that has a name from inside the full ADE20K."""
    folder = folder.resolve()
    while folder.name in ("images", "ADE", *SPLIT_FOLDERS.values()):
        folder = folder.parent
        yield folder
