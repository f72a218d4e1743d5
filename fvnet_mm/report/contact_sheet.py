"""A sheet of validation images: ground truth and detections side by side."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

from fvnet_mm.data.coco_document import CocoDocument, CocoImage, is_number, read_coco_document
from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing
from fvnet_mm.report.palette import COLOURS, INK, QUIET

TILE = 320
"""Width in pixels at which an image is shown."""

_PAIRS_A_ROW = 3
_GAP = 18
_SEAM = 4  # between ground truth and detections
_TOP_WITHOUT_THRESHOLD = 3

Font = ImageFont.FreeTypeFont
Size = tuple[int, int]


@dataclass(frozen=True)
class _Box:
    """An object in an image: (left, top, right, bottom) in the image's pixels; ground truth has no score."""

    edges: tuple[float, float, float, float]
    category: int
    score: float | None = None
    note: str = ""


def draw_contact_sheet(
    annotation_file: Path,
    image_dir: Path,
    predictions_file: Path,
    out_file: Path,
    count: int = 12,
    score_threshold: float = 0.3,
    title: str | None = None,
) -> Path:
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
        title: name of what is shown; None for the names of the image folder and its parent.

    Returns:
        ``out_file``.

    Raises:
        UserError: a file is missing or broken, or the predictions are of other images or categories.
    """
    document = read_coco_document(annotation_file)
    predictions = _read_predictions(predictions_file, document)
    chosen = np.unique(np.linspace(0, len(document.images) - 1, count).round().astype(int))
    images = [document.images[index] for index in chosen]
    truth = _ground_truth(document, {image["id"] for image in images})
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
    pairs = [_draw_pair(Path(image_dir), image, truth[image["id"]], shown[image["id"]], style) for image in images]
    folder = Path(image_dir).resolve()
    heading = f"{title or f'{folder.parent.name}/{folder.name}'}: ground truth (left) and detections (right)"
    subheading = f"{len(images)} of {len(document.images):,} images, evenly spread; {condition}"
    sheet = _arrange(pairs, heading, subheading, style)
    with replacing(out_file) as temporary:
        sheet.save(temporary, format="PNG")
    return Path(out_file)


def _read_predictions(path: Path, document: CocoDocument) -> dict[int, list[_Box]]:
    """The detections by image, best first."""
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the predictions {path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"the predictions {path} are not JSON ({error}); evaluate again.") from error
    images = {image["id"] for image in document.images}
    categories = {category["id"] for category in document.categories}
    found: dict[int, list[_Box]] = defaultdict(list)
    try:
        for entry in entries:
            if entry["image_id"] not in images or entry["category_id"] not in categories:
                raise UserError(
                    f"{path} has a detection in image {entry['image_id']!r} of category"
                    f" {entry['category_id']!r}, which {document.path} does not list;"
                    " name the annotations that the predictions were made for."
                )
            x, y, width, height = entry["bbox"]
            if not all(map(is_number, (x, y, width, height, entry["score"]))):
                raise ValueError
            box = _Box((x, y, x + width, y + height), entry["category_id"], entry["score"])
            found[entry["image_id"]].append(box)
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} is not in COCO's result format, a list of objects with image_id, category_id, bbox"
            " (x, y, width, height) and score."
        ) from None
    return {image: sorted(group, key=lambda box: -box.score) for image, group in found.items()}


def _ground_truth(document: CocoDocument, images: set[int]) -> dict[int, list[_Box]]:
    found: dict[int, list[_Box]] = defaultdict(list)
    for annotation in document.annotations:
        if annotation["image_id"] in images:
            x, y, width, height = annotation["bbox"]
            note = " (crowd)" if annotation["iscrowd"] else ""
            box = _Box((x, y, x + width, y + height), annotation["category_id"], note=note)
            found[annotation["image_id"]].append(box)
    return found


class _Style:
    """Colours and names of the categories, and the fonts."""

    def __init__(self, colours: dict[int, str], names: dict[int, str]) -> None:
        self.colours = colours
        self.names = names
        fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
        regular, bold = fonts / "DejaVuSans.ttf", fonts / "DejaVuSans-Bold.ttf"
        self.label, self.caption = ImageFont.truetype(regular, 11), ImageFont.truetype(regular, 12)
        self.text, self.heading = ImageFont.truetype(regular, 15), ImageFont.truetype(bold, 21)

    def label_of(self, box: _Box) -> str:
        score = "" if box.score is None else f" {box.score:.2f}"
        return f"{self.names[box.category]}{box.note}{score}"


def _draw_pair(
    image_dir: Path, image: CocoImage, truth: Sequence[_Box], found: Sequence[_Box], style: _Style
) -> Image.Image:
    file = image_dir / image["file_name"]
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"the image {file} can't be read: {error}.") from error
    scale = TILE / picture.width
    picture = picture.resize((TILE, max(round(picture.height * scale), 1)), Image.Resampling.BICUBIC)
    caption_height = 18
    pair = Image.new("RGB", (2 * TILE + _SEAM, caption_height + picture.height), "white")
    for left, boxes, caption in (
        (0, truth, f"{Path(image['file_name']).name}: {_count(truth, 'object')}"),
        (TILE + _SEAM, found, _count(found, "detection")),
    ):
        ImageDraw.Draw(pair).text((left, 0), _shortened(caption, style.caption, TILE), QUIET, style.caption)
        panel = picture.copy()
        _draw_boxes(panel, boxes, scale, style)
        pair.paste(panel, (left, caption_height))
    return pair


def _count(boxes: Sequence[_Box], noun: str) -> str:
    return f"{len(boxes)} {noun}{'' if len(boxes) == 1 else 's'}"


def _shortened(text: str, font: Font, width: float) -> str:
    """Cut a text's beginning off until it fits."""
    start = next(i for i in range(len(text) + 1) if font.getlength(text[i:]) <= width - 2 * font.size)
    return text if font.getlength(text) <= width else f"…{text[start:]}"


