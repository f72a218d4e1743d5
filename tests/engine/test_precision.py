from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from fvnet_mm.engine.precision import enable_amp
from fvnet_mm.errors import UserError

CONFIG = Path(__file__).parents[2] / "configs" / "retinanet_fvnet_t_coco.py"


def test_bf16_needs_no_loss_scaling_and_fp16_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    cfg = Config(dict(optim_wrapper=dict(type="OptimWrapper")))
    enable_amp(cfg, "bf16")
    assert cfg.optim_wrapper == dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=dict(enabled=False))
    enable_amp(cfg, "fp16")
    assert cfg.optim_wrapper == dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")


def test_bf16_on_a_device_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    with pytest.raises(UserError, match=r"Tesla V100.*--amp fp16"):
        enable_amp(Config(dict(optim_wrapper=dict())), "bf16")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(
    precision: str, run: Callable[..., int], tiny_coco: Path, small_run: list[str], tmp_path: Path
) -> None:
    words = ["train", CONFIG, "--data", tiny_coco, "--work-dir", tmp_path, "--amp", precision]
    assert run(*words, *small_run) == 0
    assert (tmp_path / "epoch_2.pth").is_file()
