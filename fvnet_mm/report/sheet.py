"""What every sheet of images is made of: pictures, captions, a legend, and their arrangement under a heading."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

from fvnet_mm.errors import UserError
from fvnet_mm.files import replacing
from fvnet_mm.report.palette import INK, QUIET

LABEL, CAPTION, TEXT, HEADING = 11, 12, 15, 21
"""Sizes of type in pixels: on a picture, above it, in the legend, and at the top."""

CAPTION_HEIGHT = 18

_GAP = 18
_SEAM = 4  # between the panels of one image
_SWATCH = 13

Font = ImageFont.FreeTypeFont
LegendEntry = tuple[str | Image.Image, str]
"""A colour or a pattern, and what it stands for."""


@lru_cache(maxsize=16)
def font(size: int, bold: bool = False) -> Font:
    """Return matplotlib's own DejaVu Sans, which is on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def evenly_spread(total: int, count: int) -> list[int]:
    """Choose at most ``count`` of ``total`` indices, the first and the last among them."""
    return np.unique(np.linspace(0, total - 1, count).round().astype(int)).tolist()


def open_picture(file: Path) -> Image.Image:
    """Read an image as RGB, turned as its EXIF data says.

    Raises:
        UserError: it can't be read.
    """
    try:
        with Image.open(file) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"the image {file} can't be read: {error}.") from error


def height_at(width: int, picture: Image.Image) -> int:
    """Return the height at which a picture of this width keeps its shape."""
    return max(round(picture.height * (width / picture.width)), 1)


def side_by_side(panels: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    """Put panels of one size beside each other, each under its caption."""
    width, height = panels[0][0].size
    row = Image.new("RGB", (len(panels) * (width + _SEAM) - _SEAM, CAPTION_HEIGHT + height), "white")
    draw = ImageDraw.Draw(row)
    for number, (panel, caption) in enumerate(panels):
        left = number * (width + _SEAM)
        draw.text((left, 0), shortened(caption, font(CAPTION), width), QUIET, font(CAPTION))
        row.paste(panel, (left, CAPTION_HEIGHT))
    return row


def save_sheet(
    cells: Sequence[Image.Image],
    columns: int,
    heading: str,
    subheading: str,
    legend: Sequence[LegendEntry],
    out_file: Path,
) -> None:
    """Write cells of one width, in rows under the heading and the legend, into a PNG."""
    columns = min(columns, len(cells))
    width = _GAP + columns * (cells[0].width + _GAP)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    explained = _draw_legend(legend, width - 2 * _GAP)
    top = _GAP + 28 + 26 + explained.height + 10
    height = top + sum(max(cell.height for cell in row) + _GAP for row in rows)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), heading, INK, _fitting(font(HEADING, bold=True), heading, width - 2 * _GAP))
    draw.text((_GAP, _GAP + 30), subheading, QUIET, _fitting(font(TEXT), subheading, width - 2 * _GAP))
    sheet.paste(explained, (_GAP, _GAP + 56))
    for row in rows:
        for column, cell in enumerate(row):
            sheet.paste(cell, (_GAP + column * (cell.width + _GAP), top))
        top += max(cell.height for cell in row) + _GAP
    with replacing(out_file) as temporary:
        sheet.save(temporary, format="PNG")


def shortened(text: str, font: Font, width: float, keep_start: bool = False) -> str:
    """Cut a text's beginning (of a file's name), or its end, off until it fits."""
    if font.getlength(text) <= width:
        return text
    parts = (text[: len(text) - cut] if keep_start else text[cut:] for cut in range(len(text) + 1))
    part = next(part for part in parts if font.getlength(part) <= width - 2 * font.size)
    return f"{part}…" if keep_start else f"…{part}"


def contrast(colour: str) -> str:
    """Return black or white, whichever can be read on a colour."""
    return "black" if np.dot(ImageColor.getrgb(colour), (0.299, 0.587, 0.114)) > 120 else "white"


def _fitting(font: Font, text: str, width: int) -> Font:
    """The font, smaller where the text would be wider than ``width``."""
    return font.font_variant(size=max(font.size * min(1, width / max(font.getlength(text), 1)), 8))


def _draw_legend(entries: Sequence[LegendEntry], width: int) -> Image.Image:
    line = 22
    places: list[tuple[int, int]] = []
    x = y = 0
    for _, name in entries:
        length = _SWATCH + 6 + int(font(TEXT).getlength(name)) + 18
        if x and x + length > width:
            x, y = 0, y + line
        places.append((x, y))
        x += length
    legend = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(legend)
    for (fill, name), (x, y) in zip(entries, places, strict=True):
        square = (x, y + 3, x + _SWATCH, y + 3 + _SWATCH)
        if isinstance(fill, Image.Image):
            legend.paste(fill.resize((_SWATCH + 1, _SWATCH + 1)), square[:2])
        draw.rectangle(square, None if isinstance(fill, Image.Image) else fill, QUIET)
        draw.text((x + _SWATCH + 6, y), name, INK, font(TEXT))
    return legend
