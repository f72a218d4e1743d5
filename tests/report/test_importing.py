"""Records of work dirs that stock mmdet left behind: one that it really writes here, and damaged ones."""

import argparse
import json
import re
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import fvnet_mm.engine  # noqa: F401  (mmcv's operators for mmdet)
from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of
from fvnet_mm.records.reading import read_record, write_record
from fvnet_mm.report.importing import import_work_dir, parse_config
from fvnet_mm.report.leaderboard.commands import import_run
from fvnet_mm.report.leaderboard.model import Leaderboard
from fvnet_mm.report.leaderboard.tables import build_leaderboard


@pytest.fixture(scope="module")
def stock_run(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The work dir of mmdet's own RetinaNet, trained by mmengine's own runner, and its last metrics."""
    cfg = Config.fromfile(Path(Config._get_cfg_path("mmdet::retinanet/retinanet_r18_fpn_1x_coco.py", "")[0]))
    cfg.model.backbone.init_cfg = None
    cfg.model.test_cfg.score_thr = 0.0  # or nothing is detected yet, and mmdet logs nothing
    cfg.work_dir = str(tmp_path_factory.mktemp("stock") / "retinanet_r18")
    cfg.randomness = dict(seed=7)
    for split in ("train", "val"):
        loader = cfg[f"{split}_dataloader"]
        loader.num_workers, loader.persistent_workers, loader.batch_size = 0, False, 2
        loader.dataset.update(
            data_root=f"{tiny_coco}/",
            ann_file=f"annotations/instances_{split}2017.json",
            data_prefix=dict(img=f"{split}2017/"),
        )
        next(step for step in loader.dataset.pipeline if step.type == "Resize").scale = (64, 64)
    cfg.val_evaluator.ann_file = f"{tiny_coco}/annotations/instances_val2017.json"
    for part in ("test_dataloader", "test_evaluator", "test_cfg"):
        cfg.pop(part)
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.optim_wrapper.optimizer.lr = 1e-4
    runner = Runner.from_cfg(cfg)
    runner.train()
    metrics = runner.val()
    DefaultScope._instance_dict.clear()
    return Path(cfg.work_dir), metrics


def test_a_stock_training(stock_run: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    folder, metrics = stock_run
    record = import_work_dir(folder)
    assert (record.origin, record.status, record.task, record.framework) == (
        "imported",
        "finished",
        "detection",
        "retinanet",
    )
    assert record.config.name == "retinanet_r18_fpn_1x_coco"
    assert (record.backbone.type, record.backbone.arguments["depth"]) == ("ResNet", 18)
    assert record.seed == 7
    assert [evaluation.step for evaluation in record.evaluations] == [1, 2]
    assert record.result is not None
    stated = {"AP": "bbox_mAP", "AP50": "bbox_mAP_50", "AP_S": "bbox_mAP_s"}
    assert {name: record.result.metrics[name] for name in stated} == {
        name: pytest.approx(100 * metrics[f"coco/{key}"]) for name, key in stated.items()
    }
    assert record.environment.versions["mmengine"] == "0.10.7"
    protocol = record.protocol
    assert (protocol.optimizer, protocol.length, protocol.length_unit) == ("SGD(momentum=0.9)", 2, "epoch")
    assert (protocol.weight_decay, protocol.gradient_clip, protocol.precision) == (1e-4, 0, "float32")
    assert (protocol.data, protocol.pretraining, record.complexity) == (None, None, None)  # a log does not say
    write_record(record, tmp_path / "run.json")
    assert read_record(tmp_path / "run.json") == record


def test_a_config_is_never_run(stock_run: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    folder = shutil.copytree(stock_run[0], tmp_path / "copy")
    config = only_config(folder)
    config.write_text(config.read_text() + f"\nopen({str(tmp_path / 'touched')!r}, 'w')\n")
    with pytest.raises(UserError, match=r"line \d+ is no assignment"):
        import_work_dir(folder)
    config.write_text(f"model = dict(type='X', a=open({str(tmp_path / 'touched')!r}, 'w'))\n")
    with pytest.raises(UserError, match="line 1 computes 'model'"):
        import_work_dir(folder)
    assert not (tmp_path / "touched").exists()


def test_literals_of_a_dump(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("a = dict(b=[1, (2.5, None)], c={'d': -1, 3: True})\ne = float('inf')\n")
    assert parse_config(file) == {"a": {"b": [1, (2.5, None)], "c": {"d": -1, 3: True}}, "e": float("inf")}


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("no log", "holds no log of mmengine"),
        ("no config", "has no dumped configs"),
        ("bases", "has bases"),
        ("no model", "says nothing of model"),
        ("broken", "is no Python file"),
        ("no evaluation", "nothing was evaluated"),
        ("odd model", "is not that of a training by mmdet 3"),
        ("odd optimizer", "is not that of a training by mmdet 3"),
        ("odd accumulation", "is not that of a training by mmdet 3"),
        ("PyTorch: ", "says nothing behind 'PyTorch:'"),
        ("GPU number: \u00b2", "says 'GPU number: \u00b2', which is no number"),
    ],
)
def test_what_cannot_be_imported(
    stock_run: tuple[Path, dict[str, float]], tmp_path: Path, damage: str, sentence: str
) -> None:
    folder = shutil.copytree(stock_run[0], tmp_path / "copy")
    config = only_config(folder)
    (scalars,) = folder.glob("*/vis_data/scalars.json")
    text = config.read_text()
    if damage == "no log":
        scalars.unlink()
    elif damage == "no config":
        config.unlink()
    elif damage == "bases":
        config.write_text(f"_base_ = ['a.py']\n{text}")
    elif damage == "no model":
        config.write_text(text.replace("\nmodel =", "\nmodels ="))
    elif damage == "broken":
        config.write_text(text[:200])
    elif damage == "no evaluation":
        lines = [line for line in scalars.read_text().splitlines() if "loss" in json.loads(line)]
        scalars.write_text("\n".join(lines))
    elif damage == "odd optimizer":
        config.write_text(f"{text}\noptim_wrapper = [1]\n")
        by_iterations(scalars)
    elif damage == "odd accumulation":
        config.write_text(f"{text}\noptim_wrapper = dict(optimizer=dict(type='SGD'), accumulative_counts='x')\n")
        by_iterations(scalars)
    elif ": " in damage:
        (log,) = folder.glob("*/*.log")
        name = damage.partition(":")[0]
        log.write_text(re.sub(f"^    {name}: .*$", f"    {damage}", log.read_text(), flags=re.MULTILINE))
    else:
        config.write_text(f"{text}\nmodel = 7\n")
    with pytest.raises(UserError, match=sentence):
        import_work_dir(folder)


def only_config(folder: Path) -> Path:
    """The dump in the work dir, after that beside the log was removed."""
    (beside_log,) = folder.glob("*/vis_data/config.py")
    beside_log.unlink()
    (config,) = folder.glob("*.py")
    return config


def test_a_work_dir_in_which_a_test_has_run(stock_run: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    """mmdet's tools/test.py writes its config over the training's, with the tested checkpoint as load_from."""
    trained = import_work_dir(stock_run[0])
    folder = shutil.copytree(stock_run[0], tmp_path / "copy")
    (config,) = folder.glob("*.py")
    cfg = Config.fromfile(config)
    cfg.load_from = str(folder / "epoch_2.pth")
    cfg.val_dataloader.dataset.pipeline[1].scale = (96, 96)
    cfg.dump(config)
    tested = import_work_dir(folder)
    assert (tested.protocol, tested.config.name) == (trained.protocol, trained.config.name)
    assert sha256_of(folder / tested.config.file) == tested.config.sha256 == trained.config.sha256


@pytest.mark.parametrize(("resume", "pretraining"), [(False, "fine-tuned"), (True, None)])
def test_what_load_from_means(
    stock_run: tuple[Path, dict[str, float]], tmp_path: Path, resume: bool, pretraining: str | None
) -> None:
    folder = shutil.copytree(stock_run[0], tmp_path / "copy")
    config = only_config(folder)
    config.write_text(f"{config.read_text()}\nload_from = 'epoch_1.pth'\nresume = {resume}\n")
    assert import_work_dir(folder).protocol.pretraining == pretraining


def by_iterations(scalars: Path) -> None:
    """Makes a log that of a training whose length is in iterations, so that accumulation counts."""
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key != "epoch"} for line in lines]
    scalars.write_text("\n".join(map(json.dumps, kept)))


@pytest.mark.parametrize(
    ("last", "stated", "found"),
    [
        (8, True, ("finished", "epoch", [1, 2])),
        (4, True, ("running", "epoch", [1])),
        (8, False, ("finished", "epoch", [1, 2])),
        (4, False, ("running", "step", [4])),
    ],
)
def test_epochs_that_were_logged_in_iterations(
    stock_run: tuple[Path, dict[str, float]],
    tmp_path: Path,
    last: int,
    stated: bool,
    found: tuple[str, str, list[int]],
) -> None:
    """As mmseg's configs have it; how many iterations there are its evaluations tell, or the text log."""
    folder = shutil.copytree(stock_run[0], tmp_path / "copy")
    (scalars,) = folder.glob("*/vis_data/scalars.json")
    by_iterations(scalars)
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    lines = [line if "loss" in line else line | {"step": 4 * line["step"]} for line in lines]  # 8 images, 2 at once
    scalars.write_text("\n".join(json.dumps(line) for line in lines if line["step"] <= last))
    (log,) = folder.glob("*/*.log")
    log.write_text(log.read_text() + "INFO - Iter(train) [4/8]  lr: 1.0e-04  loss: 1.5\n" * stated)
    record = import_work_dir(folder)
    assert (record.status, record.unit, [evaluation.step for evaluation in record.evaluations]) == found
    (note,) = {row.note for table in board_of(folder).tables for row in table.rows}
    assert (
        note
        == {
            ("finished", "epoch"): None,
            ("running", "epoch"): "not finished: evaluated after epoch 1 of 2",
            ("running", "step"): "not finished: evaluated after step 4",
        }[found[:2]]
    )


@pytest.mark.parametrize(
    ("steps", "loop", "each"),
    [
        ([4, 8, 12], dict(), 4),
        ([8, 16, 20], dict(val_interval=2), 4),
        ([12, 16], dict(val_begin=3), 4),
        ([20], dict(val_interval=5), 4),
        ([1, 2, 3], dict(), 1),  # epochs already
        ([12], dict(), None),  # the first, or the last that is left of a log
        ([12, 16, 20], dict(), None),  # a log that lacks its beginning
        ([16, 20], dict(val_interval=2), None),
        ([4, 8, 12, 16, 20, 24], dict(), None),
        ([4, 8], dict(dynamic_intervals=[(1, 1)]), None),
        ([4, 8], dict(val_interval=0), None),
    ],
)
def test_evaluations_tell_how_long_an_epoch_is(
    stock_run: tuple[Path, dict[str, float]],
    tmp_path: Path,
    steps: list[int],
    loop: dict[str, object],
    each: int | None,
) -> None:
    folder = shutil.copytree(stock_run[0], tmp_path / "copy")
    config = only_config(folder)
    config.write_text(f"{config.read_text()}\ntrain_cfg = {dict(max_epochs=5, **loop)}\n")
    (scalars,) = folder.glob("*/vis_data/scalars.json")
    evaluated = [json.loads(line) for line in scalars.read_text().splitlines() if "loss" not in line][-1]
    scalars.write_text("\n".join(json.dumps(evaluated | {"step": step}) for step in steps))
    record = import_work_dir(folder)
    counted = ("epoch", [step // each for step in steps]) if each else ("step", steps)
    assert (record.unit, [evaluation.step for evaluation in record.evaluations]) == counted


def board_of(folder: Path) -> Leaderboard:
    write_record(import_work_dir(folder), folder / "run.json")
    return build_leaderboard([folder], published=False)


def test_the_config_is_found_from_where_the_record_lies(
    stock_run: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    folder, _ = stock_run
    out = tmp_path / "else" / "where"
    out.mkdir(parents=True)
    (tmp_path / "link").symlink_to(out)
    for beside in (out, tmp_path / "link"):
        import_run(argparse.Namespace(folder=folder, out=beside / "run.json"))
        config = read_record(beside / "run.json").config
        assert sha256_of(beside / config.file) == config.sha256
        (beside / "run.json").unlink()
    assert import_work_dir(folder).config.file == "retinanet_r18_fpn_1x_coco.py"


def test_a_log_that_cannot_be_read(stock_run: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    folder = shutil.copytree(stock_run[0], tmp_path / "copy")
    (log,) = folder.glob("*/*.log")
    log.unlink()
    log.mkdir()
    with pytest.raises(UserError, match=f"the log {log} cannot be read: Is a directory."):
        import_work_dir(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        import_work_dir(tmp_path / "nowhere")
