"""Configs read by the suite are what mmengine reads, sooner."""

from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config

from fvnet_mm.engine.config_file import apply_overrides, read_config
from fvnet_mm.errors import UserError

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


def test_options_may_be_dictionaries() -> None:
    cfg = read_config(CONFIGS / "semantic_fpn_fvnet_t_ade20k.py", "config")
    apply_overrides(
        cfg,
        [
            'model.backbone.unit=["SiLUUnit",{"type": "FTFU", "dt": 4}]',
            'model.backbone.norm_cfg={"type": "BN", "eps": 0.001}',
            "model.neck.in_channels=[1,2,3,4]",
            "default_hooks.checkpoint.filename_tmpl=step_{}.pth",
        ],
    )
    assert cfg.model.backbone.unit == ["SiLUUnit", {"type": "FTFU", "dt": 4}]
    assert cfg.model.backbone.norm_cfg == {"type": "BN", "eps": 0.001}
    assert cfg.model.neck.in_channels == [1, 2, 3, 4]
    assert cfg.default_hooks.checkpoint.filename_tmpl == "step_{}.pth"


@pytest.mark.parametrize("value", ["[1,2", "(1,2", "1,2]"])
def test_a_bracket_that_is_not_closed_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"--cfg-options a=.*cannot be read"):
        apply_overrides(Config(dict(a=1)), [f"a={value}"])


@pytest.mark.parametrize("value", ["{type:FTFU}", "[SiLUUnit,{'type':'FTFU'}]", "[{]"])
def test_a_dictionary_that_is_no_json_is_refused(value: str) -> None:
    cfg = Config(dict(model=dict(backbone=dict(type="FVNet"))))
    with pytest.raises(UserError, match=r"model\.backbone\.unit=.*dictionaries are written as JSON"):
        apply_overrides(cfg, [f"model.backbone.unit={value}"])
    assert cfg.model.backbone == dict(type="FVNet")


def test_an_entry_that_a_list_has_not_is_refused() -> None:
    cfg = Config(dict(data=dict(pipeline=[dict(type="Resize"), dict(type="Pack")])))
    with pytest.raises(UserError, match=r"cannot be applied: data\.pipeline has 2 entries, counted from 0\.$"):
        apply_overrides(cfg, ["data.pipeline.9.scale=4"])
