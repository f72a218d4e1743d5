"""Whole runs of the other tasks in this process: instance segmentation, semantic segmentation, classification."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from fvnet_mm.engine.checkpoint import read_checkpoint
from fvnet_mm.engine.data_source import select_data, trained_images
from fvnet_mm.engine.tasks import task_of
from fvnet_mm.engine.tasks.base import scale_images, set_num_classes
from fvnet_mm.errors import UserError
from fvnet_mm.records.reading import RECORD, read_record

Run = Callable[..., int]
CONFIGS = Path(__file__).parents[2] / "configs"
SEMANTIC_FPN = CONFIGS / "semantic_fpn_fvnet_t_ade20k.py"


def losses(work_dir: Path) -> list[tuple[int, float]]:
    lines = [
        json.loads(line)
        for file in sorted(work_dir.glob("*/vis_data/scalars.json"))
        for line in file.read_text().splitlines()
    ]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_segmentation_with_classes_of_ones_own(
    run: Run,
    tiny_ade20k: Path,
    small_segmentation: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two classes, one of which ADE20K has, too: labels keep their meaning, whatever mmseg's own list says."""
    data = Path(shutil.copytree(tiny_ade20k, tmp_path / "mine"))
    (data / "objectInfo150.txt").unlink()
    (data / "classes.txt").write_text("background\nsky\n")
    for file in data.glob("annotations/*/*.png"):
        label = np.array(Image.open(file))
        Image.fromarray(np.where(label == 0, 0, 1 + (label > 10)).astype(np.uint8)).save(file)
    words = ["--data", data, "--work-dir", tmp_path / "work", *small_segmentation]
    assert run("train", SEMANTIC_FPN, *words) == 0
    screen = capsys.readouterr().out
    assert "2: background, sky" in screen
    assert "SyncBN is BN here" in screen
    assert "after 8 steps   mIoU" in screen
    assert "per class results" not in screen
    predicted = {
        value for file in (tmp_path / "work/predictions/val").iterdir() for value in np.unique(Image.open(file))
    }
    assert predicted <= {1, 2}
    assert len(list((tmp_path / "work/predictions/val").iterdir())) == 4
    assert {file.name for file in (tmp_path / "work" / "vis").iterdir()} == {"predictions.png", "curves.png"}
    checkpoint = tmp_path / "work" / "iter_8.pth"
    assert (
        run("test", SEMANTIC_FPN, checkpoint, "--data", data, "--work-dir", tmp_path / "test", *small_segmentation) == 0
    )
    line = next(line for line in screen.splitlines() if "after 8 steps" in line)
    assert line.partition("mIoU")[2] in capsys.readouterr().out


