"""Checks of a COCO split before a training starts: its annotations' sense, and every image's soundness."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fvnet_mm.data.coco_document import CocoDocument, enumerate_offenders
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.data.coco_layout import CocoSplit
from fvnet_mm.data.image_check import EXCHANGED, BadImage, ImageFacts, decode_images
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing


def check_annotations(split: CocoSplit, documents: CocoDocuments) -> int:
    """Check that a split's annotations refer to images and categories that exist.

    Of a file that was found right and has not changed since, only the images are looked for again.

    Returns:
        How many annotations mmdet leaves out, being thinner than a pixel or outside their image.

    Raises:
        UserError: the file has a wrong form (see :func:`fvnet_mm.data.coco_document.read_coco_document`), ids
            are there twice, an annotation names an image or category that is not listed, mmdet leaves all of them
            out, or an image that is listed is not in the folder or would be out of it.
    """
    path, index = split.annotation_file, documents.index(split.annotation_file)
    if index.skipped_boxes is None:
        _check_ids(documents.read(path))
    names = [image["file_name"] for image in index.images]
    outside = [name for name in names if _leaves_folder(name)]
    _refuse(
        outside,
        f"{path}: {{count}} file names lead out of the image folder ({{first}});"
        " write them relative to it and without '..'.",
    )
    _refuse(
        _missing_files(split.image_dir, names),
        f"{path} names {{count}} of {len(names):,} images that are not in {split.image_dir} ({{first}});"
        " put them there or take them out of the annotations.",
    )
    if index.skipped_boxes is not None:
        return index.skipped_boxes
    _check_references(documents.read(path))
    skipped = _count_skipped(documents.read(path))
    if skipped == split.annotation_count:
        raise UserError(
            f"no object of {path} can be used: all {skipped} are thinner than a pixel or outside their image; boxes are"
            " [x, y, width, height] in pixels."
        )
    documents.found_right(path, skipped)
    return skipped


def _check_ids(document: CocoDocument) -> None:
    for section, entries in (("image", document.images), ("annotation", document.annotations)):
        repeated = _repeated([entry["id"] for entry in entries])
        _refuse(
            repeated,
            f"{document.path}: {{count}} {section} ids are there more than once ({{first}}); give each its own.",
        )


def _check_references(document: CocoDocument) -> None:
    path = document.path
    for key, section in (("image_id", document.images), ("category_id", document.categories)):
        known = {entry["id"] for entry in section}
        unknown = [annotation["id"] for annotation in document.annotations if annotation[key] not in known]
        values = {annotation[key] for annotation in document.annotations if annotation[key] not in known}
        listed = "images" if key == "image_id" else "categories"
        _refuse(
            unknown,
            f"{path}: {{count}} annotations (ids {{first}}) have a {key} that is not in {listed!r}"
            f" ({enumerate_offenders(sorted(values))}); add it there or correct them.",
        )


def check_outlines(split: CocoSplit, documents: CocoDocuments) -> None:
    """Check that every object of a split has an outline that pycocotools can fill.

    Raises:
        UserError: objects have none, or one of another form.
    """
    index = documents.index(split.annotation_file)
    path, total = split.annotation_file, f"{index.annotation_count:,}"
    _refuse(
        index.without_outline,
        f"{path}: {{count}} of {total} objects have no segmentation ({{first}}), and the config learns masks; add them,"
        " or train a detector of boxes (retinanet).",
    )
    _refuse(
        index.unsound_outlines,
        f"{path}: the segmentation of {{count}} of {total} objects ({{first}}) is neither a list of polygons"
        " [x, y, x, y, x, y ...] nor run lengths of the image's size; export it again.",
    )


def find_bad_images(
    split: CocoSplit, documents: CocoDocuments, progress: Callable[[int, int], None] | None = None
) -> list[BadImage]:
    """Decode every image of a split and name those that fail or are not as large as the annotations say.

    Images are decoded, and what was found is remembered, by :func:`fvnet_mm.data.image_check.decode_images`.
    """
    images = documents.index(split.annotation_file).images
    facts = decode_images(split.image_dir, [image["file_name"] for image in images], progress)
    bad: dict[str, BadImage] = {}
    for image in images:
        name = image["file_name"]
        reason = _reason(facts.get(name), image["width"], image["height"])
        if reason:
            bad.setdefault(name, BadImage(name, reason))
    return list(bad.values())


def without_images(split: CocoSplit, bad: Sequence[BadImage], out_file: Path, documents: CocoDocuments) -> CocoSplit:
    """Write a split's annotations without some images and the objects in them; returns the split with this file.

    Raises:
        UserError: no image, or no object, would be left.
    """
    document = documents.read(split.annotation_file)
    names = {image.name for image in bad}
    images = [image for image in document.images if image["file_name"] not in names]
    kept = {image["id"] for image in images}
    annotations = [annotation for annotation in document.annotations if annotation["image_id"] in kept]
    if not annotations:
        raise UserError(
            f"without the {len(names):,} bad images of {split.image_dir}"
            f" ({enumerate_offenders([image.name for image in bad])}) {split.annotation_file} has"
            f" {'no objects' if images else 'no images'} left; mend the images."
        )
    content = {
        **document.extras,
        "images": images,
        "annotations": annotations,
        "categories": document.categories,
    }
    with replacing(out_file) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    return replace(
        split,
        annotation_file=Path(out_file),
        image_count=len(images),
        annotation_count=len(annotations),
    )


def _refuse(offenders: Sequence[Hashable], sentence: str) -> None:
    """Raise the sentence, with {count} and {first} filled in, if there are offenders."""
    if offenders:
        count, first = f"{len(offenders):,}", enumerate_offenders(offenders)
        # Not str.format: paths in the sentence may have braces.
        raise UserError(sentence.replace("{count}", count).replace("{first}", first))


def _repeated(ids: Iterable[int]) -> list[int]:
    return [value for value, times in Counter(ids).items() if times > 1]


def _leaves_folder(name: str) -> bool:
    """Whether a file name is absolute, on whichever system it was written, or climbs up."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or parts[0].endswith(":") or ".." in parts


def _missing_files(folder: Path, names: Iterable[str]) -> list[str]:
    """The names for which there is no file; folders are listed once, as a look at each file is slow."""
    listed: dict[str, set[str]] = {}
    missing = []
    for name in names:
        parent, base = os.path.split(name)
        if parent not in listed:
            try:
                listed[parent] = {file.name for file in os.scandir(folder / parent)}
            except (OSError, ValueError):
                listed[parent] = set()
        if base not in listed[parent]:
            missing.append(name)
    return missing


def _count_skipped(document: CocoDocument) -> int:
    sizes = {image["id"]: (image["width"], image["height"]) for image in document.images}
    skipped = 0
    for annotation in document.annotations:
        x, y, width, height = annotation["bbox"]
        image_width, image_height = sizes[annotation["image_id"]]
        inside = min(x + width, image_width) > max(x, 0) and min(y + height, image_height) > max(y, 0)
        skipped += not (inside and width >= 1 and height >= 1 and annotation["area"] > 0)
    return skipped


def _reason(facts: ImageFacts | None, width: float, height: float) -> str | None:
    """Why an image that is said to be width x height pixels can't be used; None if it can."""
    if facts is None:
        return "there is no such file"
    if facts.fault is not None:
        return facts.fault
    if (facts.width, facts.height) != (width, height):
        hint = EXCHANGED if (facts.height, facts.width) == (width, height) else ""
        return f"it is {facts.width}x{facts.height}, the annotations say {width}x{height}{hint}"
    return None
