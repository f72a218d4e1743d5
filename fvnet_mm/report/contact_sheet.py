"""A sheet of validation images: ground truth and detections side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from fvnet_mm.data.coco_document import CocoDocument, CocoImage, read_coco_document
from fvnet_mm.errors import UserError
from fvnet_mm.report.masks import Rle, area, encode, lay_over
from fvnet_mm.report.palette import COLOURS
from fvnet_mm.report.saved_predictions import read_detections
from fvnet_mm.report.sheet import (
    LABEL,
    LegendEntry,
    contrast,
    evenly_spread,
    font,
    height_at,
    open_picture,
    save_sheet,
    side_by_side,
)

TILE = 320
"""Width in pixels at which an image is shown."""

_PAIRS_A_ROW = 3
_TOP_WITHOUT_THRESHOLD = 3

Size = tuple[int, int]


@dataclass(frozen=True)
class _Box:
    """An object in an image: (left, top, right, bottom) in the image's pixels; ground truth has no score."""

    edges: tuple[float, float, float, float]
    category: int
    score: float | None = None
    note: str = ""
    mask: Rle | None = None


def draw_contact_sheet(
    annotation_file: Path,
    image_dir: Path,
    predictions_file: Path,
    out_file: Path,
    count: int = 12,
    score_threshold: float = 0.3,
    segmentations_file: Path | None = None,
) -> None:
    """Draw images of a split with their annotated objects (left) and the detections (right) into a PNG.

    The images are spread evenly over the annotation file: neither the best nor the worst are chosen. Where
    no detection in them reaches the threshold, the three best of each image are shown, and the sheet says so.

    Args:
        annotation_file: COCO annotations of the split.
        image_dir: folder to which the annotations' file names are relative.
        predictions_file: boxes in COCO's result format, as mmdet's ``CocoMetric`` writes with
            ``outfile_prefix``.
        out_file: the picture to write.
        count: images to show at most.
        score_threshold: least score of the detections that are shown.
        segmentations_file: the same detections with masks, as ``CocoMetric`` writes beside the boxes
            (``.segm.json``); they are drawn instead of ``predictions_file``, and the annotations' masks, too.

    Raises:
        UserError: a file is missing or broken, or the predictions are of other images or categories.
    """
    document = read_coco_document(annotation_file)
    masks = segmentations_file is not None
    predictions = _read_predictions(segmentations_file or predictions_file, document, masks)
    images = [document.images[index] for index in evenly_spread(len(document.images), count)]
    truth = _ground_truth(document, {image["id"]: image for image in images}, masks)
    boxes = {image["id"]: predictions.get(image["id"], []) for image in images}
    shown = {image: [box for box in found if box.score >= score_threshold] for image, found in boxes.items()}
    condition = f"detections with a score of {score_threshold:.2f} or more"
    if not any(shown.values()) and any(boxes.values()):
        shown = {image: found[:_TOP_WITHOUT_THRESHOLD] for image, found in boxes.items()}
        condition = (
            f"no detection reaches a score of {score_threshold:.2f}:"
            f" the best {_TOP_WITHOUT_THRESHOLD} of each image are shown"
        )
    used = sorted({box.category for group in (truth, shown) for found in group.values() for box in found})
    names = {category["id"]: category["name"] for category in document.categories}
    style = _Style({category: COLOURS[i % len(COLOURS)] for i, category in enumerate(used)}, names)
    pairs = [_draw_pair(image_dir, image, truth[image["id"]], shown[image["id"]], style) for image in images]
    folder = image_dir.resolve()
    heading = f"{folder.parent.name}/{folder.name}: ground truth (left) and detections (right)"
    subheading = f"{len(images)} of {len(document.images):,} images, evenly spread; {condition}"
    save_sheet(pairs, _PAIRS_A_ROW, heading, subheading, style.legend(), out_file)


def _read_predictions(path: Path, document: CocoDocument, masks: bool) -> dict[int, list[_Box]]:
    """The detections by image, best first."""
    found: dict[int, list[_Box]] = defaultdict(list)
    for entry in read_detections(path, document, ["bbox", "segmentation"] if masks else ["bbox"]):
        x, y, width, height = entry["bbox"]
        mask = entry["segmentation"] if masks else None
        box = _Box((x, y, x + width, y + height), entry["category_id"], entry["score"], mask=mask)
        found[entry["image_id"]].append(box)
    return {image: sorted(group, key=lambda box: -box.score) for image, group in found.items()}


