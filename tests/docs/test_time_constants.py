from pathlib import Path

import pytest
import torch
from PIL import Image

from fvnet_mm.backbones import FVNet
from fvnet_mm.errors import UserError


def test_draws_the_trunk_of_any_model(script, tmp_path):
    trunk = FVNet("t")
    path, picture, out = tmp_path / "model.pth", tmp_path / "image.png", tmp_path / "out.png"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in trunk.state_dict().items()}}, path)
    Image.linear_gradient("L").convert("RGB").resize((70, 50)).save(picture)
    assert script("time_constants", path, picture, picture, "--arch", "t", "--out", out) == ""
    with Image.open(out) as drawn:
        assert drawn.width > 2 * drawn.height
    assert (
        script("time_constants", path, picture, "--arch", "t", "--long-side", 64, "--out", tmp_path / "small.png") == ""
    )
    assert "does not hold an FVNet 's'" in script("time_constants", path, picture, "--out", out)


def test_maps_lie_between_the_time_constants_and_follow_the_stages(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    from time_constants import time_constants

    with pytest.raises(UserError, match="without FTFUs"):
        time_constants(FVNet("t", unit="SiLUUnit"), torch.randn(1, 3, 64, 96))
    trunk = FVNet("t", tau=(2.0, 2.0)).eval()
    maps = time_constants(trunk, torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert all((m > 0).all() and (m <= 2).all() for m in maps)
