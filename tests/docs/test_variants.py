import re
from pathlib import Path

import pytest
from torch import no_grad, zeros
from torch.utils.flop_counter import FlopCounterMode

from fvnet_mm.backbones import FVNet

README = Path(__file__).parents[2] / "README.md"


def test_pages_are_current(script):
    assert script("variants", "--check") == ""


def test_table_is_what_the_network_has():
    page = README.read_text(encoding="utf-8")
    rows = re.findall(r"^\| FVNet-(.) \| `'(.)'` \| ([\d.]+) \| ([\d.]+) \|", page, flags=re.MULTILINE)
    assert [row[1] for row in rows] == list(FVNet.arch_settings)
    _, name, parameters, macs = rows[0]
    net = FVNet(name).eval()
    assert float(parameters) == pytest.approx(sum(p.numel() for p in net.parameters()) / 1e6, abs=0.06)
    with no_grad(), FlopCounterMode(display=False) as counter:
        net(zeros(1, 3, 224, 224))
    assert float(macs) == pytest.approx(counter.get_total_flops() / 2e9, abs=0.006)
