"""A user's mistake: one sentence on standard error that names what is wrong and what to do, and exit status 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

from fvnet_mm.engine.config_file import replace_sync_batch_norm
from fvnet_mm.engine.download import cache_name
from fvnet_mm.engine.runner import build_model
from fvnet_mm.engine.weights import remove_pretrained

Run = Callable[..., int]
CONFIG = Path(__file__).parents[2] / "configs" / "retinanet_fvnet_t_coco.py"


@pytest.fixture
def data(tiny_coco: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_coco, tmp_path / "tiny"))


@pytest.fixture
def refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a tool that must refuse, and returns its sentence."""

    def call(tool: str, *words: object) -> str:
        work_dir = tmp_path / "work"
        before = set(work_dir.glob("*.pth"))
        assert run(tool, CONFIG, "--work-dir", work_dir, *words) == 2
        assert set(work_dir.glob("*.pth")) == before, "something was trained"
        printed = capsys.readouterr()
        assert "source state_dict" not in printed.out
        error = printed.err.strip().splitlines()
        sentences = [line for line in error if line.startswith("error: ")]
        assert len(sentences) == 1
        assert not any("Traceback" in line for line in error), error
        return sentences[0]

    return call


def edit(data: Path, split: str, change: Callable[[dict], object]) -> None:
    path = data / "annotations" / f"instances_{split}2017.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_no_data_at_all(refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = refused("train")
    assert all(word in sentence for word in ("data/coco", "instances_train2017.json", "--data DIR", "--demo"))


def test_data_folder_that_does_not_exist(refused: Callable[..., str], tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused("train", "--data", tmp_path / "nowhere")


def test_images_that_are_not_there(refused: Callable[..., str], data: Path) -> None:
    (data / "train2017" / "000000000003.jpg").unlink()
    assert "000000000003.jpg" in refused("train", "--data", data)


def test_category_that_is_not_listed(refused: Callable[..., str], data: Path) -> None:
    edit(data, "val", lambda document: document["annotations"][0].update(category_id=9999))
    sentence = refused("train", "--data", data)
    assert "9999" in sentence
    assert "instances_val2017.json" in sentence


@pytest.mark.parametrize("content", ["", "{}", '{"images": [], "annotations": [], "categories": []}'])
def test_empty_annotation_file(content: str, refused: Callable[..., str], data: Path) -> None:
    (data / "annotations" / "instances_train2017.json").write_text(content)
    assert "instances_train2017.json" in refused("train", "--data", data)


def test_image_that_cannot_be_decoded(refused: Callable[..., str], data: Path) -> None:
    image = data / "train2017" / "000000000002.jpg"
    image.write_bytes(image.read_bytes()[:400])
    sentence = refused("train", "--data", data)
    assert "000000000002.jpg" in sentence
    assert "--skip-bad-images" in sentence


def test_truncated_checkpoint(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:1000])
    assert "cut.pth is cut short" in refused("test", path, "--data", data)