def _ground_truth(document: CocoDocument, images: dict[int, CocoImage], masks: bool) -> dict[int, list[_Box]]:
    found: dict[int, list[_Box]] = defaultdict(list)
    for annotation in document.annotations:
        image = images.get(annotation["image_id"])
        if image is None:
            continue
        x, y, width, height = annotation["bbox"]
        note = " (crowd)" if annotation["iscrowd"] else ""
        mask = encode(annotation.get("segmentation"), int(image["height"]), int(image["width"])) if masks else None
        found[image["id"]].append(_Box((x, y, x + width, y + height), annotation["category_id"], note=note, mask=mask))
    return found


class _Style:
    """Colours and names of the categories."""

    def __init__(self, colours: dict[int, str], names: dict[int, str]) -> None:
        self.colours = colours
        self.names = names

    def label_of(self, box: _Box) -> str:
        score = "" if box.score is None else f" {box.score:.2f}"
        return f"{self.names[box.category]}{box.note}{score}"

    def legend(self) -> list[LegendEntry]:
        return [(colour, self.names[category]) for category, colour in self.colours.items()]


def _draw_pair(
    image_dir: Path, image: CocoImage, truth: Sequence[_Box], found: Sequence[_Box], style: _Style
) -> Image.Image:
    picture = open_picture(image_dir / image["file_name"])
    scale = TILE / picture.width
    picture = picture.resize((TILE, height_at(TILE, picture)), Image.Resampling.BICUBIC)
    captions = (f"{Path(image['file_name']).name}: {_count(truth, 'object')}", _count(found, "detection"))
    panels = (picture, picture.copy())
    for panel, boxes in zip(panels, (truth, found), strict=True):
        try:
            _draw_masks(panel, boxes, style)
        except ValueError as error:
            raise UserError(f"a mask of {image['file_name']} can't be decoded ({error}); evaluate again.") from error
        _draw_boxes(panel, boxes, scale, style)
    return side_by_side(list(zip(panels, captions, strict=True)))


def _count(boxes: Sequence[_Box], noun: str) -> str:
    return f"{len(boxes)} {noun}{'' if len(boxes) == 1 else 's'}"


def _draw_masks(panel: Image.Image, boxes: Sequence[_Box], style: _Style) -> None:
    """Lay the masks over the panel, the largest first, so that none hides another."""
    masks = [(box.mask, style.colours[box.category]) for box in boxes if box.mask is not None]
    for mask, colour in sorted(masks, key=lambda pair: -area(pair[0])):
        lay_over(panel, mask, colour)


def _draw_boxes(panel: Image.Image, boxes: Sequence[_Box], scale: float, style: _Style) -> None:
    """Draw boxes and then their labels, the first box's label first; a label without room is left out."""
    draw = ImageDraw.Draw(panel, "RGBA")
    edges = [_on_panel(box, scale, panel.size) for box in boxes]
    for box, (left, top, right, bottom) in reversed(list(zip(boxes, edges, strict=True))):
        colour = style.colours[box.category]
        if box.mask is not None:  # it shows the object already
            draw.rectangle((left, top, right, bottom), outline=colour)
            continue
        rim = (*ImageColor.getrgb(contrast(colour)), 110)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=rim)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
    taken: list[tuple[float, float, float, float]] = []
    for box, (left, top, _, bottom) in zip(boxes, edges, strict=True):
        text = style.label_of(box)
        width, height = font(LABEL).getlength(text) + 6, LABEL + 4
        left = min(max(left, 0), max(panel.width - width, 0))
        for y in (top - height, top + 2, bottom - height - 1, bottom + 1):
            area = (left, y, left + width, y + height)
            if 0 <= y <= panel.height - height and not any(_overlap(area, other) for other in taken):
                taken.append(area)
                colour = style.colours[box.category]
                draw.rectangle(area, fill=colour)
                draw.text((left + 3, y + 1), text, contrast(colour), font(LABEL))
                break


def _on_panel(box: _Box, scale: float, size: Size) -> tuple[float, float, float, float]:
    """A box's edges on the scaled picture, kept inside it and in order."""
    left, right = np.sort(np.clip(np.array(box.edges[0::2]) * scale, 0, size[0] - 1))
    top, bottom = np.sort(np.clip(np.array(box.edges[1::2]) * scale, 0, size[1] - 1))
    return float(left), float(top), float(right), float(bottom)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
