"""Whole runs of the shapes configs, whose training images stay in memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch

from fvnet_mm.engine.checkpoint import read_checkpoint

Run = Callable[..., int]
CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    "--backbone",
    "fvnet_t",
    "--cfg-options",
    "train_dataloader.batch_size=2",
    "auto_scale_lr.base_batch_size=4",  # gradients are accumulated
    "val_dataloader.num_workers=0",
    "default_hooks.logger.interval=1",
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=2",
    "param_scheduler.1.end=2",
]


@pytest.mark.parametrize(("framework", "data"), [("retinanet", "tiny_coco"), ("semantic_fpn", "tiny_ade20k")])
def test_a_resumed_run_equals_an_uninterrupted_one(
    framework: str, data: str, run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    words = ["train", CONFIGS / f"{framework}_fvnet_s_shapes.py", "--data", request.getfixturevalue(data), *SMALL]
    words[4:4] = ["--work-dir", tmp_path / "whole"]
    assert run(*words) == 0
    (tmp_path / "resumed").mkdir()
    shutil.copy(tmp_path / "whole" / "epoch_1.pth", tmp_path / "resumed")
    words[5:6] = [tmp_path / "resumed", "--resume"]
    assert run(*words) == 0
    whole, again = (read_checkpoint(tmp_path / name / "epoch_2.pth")["state_dict"] for name in ("whole", "resumed"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name

    protocol = json.loads((tmp_path / "whole" / "run.json").read_text())["protocol"]
    assert "flip=0.5" in protocol["train_pipeline"]
    assert "LoadImageFromFile" in protocol["train_pipeline"]
    assert protocol["pretraining"] == "scratch"
    assert protocol["effective_batch"] == 4


@pytest.mark.parametrize("framework", ["retinanet", "semantic_fpn"])
def test_missing_data_is_made_with_a_command(
    framework: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train", CONFIGS / f"{framework}_fvnet_s_shapes.py", "--backbone", "repvit_m0_9") == 2
    complaint = capsys.readouterr().err
    assert "there is no data in data/shapes" in complaint
    assert "make it with `python tools/make_shapes.py data/shapes`." in complaint


def test_images_of_different_sizes_end_in_a_sentence(
    run: Run, tiny_coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(tiny_coco, tmp_path / "mixed"))
    file = data / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    document["images"][0]["height"] = 72
    file.write_text(json.dumps(document))
    picture = data / "train2017" / document["images"][0]["file_name"]
    cv2.imwrite(str(picture), cv2.resize(cv2.imread(str(picture)), (64, 72)))
    words = ["train", CONFIGS / "retinanet_fvnet_s_shapes.py", "--data", data, "--work-dir", tmp_path / "x", *SMALL]
    assert run(*words) == 2
    assert "images that stay in memory must have one size" in capsys.readouterr().err
