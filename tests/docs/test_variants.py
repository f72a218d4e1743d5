import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fvnet_mm.backbones import FVNet

ROOT = Path(__file__).parents[2]
MARKERS = ("<!-- variants:begin -->", "<!-- variants:end -->")


def test_pages_are_current(script):
    pages = [ROOT / "docs" / "architecture.md", ROOT / "README.md"]
    with_table = [p for p in pages if p.exists() and MARKERS[0] in p.read_text(encoding="utf-8")]
    assert pages[0] in with_table
    assert script("variants", "--check", *with_table) == ""


def test_table_is_what_the_network_has(script, capsys):
    script("variants")
    out = capsys.readouterr().out
    rows = re.findall(r"^\| FVNet-(.) \| `'(.)'` \| ([\d.]+) \| ([\d.]+) \|", out, flags=re.MULTILINE)
    assert [row[1] for row in rows] == list(FVNet.arch_settings)
    _, name, parameters, macs = rows[0]
    net = FVNet(name).eval()
    assert float(parameters) == pytest.approx(sum(p.numel() for p in net.parameters()) / 1e6, abs=0.06)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 224, 224))
    assert float(macs) == pytest.approx(counter.get_total_flops() / 2e9, abs=0.006)


def test_writes_checks_and_keeps_the_rest(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n{}\nold\n{}\nafter\n".format(*MARKERS), encoding="utf-8")
    assert "is stale; run: python docs/variants.py --write" in script("variants", "--check", page)
    assert script("variants", "--write", page) == ""
    assert script("variants", "--check", page) == ""
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{MARKERS[0]}\n| Variant")
    assert text.endswith(f"|\n{MARKERS[1]}\nafter\n")
    assert "old" not in text


def test_page_without_markers(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here\n", encoding="utf-8")
    assert "has 0 pairs of markers" in script("variants", "--write", page)
    assert page.read_text(encoding="utf-8") == "nothing here\n"