def test_a_resumed_schedule_of_iterations_equals_an_uninterrupted_one(
    run: Run, tiny_ade20k: Path, small_segmentation: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And reads the images of the iterations that were left alone; and the worker's two batches in advance."""
    read = tmp_path / "read.txt"
    load = LoadImageFromFile.transform

    def noted(transform: LoadImageFromFile, results: dict) -> dict:
        with read.open("a") as file:  # by a worker
            file.write(f"{results['img_path']}\n")
        return load(transform, results)

    words = ["--data", tiny_ade20k, *small_segmentation, "auto_scale_lr.base_batch_size=4", "train_cfg.max_iters=4"]
    words += ["train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2", "param_scheduler.0.end=4"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert run("train", SEMANTIC_FPN, "--work-dir", whole, *words) == 0
    resumed.mkdir()
    shutil.copy(whole / "iter_4.pth", resumed)
    monkeypatch.setattr(LoadImageFromFile, "transform", noted)
    assert run("train", SEMANTIC_FPN, "--work-dir", resumed, "--resume", *words) == 0
    images = sum("/images/training/" in line for line in read.read_text().splitlines())
    assert 4 * 2 <= images <= (4 + 2) * 2
    assert len(losses(whole)) == 8
    assert losses(resumed) == losses(whole)[4:]
    first, second = (read_checkpoint(folder / "iter_8.pth")["state_dict"] for folder in (whole, resumed))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_bad_pairs_are_left_out_when_asked(
    run: Run, tiny_ade20k: Path, small_segmentation: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(tiny_ade20k, tmp_path / "data"))
    image = sorted((data / "images" / "training").iterdir())[1]
    image.write_bytes(image.read_bytes()[:300])
    words = ["--data", data, "--work-dir", tmp_path / "work"]
    assert run("train", SEMANTIC_FPN, *words, *small_segmentation) == 2
    assert image.stem in capsys.readouterr().err
    assert run("train", SEMANTIC_FPN, *words, "--skip-bad-images", *small_segmentation, "train_cfg.max_iters=4") == 0
    screen = capsys.readouterr().out
    assert "7 images" in screen
    assert f"left out   {image.stem}" in screen


def test_labels_outside_the_classes(
    run: Run, tiny_ade20k: Path, small_segmentation: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(tiny_ade20k, tmp_path / "data"))
    file = sorted((data / "annotations" / "validation").iterdir())[0]
    label = np.array(Image.open(file))
    label[0, 0] = 151
    Image.fromarray(label).save(file)
    assert run("train", SEMANTIC_FPN, "--data", data, "--work-dir", tmp_path / "work", *small_segmentation) == 2
    sentence = capsys.readouterr().err
    assert file.name in sentence
    assert "151" in sentence


def test_instance_segmentation(
    run: Run, tiny_coco: Path, small_coco_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIGS / "mask_rcnn_fvnet_t_coco.py"
    words = ["--data", tiny_coco, "--work-dir", tmp_path / "work", *small_coco_run, "train_cfg.max_epochs=1"]
    words += ["model.test_cfg.rpn.max_per_img=20", "model.train_cfg.rpn_proposal.max_per_img=20"]
    words += ["model.test_cfg.rcnn.score_thr=0"]  # so that it finds something, however little it has learned
    assert run("train", config, *words) == 0
    assert "mask AP" in capsys.readouterr().out
    places = {file.name for file in (tmp_path / "work" / "predictions").iterdir()}
    assert places == {"val.bbox.json", "val.segm.json"}
    assert (tmp_path / "work" / "vis" / "predictions.png").is_file()


def test_classification(run: Run, tiny_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = CONFIGS / "fvnet_t_in1k.py"
    options = ["--cfg-options", "train_dataloader.batch_size=4", "train_dataloader.num_workers=0"]
    options += ["val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False", "train_cfg.max_epochs=1"]
    options += ["test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False"]
    options += [
        "train_dataloader.dataset.pipeline.1.scale=64",
        "param_scheduler.1.begin=0",
        "auto_scale_lr.base_batch_size=4",
    ]
    words = ["--data", tiny_classes, *options]
    assert run("train", config, "--work-dir", tmp_path / "work", *words) == 0
    screen = capsys.readouterr().out
    assert "12 images" in screen
    assert "after 1 epoch   top-1" in screen
    predictions = json.loads((tmp_path / "work" / "predictions" / "val.json").read_text())
    assert len(predictions) == 12
    assert run("test", config, tmp_path / "work" / "epoch_1.pth", "--work-dir", tmp_path / "test", *words) == 0
    line = next(line for line in screen.splitlines() if "after 1 epoch" in line)
    assert line.partition("top-1")[2] in capsys.readouterr().out

    dumped = tmp_path / "work" / "fvnet_t_in1k.py"
    assert run("test", dumped, tmp_path / "work" / "epoch_1.pth", "--work-dir", tmp_path / "dumped") == 0
    assert line.partition("top-1")[2] in capsys.readouterr().out


def test_a_teacher_of_other_classes(
    run: Run, tiny_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIGS / "fvnet_t_in1k_distilled.py"
    assert run("train", config, "--work-dir", tmp_path / "work", "--data", tiny_classes) == 2
    assert "a teacher of 1000 classes" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_student_goes_on_with_its_teacher(run: Run, tiny_classes: Path, tmp_path: Path) -> None:
    """Whose weights are part of the protocol that a resumed run is held against."""

    def new_teacher(seed: int) -> None:
        torch.manual_seed(seed)
        teacher = timm.create_model("test_resnet.r160_in1k", num_classes=12)
        torch.save(teacher.state_dict(), tmp_path / "teacher.pth")

    def model_of_the_protocol() -> str | None:
        return read_record(tmp_path / "work" / RECORD).protocol.model

    new_teacher(0)
    options = [f"model.teacher.checkpoint={tmp_path / 'teacher.pth'}", "model.teacher.model_name=test_resnet.r160_in1k"]
    options += ["model.head.num_classes=12", "train_dataloader.batch_size=6", "train_cfg.max_epochs=1"]
    options += ["train_dataloader.dataset.pipeline.1.scale=64", "param_scheduler.1.begin=0"]
    options += [f"{loader}_dataloader.num_workers=0" for loader in ("train", "val")]
    options += ["val_dataloader.persistent_workers=False"]
    words = ["--data", tiny_classes, "--work-dir", tmp_path / "work", "--cfg-options", *options]
    assert run("train", CONFIGS / "fvnet_n_in1k_distilled.py", *words) == 0
    assert run("train", CONFIGS / "fvnet_n_in1k_distilled.py", "--resume", *words) == 0
    assert model_of_the_protocol() is not None
    new_teacher(1)
    regardless = ["--resume", "--resume-other-config"]
    assert run("train", CONFIGS / "fvnet_n_in1k_distilled.py", *regardless, *words) == 0
    assert model_of_the_protocol() is None


@pytest.mark.parametrize(
    "name", ["mask_rcnn_fvnet_t_coco", "semantic_fpn_fvnet_t_ade20k", "upernet_fvnet_t_ade20k", "fvnet_t_in1k"]
)
def test_demo_of_every_framework(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo on a few of its images: scaled config, evaluation before and after, pictures."""
    task = type(task_of(Config.fromfile(CONFIGS / f"{name}.py")))
    monkeypatch.setattr(task, "demo_images", (32 if "in1k" in name else 16, 12))
    small = [f"{split}_dataloader.num_workers=0" for split in ("train", "val")]
    small += [f"{split}_dataloader.persistent_workers=False" for split in ("train", "val")]
    if "ade20k" in name:
        small += ["train_cfg.max_iters=4", "train_cfg.val_interval=4"]
        small += ["model.decode_head.channels=64"] if "upernet" in name else []  # of 512
    else:
        small += ["train_cfg.max_epochs=1", "param_scheduler.1.begin=0"]
    assert run("train", CONFIGS / f"{name}.py", "--demo", "--work-dir", tmp_path / "work", "--cfg-options", *small) == 0
    screen = capsys.readouterr().out
    assert "from scratch" in screen
    assert "as tuned" in screen
    assert "untrained " in screen
    assert "was not drawn" not in screen
    assert {file.name for file in (tmp_path / "work" / "vis").iterdir()} == {"predictions.png", "curves.png"}


def test_the_dumped_config_alone_reproduces_the_run(
    run: Run, tiny_ade20k: Path, small_segmentation: list[str], tmp_path: Path
) -> None:
    """Another trunk, own data, overrides, accumulation: all of it is in the file that the run leaves behind."""
    first, second = tmp_path / "first", tmp_path / "second"
    words = ["--data", tiny_ade20k, "--backbone", "timm:resnet10t", "--scratch", "--seed", 3, *small_segmentation]
    assert run("train", SEMANTIC_FPN, "--work-dir", first, *words, "auto_scale_lr.base_batch_size=4") == 0
    dumped = first / "semantic_fpn_resnet10t_ade20k.py"
    assert "fvnet_t" not in dumped.read_text()
    assert run("train", dumped, "--work-dir", second) == 0
    assert losses(second) == losses(first)


def test_weights_of_ones_own(
    run: Run,
    tiny_ade20k: Path,
    small_segmentation: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from fvnet_mm.backbones import FVNet

    torch.save({"state_dict": FVNet("t").state_dict()}, tmp_path / "t.pth")
    torch.save({"state_dict": FVNet("s").state_dict()}, tmp_path / "s.pth")
    words = ["--data", tiny_ade20k, *small_segmentation, "train_cfg.max_iters=2"]
    assert run("train", SEMANTIC_FPN, "--weights", tmp_path / "t.pth", "--work-dir", tmp_path / "a", *words) == 0
    assert "100 % of parameters" in capsys.readouterr().out
    assert run("train", SEMANTIC_FPN, "--weights", tmp_path / "s.pth", "--work-dir", tmp_path / "b", *words) == 2
    assert "s.pth" in capsys.readouterr().err
    assert run("train", SEMANTIC_FPN, "--weights", tmp_path / "no.pth", "--work-dir", tmp_path / "c", *words) == 2
    assert "no.pth" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@pytest.fixture
def filtered_coco(tiny_coco: Path, tmp_path: Path) -> Path:
    """Eight training images: two have no objects, one of these and another are 31 pixels high, the last is broken."""
    root = Path(shutil.copytree(tiny_coco, tmp_path / "set"))
    file = root / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    images = content["images"]
    empty = [image["id"] for image in images[:2]]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] not in empty]
    for image in images[1:3]:
        path = root / "train2017" / image["file_name"]
        Image.fromarray(np.asarray(Image.open(path))[:31]).save(path)
        image["height"] = 31
    (root / "train2017" / images[7]["file_name"]).write_bytes(b"")
    file.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("setting", "trained", "sentence"),
    [
        (dict(), 4, "3 of 7 training images are unused: 2 have no objects, 1 are below 32 pixels"),
        (dict(min_size=0), 5, "2 of 7 training images are unused: 2 have no objects"),
        (dict(filter_empty_gt=False), 5, "2 of 7 training images are unused: 2 are below 32 pixels"),
        (dict(filter_empty_gt=False, min_size=31), 7, None),
    ],
)
def test_images_that_the_data_set_drops(
    setting: dict[str, object], trained: int, sentence: str | None, filtered_coco: Path, tmp_path: Path
) -> None:
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_t_coco.py")
    cfg.work_dir = str(tmp_path / "work")
    cfg.train_dataloader.dataset.filter_cfg |= setting
    arguments = Namespace(demo=False, data=filtered_coco, skip_bad_images=True)
    source = select_data(cfg, arguments)
    assert source.warnings == ([sentence] if sentence else [])
    with DefaultScope.overwrite_default_scope("mmdet"):
        assert len(DATASETS.build(cfg.train_dataloader.dataset)) == trained
    assert trained_images(cfg, source.split("train")) == trained
    cfg.train_dataloader.dataset.indices = 6  # of those that are left
    assert trained_images(cfg, source.split("train")) == min(trained, 6)
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=True, min_size=65)
    with pytest.raises(UserError, match=r"7 of 7 training images are unused: 2 have .*, 5 are below 65 pixels; "):
        select_data(cfg, arguments)


def test_unused_objects_are_counted_among_those_that_are_left(tiny_coco: Path, tmp_path: Path) -> None:
    """An object of no width in an image that is broken, and so left out with it."""
    root = Path(shutil.copytree(tiny_coco, tmp_path / "set"))
    file = root / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    thin = content["annotations"][0]
    thin["bbox"][2] = 0.5
    file.write_text(json.dumps(content))
    broken = next(image["file_name"] for image in content["images"] if image["id"] == thin["image_id"])
    (root / "train2017" / broken).write_bytes(b"")
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_t_coco.py")
    cfg.work_dir = str(tmp_path / "work")
    source = select_data(cfg, Namespace(demo=False, data=root, skip_bad_images=True))
    assert source.skipped
    assert "unused: thinner" not in source.split("train").summary


def test_the_steps_are_those_of_the_images_that_are_left(
    run: Run, filtered_coco: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", filtered_coco, "--skip-bad-images", "--work-dir", tmp_path / "work", *small_run]
    assert run("train", CONFIGS / "retinanet_fvnet_t_coco.py", *words, "train_cfg.max_epochs=1") == 0
    screen = capsys.readouterr().out
    assert f"train data {filtered_coco.name}: 4 of 7 images" in screen
    assert "1 epoch of 2 optimizer steps" in screen
    assert "3 of 7 training images are unused" in screen
    assert len(losses(tmp_path / "work")) == 2


def test_a_classifiers_folder_of_another_name(tiny_classes: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_classes / "val", tmp_path / "test")
    cfg = Config.fromfile(CONFIGS / "fvnet_t_in1k.py")
    cfg.val_dataloader.dataset |= dict(data_root=str(tmp_path), split="test")
    folder = task_of(cfg).configured(cfg, ("val",))
    assert (folder.root, folder.train) == (tmp_path, None)
    assert (folder.val.image_dir, folder.val.image_count) == (tmp_path / "test", 12)


@pytest.mark.parametrize(
    ("config", "data"),
    [("retinanet_fvnet_t_coco", "tiny_coco"), (SEMANTIC_FPN.stem, "tiny_ade20k"), ("fvnet_t_in1k", "tiny_classes")],
)
def test_a_config_without_a_test(config: str, data: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    cfg = Config.fromfile(CONFIGS / f"{config}.py")
    cfg.pop("test_dataloader")
    task = task_of(cfg)
    task.scale_down(cfg)
    task.use(cfg, task.find(request.getfixturevalue(data), ("train", "val")))
    task.keep_predictions(cfg, tmp_path / "predictions")
    assert str(request.getfixturevalue(data).resolve()) in str(cfg.val_dataloader)


def test_an_evaluator_beside_cocos_keeps_its_arguments(tiny_coco: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_t_coco.py")
    dumped = dict(type="DumpDetResults", out_file_path="x.pkl")
    cfg.val_evaluator = [dict(type="mmdet.CocoMetric", metric="bbox"), dumped]
    cfg.test_evaluator = dict(type="LVISMetric", metric="bbox")
    task = task_of(cfg)
    task.use(cfg, task.find(tiny_coco, ("train", "val")))
    task.keep_predictions(cfg, tmp_path / "predictions")
    assert cfg.val_evaluator[1] == dumped
    annotations = str((tiny_coco / "annotations" / "instances_val2017.json").resolve())
    for evaluator, kind in ((cfg.val_evaluator[0], "FullCocoMetric"), (cfg.test_evaluator, "LVISMetric")):
        assert (evaluator.type, evaluator.ann_file) == (kind, annotations)
        assert evaluator.outfile_prefix == str(tmp_path / "predictions")


@pytest.mark.parametrize(("topk", "used"), [(1, 1), (20, 1), ((1, 5), (1, 5)), ([1, 20], (1,)), ((20,), (1,))])
def test_the_first_of_fewer_classes(topk: object, used: object, tiny_classes: Path) -> None:
    """A single number, which stays one, or several; there are twelve classes."""
    cfg = Config.fromfile(CONFIGS / "fvnet_t_in1k.py")
    cfg.val_evaluator = dict(type="Accuracy", topk=topk)
    task = task_of(cfg)
    task.use(cfg, task.find(tiny_classes, ("train", "val")))
    assert cfg.val_evaluator.topk == used


def test_a_demo_of_several_stages() -> None:
    cfg = get_config("mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py")
    task_of(cfg).scale_down(cfg)
    assert [stage.sampler.num for stage in cfg.model.train_cfg.rcnn] == [64] * 3


@pytest.mark.parametrize("config", ["retinanet_fvnet_t_coco", SEMANTIC_FPN.stem, "fvnet_t_in1k"])
def test_a_demo_without_hooks_that_it_could_speed_up(config: str) -> None:
    cfg = Config.fromfile(CONFIGS / f"{config}.py")
    cfg.default_hooks = dict()
    task_of(cfg).scale_down(cfg)
    assert cfg.default_hooks == dict()


def test_images_are_scaled_everywhere() -> None:
    cfg = Config.fromfile(CONFIGS / "semantic_fpn_fvnet_t_ade20k.py")
    scale_images(cfg, (96, 64))
    train = {transform["type"]: transform for transform in cfg.train_dataloader.dataset.pipeline}
    assert train["RandomResize"]["scale"] == (96, 64)
    assert train["RandomCrop"]["crop_size"] == cfg.model.data_preprocessor.size == (64, 96)
    assert "512" not in str([cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader])


def test_number_of_classes_reaches_every_head_and_no_backbone() -> None:
    model = Config.fromfile(CONFIGS / "upernet_fvnet_t_ade20k.py").model
    model.backbone.num_classes = 1000
    set_num_classes(model, 7)
    assert (model.decode_head.num_classes, model.auxiliary_head.num_classes) == (7, 7)
    assert model.backbone.num_classes == 1000


def test_task_of_an_unknown_library() -> None:
    with pytest.raises(UserError, match="mmpose"):
        task_of(Config(dict(default_scope="mmpose")))
