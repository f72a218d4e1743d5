"""Configs of the pretraining on ImageNet-1k: what the protocol says, built, trained and resumed."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import RUNNERS
from mmpretrain.structures import DataSample

from fvnet_mm.backbones import FVNet
from fvnet_mm.data.class_shapes import CLASSES, write_class_shapes
from fvnet_mm.engine.batch import plan_batch
from fvnet_mm.engine.checkpoint import read_checkpoint
from fvnet_mm.engine.distillation import DistilledImageClassifier
from fvnet_mm.engine.runner import SuiteRunner, build_model

CONFIGS = Path(__file__).parents[1] / "configs"
LEAVES = sorted(path for path in CONFIGS.glob("*.py") if path.stem.endswith(("_in1k", "_in1k_distilled")))
TEACHER = "test_resnet"  # timm's smallest


def test_there_is_a_leaf_for_every_size() -> None:
    kinds = ("in1k", "in1k_distilled")
    assert {path.stem for path in LEAVES} == {f"fvnet_{arch}_{kind}" for arch in FVNet.arch_settings for kind in kinds}


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_leaf(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(path.read_text().splitlines()) <= 12
    cfg = Config.fromfile(path)
    assert path.stem.startswith(f"{cfg.backbone_name}_in1k")
    distilled = path.stem.endswith("_distilled")
    if distilled:
        cfg.model.teacher = dict(model_name=TEACHER, allow_untrained=True)
    model = build_model(cfg.model)
    assert isinstance(model, DistilledImageClassifier) == distilled
    assert model.backbone.out_indices == (3,)
    assert model.head.in_channels == model.backbone.channels[-1] == cfg.channels[3]
    assert model.backbone.arch == FVNet.get_arch(cfg.backbone_name[-1])

    model.init_weights()
    model.train()
    images = [torch.randint(0, 256, (3, 97, 65), dtype=torch.uint8) for _ in range(4)]
    samples = [DataSample().set_gt_label(label) for label in (0, 999, 5, 5)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    assert data["data_samples"][0].gt_score.shape == (1000,)  # labels are mixed
    model.parse_losses(model.loss(data["inputs"], data["data_samples"]))[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), name
    assert model.eval()(data["inputs"]).shape == (4, 1000)


def test_protocol() -> None:
    cfg = Config.fromfile(CONFIGS / "fvnet_s_in1k.py")
    assert cfg.default_scope == "mmpretrain"
    assert cfg.train_cfg.max_epochs == 300
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 1e-3, 0.05)
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, cosine.type, cosine.begin) == ("LinearLR", 20, "CosineAnnealingLR", 20)
    augments = {augment.type: augment.alpha for augment in cfg.model.train_cfg.augments}
    assert augments == dict(Mixup=0.8, CutMix=1.0)
    training = {transform["type"]: transform for transform in cfg.train_dataloader.dataset.pipeline}
    assert training["RandomResizedCrop"].scale == 224
    assert training["RandAugment"].magnitude_level == 9
    assert training["RandomErasing"].erase_prob == 0.25
    test = {transform["type"]: transform for transform in cfg.test_dataloader.dataset.pipeline}
    assert (test["ResizeEdge"].scale, test["CenterCrop"].crop_size) == (256, 224)
    assert (cfg.model.head.loss.type, cfg.model.head.loss.label_smooth_val) == ("LabelSmoothLoss", 0.1)
    assert cfg.model.data_preprocessor.num_classes == cfg.model.head.num_classes == 1000
    (average,) = (hook for hook in cfg.custom_hooks if hook.type == "StepEMAHook")
    assert average.momentum == 1e-4


@pytest.mark.parametrize(("devices", "accumulation"), [(1, 8), (8, 1)])
def test_the_effective_batch_is_1024_on_any_number_of_devices(devices: int, accumulation: int) -> None:
    cfg = Config.fromfile(CONFIGS / "fvnet_s_in1k.py")
    plan = plan_batch(cfg, images=1_281_167, world_size=devices, auto_scale_lr=False)
    assert (plan.effective, plan.accumulation) == (1024, accumulation)
    assert plan.warnings == []


def test_only_matrices_decay() -> None:
    cfg = Config.fromfile(CONFIGS / "fvnet_t_in1k.py")
    model = build_model(cfg.model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decays.keys() == set(names.values())
    assert decays == {name: 0.05 * (parameter.ndim > 1) for name, parameter in model.named_parameters()}
    assert any("tau" in name for name, decay in decays.items() if decay == 0)


def test_teacher_is_deits() -> None:
    """RegNetY-16GF with 84 M parameters (arXiv:2012.12877, table 2), from where timm has it."""
    teacher = Config.fromfile(CONFIGS / "fvnet_s_in1k_distilled.py").model.teacher
    with torch.device("meta"):
        model = timm.create_model(teacher.model_name)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == 84
    repository = model.pretrained_cfg["hf_hub_id"]
    assert teacher.checkpoint == f"https://huggingface.co/{repository}/resolve/main/model.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_shapes(tmp_path_factory.mktemp("data") / "shapes", 24, 12, (72, 64))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny teacher of the generated classes, with random weights in a file."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save(timm.create_model(TEACHER, num_classes=len(CLASSES)).state_dict(), path)
    return dict(model_name=TEACHER, checkpoint=str(path))


def small(config: str, data: Path, teacher: dict[str, str], work_dir: Path) -> Config:
    """A config cut down: a tiny network, two epochs of four batches of six 64-pixel images, two batches a step."""
    cfg = Config.fromfile(CONFIGS / config)
    for name, split in (("train", "train"), ("val", "val"), ("test", "val")):
        loader = cfg[f"{name}_dataloader"]
        loader.batch_size, loader.num_workers = 6, 1
        loader.dataset.pop("split")
        loader.dataset.update(
            type="CustomDataset", data_root="", data_prefix=str(data / split), metainfo=dict(classes=sorted(CLASSES))
        )
        for transform in loader.dataset.pipeline:
            if transform["type"] in ("RandomResizedCrop", "ResizeEdge"):
                transform.scale = 64
            elif transform["type"] == "CenterCrop":
                transform.crop_size = 64
    cfg.model.backbone.arch = dict(channels=(16, 16, 24, 32), depths=(1, 1, 1, 1))
    cfg.model.head.in_channels = 32
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = len(CLASSES)
    if "teacher" in cfg.model:
        cfg.model.teacher = teacher
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.train_cfg.max_epochs = 2
    cfg.param_scheduler = [dict(type="ConstantLR", factor=1.0)]
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    return cfg


@pytest.mark.parametrize("config", ["fvnet_t_in1k.py", "fvnet_t_in1k_distilled.py"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    config: str, data: Path, teacher: dict[str, str], tmp_path: Path
) -> None:
    whole: SuiteRunner = RUNNERS.build(small(config, data, teacher, tmp_path / "whole"))
    whole.train()
    resumed_cfg = small(config, data, teacher, tmp_path / "resumed")
    resumed_cfg.resume, resumed_cfg.load_from = True, str(shutil.copy(tmp_path / "whole" / "epoch_1.pth", tmp_path))
    RUNNERS.build(resumed_cfg).train()

    first, again = (read_checkpoint(tmp_path / folder / "epoch_2.pth") for folder in ("whole", "resumed"))
    for part in ("state_dict", "ema_state_dict"):
        assert first[part].keys() == again[part].keys()
        for name, tensor in first[part].items():
            assert torch.equal(tensor, again[part][name]), f"{part}: {name}"
    for key, state in first["optimizer"]["state"].items():
        assert torch.equal(state["exp_avg_sq"], again["optimizer"]["state"][key]["exp_avg_sq"])

    # Kept and evaluated is the average; the weights that training goes on from stand beside it.
    assert first["ema_state_dict"]["steps"] == 4
    average, weights = first["state_dict"]["head.fc.weight"], first["ema_state_dict"]["module.head.fc.weight"]
    assert torch.equal(whole.model.head.fc.weight, weights)
    assert not torch.equal(average, weights)
    assert not any("teacher." in name for part in ("state_dict", "ema_state_dict") for name in first[part])

    test_cfg = small(config, data, teacher, tmp_path / "test")
    test_cfg.load_from = str(tmp_path / "whole" / "epoch_2.pth")
    metrics = RUNNERS.build(test_cfg).test()
    assert metrics["accuracy/top1"] == whole.message_hub.get_scalar("val/accuracy/top1").current()
