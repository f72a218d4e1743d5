"""The same network, computed faster."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from fvnet_mm.engine.acceleration import accelerate, accelerate_model, merge_groups
from fvnet_mm.engine.runner import SuiteRunner
from fvnet_mm.errors import UserError
from fvnet_mm.records.from_config import fields_of_training

CONFIG = Path(__file__).parents[2] / "configs" / "retinanet_fvnet_t_coco.py"


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.neck = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(self.backbone(images)))


def config(**optimizer: object) -> Config:
    return Config(dict(optim_wrapper=dict(optimizer=dict(lr=1e-4) | optimizer)))


def test_optimizers_are_fused_where_torch_can_and_nobody_said_otherwise() -> None:
    for kind, fused in (("AdamW", True), ("SGD", True), ("LBFGS", False), ("RMSprop", False)):
        cfg = config(type=kind)
        accelerate(cfg, channels_last=False, compiled=False)
        assert cfg.optim_wrapper.optimizer.get("fused", False) is fused
        made = cfg.optim_wrapper.optimizer.to_dict()
        getattr(torch.optim, made.pop("type"))([nn.Parameter(torch.zeros(2))], **made)  # torch takes what was set
    for own in (dict(fused=False), dict(foreach=True)):
        cfg = config(type="AdamW", **own)
        accelerate(cfg, channels_last=False, compiled=False)
        assert cfg.optim_wrapper.optimizer.to_dict() == dict(type="AdamW", lr=1e-4) | own


def test_the_protocol_is_that_of_the_slower_computation() -> None:
    cfg = Config.fromfile(CONFIG)
    before = fields_of_training(cfg.to_dict(), 1)
    accelerate(cfg, channels_last=True, compiled=False)
    assert cfg.optim_wrapper.optimizer.fused
    assert fields_of_training(cfg.to_dict(), 1) == before


def weights_after_ten_steps(optimizer_of: Callable[[Detector], torch.optim.Optimizer]) -> torch.Tensor:
    torch.manual_seed(0)
    model = Detector()
    optimizer = optimizer_of(model)
    for _ in range(10):
        model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return nn.utils.parameters_to_vector(model.parameters())


def test_a_fused_step_is_the_same_step() -> None:
    def optimizer_of(model: Detector, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05, fused=fused)

    weights = [weights_after_ten_steps(partial(optimizer_of, fused=fused)) for fused in (True, False)]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


def test_merged_groups_take_the_same_steps() -> None:
    rules = [dict(), dict(weight_decay=0.0), dict(lr=1e-3), dict(weight_decay=0.0), dict(), dict(lr=1e-2)]

    def apart(model: Detector) -> torch.optim.Optimizer:
        groups = [dict(params=[p], **rule) for p, rule in zip(model.parameters(), rules, strict=True)]
        return torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.05, fused=True)

    def merged(model: Detector) -> torch.optim.Optimizer:
        optimizer = apart(model)
        merge_groups(optimizer)
        assert [len(group["params"]) for group in optimizer.param_groups] == [3, 2, 1]
        return optimizer

    assert torch.equal(weights_after_ten_steps(apart), weights_after_ten_steps(merged))


def test_a_training_has_few_groups() -> None:
    cfg = Config.fromfile(CONFIG.with_name("upernet_fvnet_t_ade20k.py"))
    runner = object.__new__(SuiteRunner)
    runner.model = Detector()
    runner.model.norm = nn.BatchNorm2d(4)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    assert sorted((len(group["params"]), group["weight_decay"] > 0) for group in wrapper.optimizer.param_groups) == [
        (2, False),
        (6, True),
    ]


def test_complex_parameters_are_trained_without_fusing() -> None:
    runner = object.__new__(SuiteRunner)
    runner.model = nn.Module()
    runner.model.filter = nn.Parameter(torch.ones(4, dtype=torch.cfloat))
    cfg = config(type="AdamW")
    accelerate(cfg, channels_last=False, compiled=False)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    runner.model.filter.abs().sum().backward()
    wrapper.step()
    assert (runner.model.filter.abs() < 1).all()
    assert cfg.optim_wrapper.optimizer.fused  # the config is nobody's to change by then


def test_layout_changes_neither_outputs_nor_names() -> None:
    torch.manual_seed(0)
    model, images = Detector(), torch.randn(2, 3, 8, 8)
    expected, names = model(images), list(model.state_dict())
    model = accelerate_model(model, Config(dict(channels_last=True)))
    assert model.head.weight.is_contiguous(memory_format=torch.channels_last)
    output = model(images)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, expected)
    assert list(model.state_dict()) == names


def test_backbone_and_neck_are_compiled_and_heads_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    model = accelerate_model(Detector(), Config(dict(compile_trunk=True)))
    assert compiled == [model.backbone, model.neck]


def test_a_compiled_trunk_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's front end alone, without a compiler: what of the module is compiled, and under which names."""
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compile_module(module, backend="eager"))
    model, images = Detector(), torch.randn(2, 3, 8, 8)
    expected, names = model(images), list(model.state_dict())
    model = accelerate_model(model, Config(dict(compile_trunk=True)))
    torch.testing.assert_close(model(images), expected)
    assert list(model.state_dict()) == names


def test_compiling_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"--compile .* needs a C\+\+ compiler"):
        accelerate(config(type="AdamW"), channels_last=False, compiled=True)
    configured = config(type="AdamW")
    configured.compile_trunk = True
    with pytest.raises(UserError, match=r"compile_trunk in the config\) needs a C\+\+ compiler"):
        accelerate(configured, channels_last=False, compiled=False)
    accelerate(config(type="AdamW"), channels_last=False, compiled=False)


def test_graphs_need_a_gpu_and_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--cuda-graphs .* needs an NVIDIA GPU"):
        accelerate(config(type="AdamW"), channels_last=False, compiled=False, graphs=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("fvnet_mm.engine.acceleration.require_compiler", lambda cfg: None)
    with pytest.raises(UserError, match=r"--cuda-graphs and --compile .* exclude each other"):
        accelerate(config(type="AdamW"), channels_last=False, compiled=True, graphs=True)


@pytest.mark.gpu
@pytest.mark.parametrize("flags", [["--channels-last"], ["--channels-last", "--compile"]])
def test_a_detector_trains_on_a_gpu(
    flags: list[str], run: Callable[..., int], tiny_coco: Path, small_run: list[str], tmp_path: Path
) -> None:
    """With the losses of a run without flags, but for rounding."""
    train = partial(run, "train", CONFIG, "--data", tiny_coco, "--work-dir")
    assert train(tmp_path / "plain", *small_run) == train(tmp_path / "fast", *flags, *small_run) == 0
    assert losses(tmp_path / "plain") == pytest.approx(losses(tmp_path / "fast"), rel=1e-2)


@pytest.mark.gpu
def test_a_segmentor_trains_as_graphs(
    run: Callable[..., int], tiny_ade20k: Path, small_segmentation: list[str], tmp_path: Path
) -> None:
    config = CONFIG.with_name("semantic_fpn_fvnet_t_ade20k.py")
    train = partial(run, "train", config, "--data", tiny_ade20k, "--work-dir")
    assert train(tmp_path / "plain", *small_segmentation) == 0
    assert train(tmp_path / "fast", "--cuda-graphs", *small_segmentation) == 0
    assert losses(tmp_path / "plain") == pytest.approx(losses(tmp_path / "fast"), rel=1e-2)


def losses(work_dir: Path) -> list[float]:
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]
