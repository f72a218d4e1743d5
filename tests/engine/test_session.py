"""Whole runs in this process: training, resuming, testing, on a tiny generated set."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from fvnet_mm.engine.checkpoint import read_checkpoint

Run = Callable[..., int]
CONFIG = Path(__file__).parents[2] / "configs" / "retinanet_fvnet_t_coco.py"


# Groups of three of the four batches of an epoch, and rates at which the weights move.
REAL_STEPS = ("auto_scale_lr.base_batch_size=6", "param_scheduler.0.end=2", "optim_wrapper.optimizer.lr=1e-3")


def losses(work_dir: Path) -> list[dict[str, float]]:
    """Training lines of a work dir's logs, without times."""
    lines = [
        json.loads(line)
        for file in sorted(work_dir.glob("*/vis_data/scalars.json"))
        for line in file.read_text().splitlines()
    ]
    return [{key: line[key] for key in ("step", "lr", "loss")} for line in lines if "loss" in line]


@pytest.fixture
def trained(run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path) -> Path:
    assert run("train", CONFIG, "--data", tiny_coco, "--work-dir", tmp_path / "whole", *small_run, *REAL_STEPS) == 0
    return tmp_path / "whole"


def test_a_resumed_run_equals_an_uninterrupted_one(
    run: Run,
    trained: Path,
    tiny_coco: Path,
    small_run: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copy(trained / "epoch_1.pth", resumed)
    (resumed / "epoch_2.pth").write_bytes((trained / "epoch_2.pth").read_bytes()[:100_000])  # killed while writing
    capsys.readouterr()
    assert run("train", CONFIG, "--data", tiny_coco, "--work-dir", resumed, "--resume", *small_run, *REAL_STEPS) == 0
    assert "epoch_2.pth is cut short: passed over" in capsys.readouterr().out

    assert losses(resumed) == losses(trained)[4:]
    whole, again = (read_checkpoint(folder / "epoch_2.pth") for folder in (trained, resumed))
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, again["state_dict"][name]), name
    for key, state in whole["optimizer"]["state"].items():
        assert torch.equal(state["exp_avg_sq"], again["optimizer"]["state"][key]["exp_avg_sq"])
    dumped = Config.fromfile(resumed / "retinanet_fvnet_t_coco.py")
    assert (dumped.load_from, dumped.resume) == (None, False)  # it reproduces the whole run, not its end

    # Nothing is left to train, but a run that was killed during its last evaluation still owes its metrics.
    assert run("train", CONFIG, "--data", tiny_coco, "--work-dir", resumed, "--resume", *small_run, *REAL_STEPS) == 0
    assert "after 2 epochs" in capsys.readouterr().out


def test_what_a_run_leaves_behind(run: Run, trained: Path, tiny_coco: Path, small_run: list[str]) -> None:
    assert (trained / "vis" / "predictions.png").is_file()
    assert (trained / "vis" / "curves.png").is_file()
    assert isinstance(json.loads((trained / "predictions" / "val.bbox.json").read_text()), list)
    assert not list(trained.rglob(".*")), "a temporary file is left"
    words = ["test", CONFIG, trained / "epoch_2.pth", "--data", tiny_coco, "--work-dir", trained / "test"]
    assert run(*words, *small_run) == 0
    assert (trained / "test" / "vis" / "predictions.png").is_file()

    dumped = trained / "retinanet_fvnet_t_coco.py"
    text = dumped.read_text()
    assert run("test", dumped, trained / "epoch_2.pth") == 0  # its work dir is the training's
    assert dumped.read_text() == text


def test_a_test_needs_no_training_images(
    run: Run, trained: Path, tiny_coco: Path, small_run: list[str], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_coco, tmp_path / "val_only"))
    shutil.rmtree(data / "train2017")
    (data / "annotations" / "instances_train2017.json").unlink()
    assert run("test", CONFIG, trained / "epoch_2.pth", "--data", data, "--work-dir", tmp_path / "x", *small_run) == 0


def test_classes_in_another_order_are_refused(
    run: Run, trained: Path, tiny_coco: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(tiny_coco, tmp_path / "reversed"))
    for path in (data / "annotations").iterdir():
        document = json.loads(path.read_text())
        document["categories"].reverse()
        path.write_text(json.dumps(document))
    assert run("test", CONFIG, trained / "epoch_2.pth", "--data", data, "--work-dir", tmp_path / "x", *small_run) == 2
    assert "class 0, 'person' then and 'toothbrush' now" in capsys.readouterr().err


def test_the_config_names_its_own_files(
    run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(tiny_coco, tmp_path / "data"))
    (data / "annotations" / "instances_train2017.json").rename(data / "annotations" / "mine.json")
    own = [f"{loader}_dataloader.dataset.data_root={data}/" for loader in ("train", "val", "test")]
    own += [f"{loader}_evaluator.ann_file={data}/annotations/instances_val2017.json" for loader in ("val", "test")]
    own += ["train_dataloader.dataset.ann_file=annotations/mine.json", "train_cfg.max_epochs=1"]
    assert run("train", CONFIG, "--work-dir", tmp_path / "work", *small_run, *own) == 0
    screen = capsys.readouterr().out
    assert "annotations/mine.json" in screen
    assert "warm-up takes 500" in screen


def test_bad_images_are_left_out_when_asked(
    run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(tiny_coco, tmp_path / "data"))
    image = data / "train2017" / "000000000002.jpg"
    image.write_bytes(image.read_bytes()[:400])
    words = [
        "train",
        CONFIG,
        "--data",
        data,
        "--work-dir",
        tmp_path / "work",
        "--skip-bad-images",
        *small_run,
    ]
    assert run(*words, "train_cfg.max_epochs=1", "train_dataloader.batch_size=4") == 0
    screen = capsys.readouterr().out
    assert "000000000002.jpg" in screen
    assert "7 images" in screen


def test_another_backbone_through_the_same_config(
    run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        CONFIG,
        "--data",
        tiny_coco,
        "--work-dir",
        tmp_path / "work",
        "--backbone",
        "mobilenet_v2",
        "--scratch",
    ]
    assert run(*words, *small_run, "train_cfg.max_epochs=1") == 0
    assert "MobileNetV2" in capsys.readouterr().out
    dumped = (tmp_path / "work" / "retinanet_mobilenet_v2_coco.py").read_text()
    assert "SuiteMobileNetV2" in dumped
    assert "FVNet'" not in dumped


def test_the_seed_decides(run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = [
            "train",
            CONFIG,
            "--data",
            tiny_coco,
            "--work-dir",
            tmp_path / name,
            "--seed",
            seed,
            *small_run,
        ]
        assert run(*words, "train_cfg.max_epochs=1") == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


def test_a_subset_is_what_the_plan_is_made_for(
    run: Run, tiny_coco: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", tiny_coco, "--work-dir", tmp_path, *small_run]
    subset = ["train_dataloader.dataset.indices=6", "train_cfg.max_epochs=1"]
    assert run("train", CONFIG, *words, *subset) == 0
    screen = capsys.readouterr().out
    assert f"train data {tiny_coco.name}: 6 of 8 images" in screen
    assert f"val data   {tiny_coco.name}: 4 images" in screen
    assert "1 epoch of 3 optimizer steps" in screen
    assert len(losses(tmp_path)) == 3
    assert run("test", CONFIG, tmp_path / "epoch_1.pth", *words, "test_dataloader.dataset.indices=3") == 2
    assert "the evaluation's dataset.indices would leave out images" in capsys.readouterr().err
