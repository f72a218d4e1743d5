"""From a command line to a config: which weights a run starts from."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from fvnet_mm.cli import add_initial_weights, tool_parser
from fvnet_mm.engine.config import load_config
from fvnet_mm.engine.run_facts import pretraining
from fvnet_mm.errors import UserError

Run = Callable[..., int]
CONFIGS = Path(__file__).parents[2] / "configs"

CONFIG = """
default_scope = "mmseg"
load_from = "whole_model.pth"
model = dict(type="EncoderDecoder", pretrained="open-mmlab://resnet50_v1c", {rest})
"""


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: str, *words: str) -> Config:
    (tmp_path / "mine.py").write_text(CONFIG.format(rest=rest))
    monkeypatch.chdir(tmp_path)
    parser = tool_parser("")
    add_initial_weights(parser)
    monkeypatch.setattr(sys, "argv", ["train.py", "mine.py", *words])
    return load_config(parser.parse_args())


def test_weights_take_the_place_of_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load(tmp_path, monkeypatch, "backbone=dict(type='ResNet')", "--weights", "trunk.pth")
    assert cfg.model.backbone.init_cfg == dict(type="Pretrained", checkpoint="trunk.pth")
    assert (cfg.load_from, cfg.model.get("pretrained")) == (None, None)


@pytest.mark.parametrize("kind", ["plain", "distilled"])
def test_what_the_pretraining_was(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file then shares tables with weights of which a description says the same."""
    words = ["--weights", "trunk.pth", "--pretraining", kind]
    cfg = load(tmp_path, monkeypatch, "backbone=dict(type='ResNet')", *words)
    assert cfg.model.backbone.init_cfg.distilled == (kind == "distilled")
    assert pretraining(cfg) == kind


@pytest.mark.parametrize("words", [[], ["--scratch"]])
def test_the_pretraining_of_no_file(
    words: list[str], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", CONFIGS / "retinanet_fvnet_t_coco.py", "--pretraining", "plain", *words) == 2
    assert "no --weights FILE" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--scratch", "--demo"])
def test_from_scratch_no_weights_are_left(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load(tmp_path, monkeypatch, "backbone=dict(type='ResNet')", flag)
    assert (cfg.load_from, cfg.model.get("pretrained")) == (None, None)


def test_without_a_flag_the_config_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load(tmp_path, monkeypatch, "backbone=dict(type='ResNet')")
    assert (cfg.load_from, cfg.model.pretrained) == ("whole_model.pth", "open-mmlab://resnet50_v1c")


def test_weights_for_a_model_without_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no backbone"):
        load(tmp_path, monkeypatch, "", "--weights", "trunk.pth")


def test_pretraining_another_trunk_starts_from_scratch(tmp_path: Path) -> None:
    parser = tool_parser("")
    arguments = parser.parse_args([str(CONFIGS / "fvnet_t_in1k.py"), "--backbone", "repvit_m1_1"])
    arguments.work_dir = tmp_path
    cfg = load_config(arguments)
    assert cfg.config_name == "repvit_m1_1_in1k"
    assert "init_cfg" not in cfg.model.backbone
    assert cfg.model.head.in_channels == 512


FINE_TUNED = """
_base_ = ["{base}"]
load_from = "detector.pth"
model = dict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="trunk.pth")))
"""


def test_fine_tuning_on_what_is_trained_from_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base says from_scratch of the trunks that it compares, and the config names weights of its own."""
    own = tmp_path / "mine.py"
    own.write_text(FINE_TUNED.format(base=CONFIGS / "retinanet_fvnet_s_shapes.py"))
    monkeypatch.chdir(tmp_path)
    parser = tool_parser("")
    add_initial_weights(parser)
    cfg = load_config(parser.parse_args([str(own)]))
    assert (cfg.load_from, cfg.model.backbone.init_cfg.checkpoint) == ("detector.pth", "trunk.pth")
    cfg.dump(tmp_path / "dumped.py")
    assert load_config(parser.parse_args([str(tmp_path / "dumped.py")])).model == cfg.model
    cfg = load_config(parser.parse_args([str(own), "--scratch"]))
    assert (cfg.load_from, cfg.model.backbone.get("init_cfg")) == (None, None)
    cfg = load_config(parser.parse_args([str(own), "--backbone", "mobilenet_v2"]))
    assert (cfg.load_from, cfg.model.backbone.get("init_cfg")) == ("detector.pth", None)


@pytest.mark.parametrize(
    "line", ["from mmengine.runner import EpochBasedTrainLoop", "with read_base():\n    from .base import *"]
)
def test_types_that_are_classes(line: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.py").write_text("model = dict(type='RetinaNet')\n")
    start = "from mmengine.config import read_base\n" * line.startswith("with")
    (tmp_path / "mine.py").write_text(f"{start}{line}\nmodel = dict(type='RetinaNet')\n")
    assert run("train", tmp_path / "mine.py", "--work-dir", tmp_path / "work") == 2
    assert "mmengine's other dialect of configs" in capsys.readouterr().err
