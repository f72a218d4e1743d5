"""Configs read by the suite are what mmengine reads, sooner."""

from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config

from fvnet_mm.engine.config_file import read_config

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ["mask_rcnn_fvnet_t_coco", "upernet_mobilenet_v2_ade20k", "fvnet_s_in1k"])
def test_a_config_is_what_mmengine_reads(name: str) -> None:
    path = CONFIGS / f"{name}.py"
    own, stock = read_config(path, "config"), Config.fromfile(path)
    assert own.to_dict() == stock.to_dict()
    assert own.filename == stock.filename
    assert own.pretty_text == stock.pretty_text


def test_the_text_follows_what_the_config_says() -> None:
    cfg = read_config(CONFIGS / "retinanet_fvnet_t_coco.py", "config")
    before, copy = cfg.pretty_text, deepcopy(cfg)
    assert copy.pretty_text == before
    copy.train_cfg.max_epochs = 77
    assert "max_epochs=77" in copy.pretty_text
    assert cfg.pretty_text == before
