"""What the start of a run asks of an annotation file, remembered, so that a checked file need not be parsed again."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fvnet_mm.data.cache import cache_file, file_stamp
from fvnet_mm.data.coco_document import CocoCategoryEntry, CocoDocument, CocoImage, read_coco_document
from fvnet_mm.data.coco_outline import is_outline, is_rectangle
from fvnet_mm.files import sha256_of, write_text

_VERSION = 5


@dataclass(frozen=True)
class CocoIndex:
    """An annotation file without its annotations.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        images: the entries of ``images``, with the keys that :class:`CocoImage` says.
        held: ids of the categories of each image's annotations, used or not.
        categories: the entries of ``categories``.
        annotation_count: number of annotations.
        without_outline: ids of the annotations without a segmentation.
        unsound_outlines: ids of those whose segmentation cannot be drawn.
        rectangles: number of annotations whose segmentation is their box.
        skipped_boxes: number of the annotations that mmdet leaves out, being thinner than a pixel or outside their
            image; None before the annotations are checked.
    """

    path: Path
    sha256: str
    images: list[CocoImage]
    held: list[list[int]]
    categories: list[CocoCategoryEntry]
    annotation_count: int
    without_outline: list[int]
    unsound_outlines: list[int]
    rectangles: int
    skipped_boxes: int | None = None


class CocoDocuments:
    """Reads annotation files, each once however many functions ask for it, and not at all if its index will do.

    The index of a file that was found right is kept in the user's cache folder until the file changes. COCO's
    training annotations are 450 MB of JSON; let go of this object when the checks are done.
    """

    def __init__(self) -> None:
        self._read: dict[Path, CocoDocument] = {}
        self._indices: dict[Path, CocoIndex] = {}

    def read(self, path: Path) -> CocoDocument:
        """An annotation file, or the errors of :func:`~fvnet_mm.data.coco_document.read_coco_document`."""
        path = Path(path)
        if path not in self._read:
            self._read[path] = read_coco_document(path)
        return self._read[path]

    def index(self, path: Path) -> CocoIndex:
        """The index of an annotation file, or the errors of :meth:`read`."""
        path = Path(path)
        if path not in self._indices:
            self._indices[path] = remembered_index(path) or _index_of(self.read(path))
        return self._indices[path]

    def found_right(self, path: Path, skipped_boxes: int) -> None:
        """Keep the index of a file whose annotations were checked."""
        index = replace(self.index(path), skipped_boxes=skipped_boxes)
        self._indices[Path(path)] = index
        content = asdict(index) | dict(version=_VERSION, stamp=self.read(path).stamp)
        del content["path"]
        # A home that can't be written to costs the next run some time, no more.
        with contextlib.suppress(OSError):
            write_text(cache_file(path, "annotations", ".json"), json.dumps(content))

    def taken(self) -> list[CocoDocument]:
        """Return the files that had to be read, and forget them."""
        documents, self._read = list(self._read.values()), {}
        return documents


def remembered_index(path: Path) -> CocoIndex | None:
    """The index of a file that was found right and has not changed since; None if there is none."""
    try:
        content = json.loads(cache_file(path, "annotations", ".json").read_text(encoding="utf-8"))
        if content.pop("version") != _VERSION or tuple(content.pop("stamp")) != file_stamp(path):
            return None
        return CocoIndex(path=Path(path), **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or not as we write it
        return None


def sha256_of_annotations(path: Path) -> str:
    """The SHA-256 of an annotation file, in hexadecimal digits; of one that was found right it is known."""
    index = remembered_index(path)
    return index.sha256 if index else sha256_of(path)


def _index_of(document: CocoDocument) -> CocoIndex:
    keys = CocoImage.__annotations__
    sizes = {image["id"]: (image["width"], image["height"]) for image in document.images}
    held: dict[int, set[int]] = {image["id"]: set() for image in document.images}
    for annotation in document.annotations:
        held.get(annotation["image_id"], set()).add(annotation["category_id"])
    unsound = [
        annotation["id"]
        for annotation in document.annotations
        if (outline := annotation.get("segmentation"))
        and not is_outline(outline, *sizes.get(annotation["image_id"], (0, 0)))
    ]
    return CocoIndex(
        document.path,
        sha256_of(document.path),
        [{key: image[key] for key in keys} for image in document.images],
        [sorted(held[image["id"]]) for image in document.images],
        [{"id": category["id"], "name": category["name"]} for category in document.categories],
        len(document.annotations),
        [annotation["id"] for annotation in document.annotations if not annotation.get("segmentation")],
        unsound,
        # An unsound one may be of any form.
        0 if unsound else sum(is_rectangle(each.get("segmentation"), each["bbox"]) for each in document.annotations),
    )
