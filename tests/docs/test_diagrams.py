import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fvnet_mm.backbones import FVNet

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("ftfu", "mpfb", "fvnet")


def test_committed_drawings_are_what_the_code_draws(script):
    assert script("diagrams", "--check") == ""


@pytest.mark.parametrize("name", NAMES)
def test_drawing_stays_on_its_card_and_is_shown(name):
    root = ElementTree.parse(DOCS / "diagrams" / f"{name}.svg").getroot()
    width, height = float(root.get("width")), float(root.get("height"))
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(text.get("x")) < width
        assert 0 < float(text.get("y")) < height
    assert f"(diagrams/{name}.svg)" in (DOCS / "architecture.md").read_text(encoding="utf-8")


def test_pyramid_shows_every_variant():
    svg = (DOCS / "diagrams" / "fvnet.svg").read_text(encoding="utf-8")
    for name, arch in FVNet.arch_settings.items():
        assert f"FVNet-{name.upper()}" in svg
        for channels, depth in zip(arch.channels, arch.depths, strict=True):
            assert f">{channels} × {depth}<" in svg
