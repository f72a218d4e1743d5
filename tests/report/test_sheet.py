from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given
from PIL import Image

from fvnet_mm.report.sheet import CAPTION, TEXT, evenly_spread, font, save_sheet, shortened, side_by_side


@given(st.integers(1, 500), st.integers(1, 50))
def test_evenly_spread(total: int, count: int):
    chosen = evenly_spread(total, count)
    assert len(chosen) == min(total, count)
    assert chosen == sorted(set(chosen))
    if count > 1:
        assert (chosen[0], chosen[-1]) == (0, total - 1)
        gaps = {after - before for before, after in pairwise(chosen)}
        assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=200), st.booleans())
def test_shortened_text_fits(text: str, keep_start: bool):
    width = 120
    face = font(CAPTION)
    found = shortened(text, face, width, keep_start)
    assert face.getlength(found) <= width
    if face.getlength(text) > width:
        kept = found.removesuffix("…") if keep_start else found.removeprefix("…")
        assert text.startswith(kept) if keep_start else text.endswith(kept)
    else:
        assert found == text


def test_panels_stand_beside_each_other():
    panels = [(Image.new("RGB", (40, 30), colour), colour) for colour in ("red", "lime", "blue")]
    row = side_by_side(panels)
    assert 3 * 40 < row.width < 3 * 50
    assert [row.getpixel((x, row.height - 15)) for x in (20, row.width // 2, row.width - 20)] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]


@pytest.mark.parametrize("entries", [0, 1, 60])
def test_legend_takes_the_lines_it_needs(tmp_path, entries: int):
    name = "a class of things"
    cell = Image.new("RGB", (600, 50), "red")
    save_sheet([cell], 3, "heading", "subheading", [("blue", name)] * entries, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        blue = sum(count for count, colour in sheet.getcolors(2**20) if colour == (0, 0, 255))
        red_rows = [y for y in range(sheet.height) if sheet.getpixel((300, y)) == (255, 0, 0)]
    lines = -(-entries // int(600 // (font(TEXT).getlength(name) + 37)))
    assert blue == entries * 12 * 12  # inside the swatches' outlines
    assert red_rows[0] == pytest.approx(60 + 22 * max(lines, 1), abs=30)
