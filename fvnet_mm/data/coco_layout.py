"""Finding the parts of a data set in COCO's layout, however its folders are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvnet_mm.data.coco_document import enumerate_differences, enumerate_offenders
from fvnet_mm.data.coco_index import CocoDocuments, CocoIndex
from fvnet_mm.data.roots import refuse_other_layout, require_folder
from fvnet_mm.errors import UserError


@dataclass(frozen=True)
class CocoSplit:
    """One split: its annotation file, the folder to which the images' names are relative, and its counts."""

    name: str
    annotation_file: Path
    image_dir: Path
    image_count: int
    annotation_count: int


@dataclass(frozen=True)
class CocoFolder:
    """A data set in COCO's layout.

    ``classes`` stand in the order of the annotation files' ``categories``. That is the order that mmdet gives
    the labels, whatever the categories' ids are. ``train`` is None where only the validation split was asked for.
    """

    root: Path
    classes: tuple[str, ...]
    train: CocoSplit | None
    val: CocoSplit


def find_coco(
    root: Path, documents: CocoDocuments | None = None, names: Sequence[str] = ("train", "val")
) -> CocoFolder:
    """Find the annotation files and image folders of a data set in COCO's layout.

    The annotations are ``annotations/instances_train*.json`` and ``instances_val*.json``; the images are
    wherever below ``root`` the files are that the annotations name.

    Args:
        root: folder of the data set.
        documents: reads the annotation files; pass it where others read them too.
        names: the splits to look for: both, or ``("val",)`` for a test.

    Raises:
        UserError: a part is missing or ambiguous, an annotation file has a wrong form, a category's name is
            there twice, or the two files' categories differ.
    """
    root = Path(root)
    documents = documents or CocoDocuments()
    require_folder(
        root, "annotations/instances_train*.json, annotations/instances_val*.json and the images that they name"
    )
    refuse_other_layout(root, "COCO")
    files = {name: _annotation_file(root, name) for name in names}
    read = {name: documents.index(file) for name, file in files.items()}
    classes = {name: _class_names(document) for name, document in read.items()}
    if "train" in files:
        _check_same_classes(files, classes)
    splits = {
        name: as_split(name, files[name], _image_dir(root, name, document), document) for name, document in read.items()
    }
    return CocoFolder(root, classes["val"], splits.get("train"), splits["val"])


def as_split(name: str, annotation_file: Path, image_dir: Path, document: CocoIndex) -> CocoSplit:
    """Describe a split whose files are known."""
    return CocoSplit(name, annotation_file, image_dir, len(document.images), document.annotation_count)


def _annotation_file(root: Path, split: str) -> Path:
    folder = root / "annotations"
    found = sorted(folder.glob(f"instances_{split}*.json"))
    if not found:
        lacking = "has no" if folder.is_dir() else "does not exist, which is to hold"
        raise UserError(
            f"{folder} {lacking} instances_{split}*.json; name the annotations of the"
            f" {'training' if split == 'train' else 'validation'} images instances_{split}.json."
        )
    for usual in (f"instances_{split}2017.json", f"instances_{split}.json"):
        if folder / usual in found:
            return folder / usual
    if len(found) > 1:
        raise UserError(
            f"{folder} has several annotation files"
            f" ({enumerate_offenders([file.name for file in found])}); name the one to use"
            f" instances_{split}.json."
        )
    return found[0]


def _class_names(document: CocoIndex) -> tuple[str, ...]:
    """The categories' names in the file's order, in which pycocotools' ``getCatIds`` gives the ids.

    mmdet asks it for the ids of its class names and numbers the answer: sorting here would mix up the labels.
    """
    for key in ("name", "id"):
        seen: set[object] = set()
        repeated: dict[object, None] = {}
        for category in document.categories:
            if category[key] in seen:
                repeated[category[key]] = None
            seen.add(category[key])
        if repeated:
            raise UserError(
                f"{document.path}: more than one category has the {key}"
                f" {enumerate_offenders(list(repeated))}; give each its own."
            )
    return tuple(category["name"] for category in document.categories)


def _check_same_classes(files: dict[str, Path], classes: dict[str, tuple[str, ...]]) -> None:
    if classes["train"] == classes["val"]:
        return
    differences = enumerate_differences({files[split].name: classes[split] for split in ("train", "val")})
    what = differences or "the same names in another order, which would exchange the labels"
    raise UserError(
        f"the categories of {files['train']} and {files['val'].name} differ ({what});"
        " write the same list of categories into both."
    )


def _image_dir(root: Path, split: str, document: CocoIndex) -> Path:
    """The folder in which most of a sample of the named images are; of equals the more usual one."""
    step = max(len(document.images) // 50, 1)
    names = [image["file_name"] for image in document.images[::step]]
    candidates = list(dict.fromkeys(_candidate_dirs(root, split, document.path)))
    hits = [sum(_is_file(folder / name) for name in names) for folder in candidates]
    if not any(hits):
        looked_in = ", ".join(str(folder) for folder in candidates[:4])
        raise UserError(
            f"none of the {len(document.images):,} images that {document.path} names"
            f" (the first is {names[0]!r}) is in {looked_in} or another folder of {root};"
            f" put them into {candidates[0]}."
        )
    return candidates[hits.index(max(hits))]


def _candidate_dirs(root: Path, split: str, annotation_file: Path) -> Iterator[Path]:
    suffix = annotation_file.stem.removeprefix("instances_")
    for parent in (root, root / "images"):
        yield parent / suffix
        yield parent / split
    yield root / "images"
    yield root
    others = {"train": ("val", "test"), "val": ("train", "test")}[split]
    for parent in (root, root / "images"):
        if parent.is_dir():
            # Another split's folder may hold other images of the same names.
            yield from (
                folder for folder in sorted(parent.iterdir()) if folder.is_dir() and not folder.name.startswith(others)
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that this file system can't have
        return False