def _draw_boxes(panel: Image.Image, boxes: Sequence[_Box], scale: float, style: _Style) -> None:
    """Draw boxes and then their labels, the first box's label first; a label without room is left out."""
    draw = ImageDraw.Draw(panel, "RGBA")
    edges = [_on_panel(box, scale, panel.size) for box in boxes]
    for box, (left, top, right, bottom) in reversed(list(zip(boxes, edges, strict=True))):
        colour = style.colours[box.category]
        rim = (*ImageColor.getrgb(_contrast(colour)), 110)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=rim)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
    taken: list[tuple[float, float, float, float]] = []
    for box, (left, top, _, bottom) in zip(boxes, edges, strict=True):
        text = style.label_of(box)
        width, height = style.label.getlength(text) + 6, style.label.size + 4
        left = min(max(left, 0), max(panel.width - width, 0))
        for y in (top - height, top + 2, bottom - height - 1, bottom + 1):
            area = (left, y, left + width, y + height)
            if 0 <= y <= panel.height - height and not any(_overlap(area, other) for other in taken):
                taken.append(area)
                colour = style.colours[box.category]
                draw.rectangle(area, fill=colour)
                draw.text((left + 3, y + 1), text, _contrast(colour), style.label)
                break


def _on_panel(box: _Box, scale: float, size: Size) -> tuple[float, float, float, float]:
    """A box's edges on the scaled picture, kept inside it and in order."""
    left, right = np.sort(np.clip(np.array(box.edges[0::2]) * scale, 0, size[0] - 1))
    top, bottom = np.sort(np.clip(np.array(box.edges[1::2]) * scale, 0, size[1] - 1))
    return float(left), float(top), float(right), float(bottom)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _contrast(colour: str) -> str:
    return "black" if np.dot(ImageColor.getrgb(colour), (0.299, 0.587, 0.114)) > 120 else "white"


def _arrange(pairs: Sequence[Image.Image], heading: str, subheading: str, style: _Style) -> Image.Image:
    """Put pairs into rows under the heading and the legend of classes."""
    columns = min(_PAIRS_A_ROW, len(pairs))
    width = _GAP + columns * (pairs[0].width + _GAP)
    rows = [pairs[start : start + columns] for start in range(0, len(pairs), columns)]
    legend = _legend(style, width - 2 * _GAP)
    top = _GAP + 28 + 26 + legend.height + 10
    height = top + sum(max(pair.height for pair in row) + _GAP for row in rows)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), heading, INK, _fitting(style.heading, heading, width - 2 * _GAP))
    draw.text((_GAP, _GAP + 30), subheading, QUIET, _fitting(style.text, subheading, width - 2 * _GAP))
    sheet.paste(legend, (_GAP, _GAP + 56))
    for row in rows:
        for column, pair in enumerate(row):
            sheet.paste(pair, (_GAP + column * (pair.width + _GAP), top))
        top += max(pair.height for pair in row) + _GAP
    return sheet


def _fitting(font: Font, text: str, width: int) -> Font:
    """The font, smaller where the text would be wider than ``width``."""
    return font.font_variant(size=max(font.size * min(1, width / max(font.getlength(text), 1)), 8))


def _legend(style: _Style, width: int) -> Image.Image:
    line, square = 22, 13
    places: list[tuple[int, int, int]] = []
    x = y = 0
    for category in style.colours:
        length = square + 6 + int(style.text.getlength(style.names[category])) + 18
        if x and x + length > width:
            x, y = 0, y + line
        places.append((category, x, y))
        x += length
    legend = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(legend)
    for category, x, y in places:
        draw.rectangle((x, y + 3, x + square, y + 3 + square), style.colours[category], QUIET)
        draw.text((x + square + 6, y), style.names[category], INK, style.text)
    return legend