def test_a_checkpoint_is_looked_for_before_the_data(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no.pth does not exist" in refused("test", tmp_path / "no.pth", "--data", tmp_path / "no_data")


def test_checkpoint_at_a_url(
    refused: Callable[..., str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    url = "https://models.invalid/fvnet/epoch_12.pth"
    cached = tmp_path / "torch" / "hub" / "checkpoints" / cache_name(url)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half")
    assert f"checkpoint {cached} " in refused("test", url, "--data", data)


def test_checkpoint_with_code(
    refused: Callable[..., str], bomb: Callable[[str], object], data: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": bomb(f"touch {tmp_path}/ran")}, tmp_path / "bomb.pth")
    assert "system" in refused("test", tmp_path / "bomb.pth", "--data", data)
    assert not (tmp_path / "ran").exists()


def test_checkpoint_of_another_model(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.stem.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    assert "other.pth fits only 0 of" in refused("test", tmp_path / "other.pth", "--data", data)
    logged = next((tmp_path / "work").glob("*/*.log")).read_text()
    assert "unexpected key in source state_dict: backbone.stem.weight" in logged


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.neck.in_channels=[64,64,64]", ["[64, 64, 64]", "FPN", "FVNet", "in_channels=["]),
        ("model.neck.out_channels=64", ["FPN gives maps of 64", "RetinaHead expects 256", "bbox_head.in_channels"]),
        ("model.bbox_head.in_channels=64", ["FPN gives maps of 256", "RetinaHead expects 64", "neck.out_channels"]),
        ("model.backbone.arch=xxl", ["xxl", "n, t, s, m, l"]),
        ("model.backbone.out_indices=(1,2,7)", ["out_indices", "7"]),
        ("model.backbone.type=FVNett", ["FVNett", "FVNet"]),
        ("model.backbone.depth=3", ["FVNet takes no argument 'depth' (backbone.depth)"]),
        ("model.neck.out_channel=64", ["FPN takes no argument", "(neck.out_channel)", "takes is out_channels"]),
        ("train_dataloader.bach_size=4", ["(train_dataloader.bach_size)", "takes is batch_size"]),
        ("train_cfg.max_epoch=1", ["(train_cfg.max_epoch)", "takes is max_epochs"]),
        ("param_scheduler.0.ends=3", ["LinearLR takes no", "(param_scheduler.0.ends)", "takes is end."]),
        ("default_hooks.logger.intervall=5", ["(default_hooks.logger.intervall)", "takes is interval."]),
        ("train_dataloader.num_batch_per_epoch=2", ["leave out images", "train_dataloader.dataset.indices"]),
    ],
)
def test_model_that_cannot_work(option: str, words: list[str], refused: Callable[..., str], data: Path) -> None:
    sentence = refused("train", "--data", data, "--cfg-options", option)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("library", "config"),
    [
        ("mmseg", "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024"),  # one output
        ("mmseg", "hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024"),  # a head that reads all outputs concatenated
        ("mmdet", "yolo/yolov3_mobilenetv2_8xb24-320-300e_coco"),  # a neck that reads the coarsest first
        ("mmdet", "detectors/cascade-rcnn_r50-rfp_1x_coco"),  # a backbone that hands on the image
    ],
)
def test_models_of_the_libraries_are_not_refused(library: str, config: str) -> None:
    cfg = get_config(f"{library}::{config}.py")
    remove_pretrained(cfg.model)
    replace_sync_batch_norm(cfg.model, "BN")
    with DefaultScope.overwrite_default_scope(library):
        build_model(cfg.model)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("mmdet::pascal_voc/retinanet_r50_fpn_1x_voc0712.py", "joins 2 data sets"),
        ("mmpretrain::resnet/resnet18_8xb16_cifar10.py", "holds no image files"),
    ],
)
def test_data_sets_that_cannot_be_replaced(
    config: str,
    words: str,
    data: Path,
    tiny_classes: Path,
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    get_config(config).dump(tmp_path / "stock.py")
    folder = tiny_classes if "mmpretrain" in config else data
    assert run("train", tmp_path / "stock.py", "--data", folder, "--scratch", "--work-dir", tmp_path / "work") == 2
    assert words in capsys.readouterr().err


def test_objects_without_outlines(data: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(data, "train", lambda document: document["annotations"][0].pop("segmentation"))
    config = CONFIG.with_name("mask_rcnn_fvnet_t_coco.py")
    assert run("train", config, "--data", data, "--work-dir", tmp_path / "work") == 2
    assert "objects have no segmentation" in capsys.readouterr().err


def test_a_classifier_of_other_channels(
    tiny_classes: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", tiny_classes, "--work-dir", tmp_path / "work", "--cfg-options", "model.backbone.arch=s"]
    assert run("train", CONFIG.with_name("fvnet_t_in1k.py"), *words) == 2
    assert "head=dict(in_channels=" in capsys.readouterr().err


def test_unknown_backbone_names_the_known_ones(refused: Callable[..., str], data: Path) -> None:
    sentence = refused("train", "--data", data, "--backbone", "resnet_9000")
    assert "resnet_9000" in sentence
    assert "resnet50" in sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="mixed precision is supported here")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_without_a_gpu(precision: str, refused: Callable[..., str], data: Path) -> None:
    assert "CUDA" in refused("train", "--data", data, "--amp", precision)


def test_work_dir_of_an_earlier_run(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    torch.save({}, tmp_path / "work" / "epoch_3.pth")
    sentence = refused("train", "--data", data)
    assert "epoch_3.pth" in sentence
    assert "--resume" in sentence


def test_resuming_beside_later_checkpoints(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    for file in (work / "epoch_3.pth", work / "epoch_12.pth", work / "epoch_13.pth", other / "epoch_20.pth"):
        file.parent.mkdir(exist_ok=True)
        torch.save({"state_dict": build_state(data)}, file)
    (work / "epoch_13.pth").write_bytes(b"")  # nobody would resume it
    sentence = refused("train", "--data", data, "--resume", work / "epoch_3.pth")
    assert f"{work} holds a later checkpoint (epoch_12.pth)" in sentence
    assert f"{work} holds a run of its own (epoch_12.pth)" in refused("train", "--data", data, "--resume", other)
    for checkpoint in ("epoch_12.pth", "epoch_13.pth"):
        assert " holds a " not in refused("train", "--data", data, "--resume", work / checkpoint)
    for file in work.glob("*.pth"):
        file.unlink()
    assert "weights only" in refused("train", "--data", data, "--resume", other / "epoch_20.pth")


def test_work_dir_that_is_a_file(run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for work_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run("train", CONFIG, "--data", data, "--work-dir", work_dir) == 2
        assert f"{work_dir} cannot be written" in capsys.readouterr().err


def test_nothing_of_a_training_to_resume(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": build_state(data)}, tmp_path / "weights.pth")
    assert "weights only" in refused("train", "--data", data, "--resume", tmp_path / "weights.pth")
    assert "no intact checkpoint" in refused("train", "--data", data, "--resume", tmp_path)


def test_optimizer_of_other_groups(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    groups = [dict(params=[i], lr=1e-3) for i in range(5)]
    state = dict(
        state_dict=build_state(data),
        meta=dict(epoch=1, iter=4),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        optimizer=dict(state={}, param_groups=groups),
    )
    torch.save(state, tmp_path / "epoch_1.pth")
    assert "parameters were grouped otherwise" in refused("train", "--data", data, "--resume", tmp_path / "epoch_1.pth")


def build_state(data: Path) -> dict[str, torch.Tensor]:
    cfg = Config.fromfile(CONFIG)
    return build_model(cfg.model).state_dict()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("optim_wraper.optimizer.lr=1", ["optim_wraper", "did you mean optim_wrapper"]),
        ("model.neck.num_outs=2", ["model", "num_outs"]),
        ("optim_wrapper.optimizer.lr=abc", ["lr must be a number"]),
        ("optim_wrapper.optimizer.type=AdamWW", ["optimizer"]),
        ("train_dataloader.dataset.type=CocoDatset", ["CocoDatset"]),
        ("model.backbone.init_cfg.checkpoint=weights.pth", ["initial weights", "'type' is missing"]),
        ("optim_wrapper=3", ["optim_wrapper"]),
        ("optim_wrapper.optimizer=None", ["no settings in optim_wrapper.optimizer"]),
    ],
)
def test_option_that_makes_no_sense(option: str, words: list[str], refused: Callable[..., str], data: Path) -> None:
    sentence = refused("train", "--data", data, "--cfg-options", option)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["by_epoch=False", "interval=1000"], ["max_epochs=12", "counts its checkpoints in iterations"]),
        (["out_dir=/tmp/elsewhere"], ["checkpoint.out_dir is '/tmp/elsewhere'", "--work-dir"]),
        (["filename_tmpl=step_{}.pth"], ["checkpoint.filename_tmpl is 'step_{}.pth'", "leave filename_tmpl out"]),
    ],
)
def test_checkpoints_that_resuming_would_not_find(
    options: list[str], words: list[str], refused: Callable[..., str], data: Path
) -> None:
    settings = [f"default_hooks.checkpoint.{option}" for option in options]
    sentence = refused("train", "--data", data, "--cfg-options", *settings)
    assert all(word in sentence for word in words), sentence


def test_checkpoints_by_epoch_of_a_run_of_iterations(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one epoch to mmengine, so it would have one checkpoint, its last, of a name that no record knows."""
    config = CONFIG.with_name("semantic_fpn_fvnet_t_ade20k.py")
    words = ["--work-dir", tmp_path, "--cfg-options", "default_hooks.checkpoint.by_epoch=True"]
    assert run("train", config, *words) == 2
    assert "only the end would be saved; set default_hooks.checkpoint.by_epoch=False" in capsys.readouterr().err


def test_a_demo_needs_what_it_scales_down(refused: Callable[..., str], data: Path) -> None:
    torch.save({"state_dict": {}}, data / "a.pth")
    sentence = refused("test", data / "a.pth", "--demo", "--cfg-options", "optim_wrapper=None")
    assert "no settings in optim_wrapper" in sentence


def test_boxes_without_area(refused: Callable[..., str], data: Path) -> None:
    edit(data, "train", lambda document: [a.update(bbox=[1, 1, 0, 5]) for a in document["annotations"]])
    assert "no object of" in refused("train", "--data", data)


@pytest.mark.parametrize("seed", ["-1", "99999999999", "x"])
def test_seed(seed: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", CONFIG, "--seed", seed) == 2
    assert "--seed" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["-1", "x", "1.5"])
def test_number_of_steps_to_leave_out(number: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", CONFIG, "--skip-nonfinite", number) == 2
    assert f"a whole number of at least 0 is needed, not '{number}'" in capsys.readouterr().err


def test_option_without_a_value(refused: Callable[..., str], data: Path) -> None:
    assert "KEY=VALUE" in refused("train", "--data", data, "--cfg-options", "train_cfg.max_epochs")


def test_config_that_does_not_exist_or_is_broken(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", tmp_path / "no.py") == 2
    (tmp_path / "broken.py").write_text("model = dict(")
    assert run("train", tmp_path / "broken.py") == 2
    (tmp_path / "base.py").write_text("_base_ = 'gone.py'")
    assert run("train", tmp_path / "base.py") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert [name in line for name, line in zip(("no.py", "broken.py", "base.py"), errors, strict=True)] == [True] * 3
