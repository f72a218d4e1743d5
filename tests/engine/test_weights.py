"""Weights load loudly: from whatever layout, into a part of whatever model, or not at all."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.apis import init_detector
from mmdet.models import ResNet
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, BaseModule, initialize
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier, MobileNetV3
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

import fvnet_mm.engine.weights
from fvnet_mm.backbones import FVNet, TimmBackbone
from fvnet_mm.engine.checkpoint import read_checkpoint
from fvnet_mm.engine.runner import build_model
from fvnet_mm.engine.state_dicts import weights_in, wrapper_prefixes
from fvnet_mm.engine.weights import (
    PretrainedWeights,
    fetch_pretrained,
    loaded_weights,
    percent,
    pretrained_checkpoints,
    remove_pretrained,
)
from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of

CONFIG = Path(__file__).parents[2] / "configs" / "retinanet_fvnet_t_coco.py"

Weights = dict[str, torch.Tensor]


class Trunk(BaseModule):
    """A convolution and its norm: 4 * 27 + 4 * 4 = 124 values in 5 tensors, and a counter."""

    def __init__(self, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)


@pytest.fixture
def weights() -> Weights:
    return {name: torch.full_like(tensor, 3) for name, tensor in Trunk().state_dict().items()}


@pytest.fixture
def announced() -> Iterator[list[str]]:
    """The messages that show before a run begins."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if hasattr(record, "announced"):
                messages.append(record.getMessage())

    logger, listener = MMLogger.get_current_instance(), Listener()
    logger.addHandler(listener)
    yield messages
    logger.removeHandler(listener)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Trunk]:
    """Saves a checkpoint and initialises a trunk from it, through mmengine."""

    def call(checkpoint: dict[str, object], **settings: object) -> Trunk:
        torch.save(checkpoint, tmp_path / "a.pth")
        trunk = Trunk(dict(type="Pretrained", checkpoint=str(tmp_path / "a.pth"), **settings))
        trunk.init_weights()
        return trunk

    return call


def renamed(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def assert_filled(trunk: nn.Module) -> None:
    assert all((tensor == 3).all() for name, tensor in trunk.state_dict().items() if "tracked" not in name)


@pytest.mark.parametrize(
    ("keys", "averaged"),
    [
        ([], False),
        (["state_dict"], False),
        (["model"], False),
        (["model_ema"], True),
        (["state_dict_ema"], True),
        (["ema"], True),
        (["ema_state_dict"], True),
        (["ema", "module"], True),
    ],
)
def test_containers(keys: list[str], averaged: bool, weights: Weights, load: Callable[..., Trunk]) -> None:
    raw = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    checkpoint: dict[str, object] = dict(weights)
    for key in reversed(keys):
        checkpoint = {"epoch": 300, key: checkpoint}
    if averaged:  # beside the raw weights
        checkpoint |= {"state_dict": raw, "model": raw}
    trunk = load(checkpoint)
    assert_filled(trunk)
    report = loaded_weights(trunk)[""]
    assert (report.container, report.averaged, report.share) == (".".join(keys), averaged, 1)


@pytest.mark.parametrize("average", [None, {}, {"decay": 0.9999, "updates": 7}])
def test_an_average_without_weights_is_passed_over(
    average: object, weights: Weights, load: Callable[..., Trunk]
) -> None:
    assert loaded_weights(load({"model": weights, "ema": average}))[""].container == "model"


def test_a_container_that_holds_itself_comes_to_an_end() -> None:
    endless: dict[str, object] = {}
    endless["model"] = endless
    with pytest.raises(UserError, match=r"a\.pth holds no weights where they are kept; its entries are: model"):
        weights_in(endless, "a.pth")


class Classifier(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Trunk(), nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> dict[str, torch.Tensor]:
        features = self.backbone.norm(self.backbone.conv(inputs)).mean((2, 3))
        return {"loss": (self.head(features) - 5).square().mean()}


class Noise(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"inputs": torch.randn(3, 8, 8)}


@pytest.fixture
def averaged_run(tmp_path: Path) -> tuple[Path, Weights, Weights]:
    """A checkpoint of mmengine's runner with its ``EMAHook``; the average and the raw weights of the backbone."""
    hook = EMAHook(momentum=0.4, update_buffers=True)
    runner = Runner(
        Classifier(),
        str(tmp_path),
        train_dataloader=dict(
            dataset=Noise(), batch_size=2, collate_fn=dict(type="default_collate"), sampler=dict(type="DefaultSampler")
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        custom_hooks=[hook],
        experiment_name="trunk_averaged",
    )
    runner.train()
    average = {name: tensor.clone() for name, tensor in hook.ema_model.module.backbone.state_dict().items()}
    return tmp_path / "epoch_1.pth", average, runner.model.backbone.state_dict()


def test_the_average_is_taken_from_checkpoints_of_mmengine(averaged_run: tuple[Path, Weights, Weights]) -> None:
    """``EMAHook`` swaps: the average stands under ``state_dict``."""
    path, average, raw = averaged_run
    trunk = Trunk(dict(type="Pretrained", checkpoint=str(path), expected_share=1))
    trunk.init_weights()
    for name in ("conv.weight", "norm.running_mean"):
        assert torch.equal(trunk.state_dict()[name], average[name])
        assert not torch.allclose(average[name], raw[name])
    report = loaded_weights(trunk)[""]
    assert (report.container, report.averaged, report.prefix) == ("state_dict", True, "backbone.")


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "backbone.", "model.", "encoder.", "_orig_mod.", "module._orig_mod.backbone.", "timm_model."],
)
def test_prefixes(prefix: str, weights: Weights, load: Callable[..., Trunk]) -> None:
    others = {"head.weight": torch.ones(10, 4), "neck.conv.weight": torch.ones(2)}
    trunk = load({"state_dict": renamed(weights, prefix) | others})
    assert_filled(trunk)
    assert loaded_weights(trunk)[""].prefix == prefix


def test_a_named_prefix_wins(weights: Weights, load: Callable[..., Trunk]) -> None:
    teacher = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    checkpoint = renamed(teacher, "backbone.") | renamed(weights, "student.net.")
    assert_filled(load(checkpoint, prefix="student.net"))
    assert_filled(load(checkpoint, prefix="student.net."))
    with pytest.raises(UserError, match=r"no tensors under prefix='net'; it has backbone\.conv\.weight, "):
        load(checkpoint, prefix="net")


@given(st.lists(st.sampled_from(["module.a", "module.model.b", "net.c.model.d", "e", "backbone"])))
def test_wrapper_prefixes_are_beginnings_of_names(names: list[str]) -> None:
    prefixes = wrapper_prefixes(names)
    assert prefixes[0] == ""
    assert all(any(name.startswith(prefix) for name in names) for prefix in prefixes[1:])


def test_what_is_said(weights: Weights, load: Callable[..., Trunk], announced: list[str], tmp_path: Path) -> None:
    load({"model_ema": weights}, distilled=True)
    sha256 = sha256_of(tmp_path / "a.pth")
    assert announced == [
        f"loaded 5 of 5 tensors, 100 % of parameters, sha256 {sha256[:8]}, distilled, averaged, from {tmp_path}/a.pth"
    ]
    del weights["norm.bias"]
    trunk = load(weights, distilled=False)
    expected = r"loaded 4 of 5 tensors, 96\.7 % of parameters, sha256 \w{8}, plain, from .*a\.pth; missing: norm\.bias"
    assert re.fullmatch(expected, announced[1])
    record = json.loads(json.dumps(asdict(loaded_weights(trunk)[""])))
    assert (record["tensors_loaded"], record["tensors_total"], record["distilled"]) == (4, 5, False)
    assert record["share"] == 120 / 124
    assert record["sha256"] == sha256_of(tmp_path / "a.pth")


def test_only_the_main_process_speaks(
    weights: Weights, load: Callable[..., Trunk], announced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fvnet_mm.engine.weights, "is_main_process", lambda: False)
    assert_filled(load(weights))
    assert announced == []


def test_only_all_is_100_percent() -> None:
    assert [percent(share) for share in (1, 0.99999, 0.95, 0.0004)] == ["100 %", "99.9 %", "95 %", "0 %"]


SIZES = {"conv.weight": 108, "norm.weight": 4, "norm.bias": 4, "norm.running_mean": 4, "norm.running_var": 4}


@settings(deadline=None, max_examples=50)
@given(kept=st.sets(st.sampled_from(sorted(SIZES))), expected=st.floats(0.01, 1))
def test_too_small_a_share_is_refused(
    kept: set[str], expected: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("share") / "a.pth"
    weights = {name: tensor for name, tensor in Trunk().state_dict().items() if name in kept}
    torch.save(weights | {"other": torch.ones(1)}, path)
    trunk, share = Trunk(), sum(SIZES[name] for name in kept) / 124
    initialiser = PretrainedWeights(str(path), expected_share=expected)
    if share < expected:
        with pytest.raises(UserError, match=rf"fills only {len(kept)} of 5 tensors, .* of Trunk \(.* missing: "):
            initialiser(trunk)
        assert loaded_weights(trunk) == {}
    else:
        initialiser(trunk)
        assert loaded_weights(trunk)[""].share == share


def test_weights_of_another_architecture_are_refused_in_a_sentence(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    backbone = FVNet("t", init_cfg=dict(type="Pretrained", checkpoint=f"{tmp_path}/resnet18.pth"))
    with pytest.raises(UserError) as caught:
        backbone.init_weights()
    sentence = str(caught.value)
    assert re.search(r"resnet18\.pth fills only 0 of \d+ tensors, 0 % of parameters, of FVNet \(95 % are", sentence)
    assert "the file has 122 tensors, such as conv1.weight, bn1.weight, bn1.bias" in sentence
    assert "\n" not in sentence


def test_a_refusal_names_timm_s_model(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    backbone = TimmBackbone("repvit_m0_9", init_cfg=dict(type="Pretrained", checkpoint=f"{tmp_path}/resnet18.pth"))
    with pytest.raises(UserError, match=r"of parameters, of TimmBackbone repvit_m0_9 \(95 % are expected\)"):
        backbone.init_weights()


def test_quantised_weights_do_not_fit(weights: Weights, load: Callable[..., Trunk]) -> None:
    with pytest.raises(UserError, match=r"fills only 0 .*not fitting: \S+ \(torch\.int8 instead of torch\.float32\)"):
        load({name: tensor.to(torch.int8) for name, tensor in weights.items()})
    assert_filled(load({name: tensor.half() for name, tensor in weights.items()}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_diverged_are_refused(
    value: float, weights: Weights, load: Callable[..., Trunk]
) -> None:
    weights["conv.weight"][0] = value
    with pytest.raises(UserError, match=r"no finite numbers, in conv\.weight: the training"):
        load(weights)


def test_other_shapes_are_named(weights: Weights, load: Callable[..., Trunk]) -> None:
    weights["conv.weight"] = torch.ones(8, 3, 3, 3)
    with pytest.raises(UserError, match=r"not fitting: conv\.weight \(\(8, 3, 3, 3\) instead of \(4, 3, 3, 3\)\);"):
        load(weights)


@pytest.mark.parametrize("share", [0, -1, 1.01, 95])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="is no share"):
        PretrainedWeights("a.pth", expected_share=share)


def test_the_hash_is_checked(weights: Weights, load: Callable[..., Trunk]) -> None:
    with pytest.raises(UserError, match="another file than the config means"):
        load(weights, sha256="0" * 64)


def test_classifiers_of_the_original_libraries(tmp_path: Path) -> None:
    """torchvision's names are mmdet's, and mmpretrain's classifier has its backbone under a prefix."""
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "torchvision.pth")
    resnet = ResNet(18, init_cfg=dict(type="Pretrained", checkpoint=f"{tmp_path}/torchvision.pth", expected_share=1))
    resnet.init_weights()
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        classifier = ImageClassifier(
            backbone=dict(type="MobileNetV3", arch="small_050"),
            head=dict(type="LinearClsHead", num_classes=10, in_channels=288),
        )
        torch.save({"meta": {}, "state_dict": classifier.state_dict()}, tmp_path / "mmpretrain.pth")
        pretrained = dict(type="Pretrained", checkpoint=f"{tmp_path}/mmpretrain.pth", expected_share=1)
        init_cfg = [pretrained, dict(type="Kaiming", layer=["Conv2d"])]
        backbone = MobileNetV3("small_050", init_cfg=init_cfg)
        backbone.init_weights()
    for name, tensor in classifier.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor), name


class Renaming(Trunk):
    """Like a trunk that takes another library's network into itself."""

    def convert_state_dict(self, state_dict: Weights) -> Weights:
        return {name.replace("bn1.", "norm."): tensor for name, tensor in state_dict.items()}


@pytest.mark.parametrize("theirs", [True, False])
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_trunk_may_know_other_names(theirs: bool, prefix: str, weights: Weights, tmp_path: Path) -> None:
    if theirs:
        weights = {name.replace("norm.", "bn1."): tensor for name, tensor in weights.items()}
    save_file(renamed(weights, prefix), tmp_path / "a.safetensors")
    trunk = Renaming(dict(type="Pretrained", checkpoint=f"{tmp_path}/a.safetensors", expected_share=1))
    trunk.init_weights()
    assert_filled(trunk)


class Resizing(nn.Module):
    """Brings a table of positions to its own size on loading, as vision transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(8))
        self._register_load_state_dict_pre_hook(self._resize)

    def _resize(self, state_dict: Weights, prefix: str, *_: object) -> None:
        state_dict[f"{prefix}table"] = state_dict[f"{prefix}table"].repeat_interleave(2)


def test_conversions_on_loading_take_part(tmp_path: Path) -> None:
    torch.save({"0.table": torch.full((4,), 3.0)}, tmp_path / "a.pth")
    model = nn.Sequential(Resizing())
    initialize(model, dict(type="Pretrained", checkpoint=f"{tmp_path}/a.pth", expected_share=1))
    assert_filled(model)
    assert [len(part._load_state_dict_pre_hooks) for part in model.modules()] == [0, 1], "a hook was left behind"


class Initialised(Trunk):
    def init_weights(self) -> None:
        super().init_weights()
        nn.init.zeros_(self.conv.weight)


@pytest.mark.parametrize("scope", ["mmengine", "mmdet", "mmseg", "mmpretrain"])
def test_it_comes_after_all_other_initialisation(scope: str, weights: Weights, tmp_path: Path) -> None:
    torch.save(renamed(weights, "0."), tmp_path / "a.pth")
    pretrained = dict(type="Pretrained", checkpoint=f"{tmp_path}/a.pth")
    model = BaseModule([pretrained, dict(type="Constant", layer="BatchNorm2d", val=1, bias=0)])
    model.add_module("0", Initialised())
    with DefaultScope.overwrite_default_scope(scope):
        model.init_weights()
    assert_filled(model)


def test_part_of_a_detector(tmp_path: Path) -> None:
    cfg, trained = Config.fromfile(CONFIG), FVNet("t")
    save_file(trained.state_dict(), tmp_path / "a.safetensors")
    with DefaultScope.overwrite_default_scope("mmdet"):
        cfg.model.backbone.init_cfg = dict(
            type="Pretrained", checkpoint=f"{tmp_path}/a.safetensors", expected_share=1, distilled=False
        )
        detector = build_model(cfg.model)
        detector.init_weights()
        save_file(detector.state_dict(), tmp_path / "detector.safetensors")
        whole = init_detector(cfg, f"{tmp_path}/detector.safetensors", palette="random", device="cpu", cfg_options={})
    assert list(loaded_weights(detector)) == ["backbone"]
    for name, tensor in detector.backbone.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name]), name
    for name, tensor in detector.state_dict().items():
        assert torch.equal(whole.state_dict()[name], tensor), name


def model_config(path: Path) -> ConfigDict:
    pretrained = dict(type="Pretrained", checkpoint=str(path), sha256=None, distilled=True)
    return ConfigDict(
        type="Detector",
        pretrained=None,
        backbone=dict(type="TimmBackbone", init_cfg=[dict(type="Kaiming", layer="Conv2d"), pretrained]),
        necks=[dict(type="FPN", init_cfg=dict(type="mmengine.Pretrained", checkpoint=str(path), prefix="neck"))],
        head=dict(
            init_cfg=dict(
                type="Normal", layer="Conv2d", override=dict(type="Pretrained", name="a", checkpoint=str(path))
            )
        ),
        extra=dict(type="mmpretrain.TIMMBackbone", pretrained=True),
        teacher=dict(model_name="regnety_160", checkpoint="teacher.pth"),
    )


def test_weights_in_a_config(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "a.pth"
    config = model_config(path)
    parts = pretrained_checkpoints(config)
    assert [(part.part, part.distilled) for part in parts] == [("backbone", True), ("necks", None), ("head", None)]
    assert {part.checkpoint for part in parts} == {str(path)}
    with pytest.raises(UserError, match="does not exist"):
        fetch_pretrained(config)
    torch.save(weights, path)
    notes = [f"{part} from {path}" for part in ("backbone", "necks", "head")]
    assert fetch_pretrained(config) == [*notes, "extra pretrained=True"]


def test_a_mistake_in_init_cfg_is_named() -> None:
    wrong = ConfigDict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="a.pth", distiled=True)))
    with pytest.raises(UserError, match=r"init_cfg of the backbone: got an unexpected keyword argument 'distiled'"):
        pretrained_checkpoints(wrong)
    with pytest.raises(UserError, match=r"init_cfg of the model: missing 1 required.*'checkpoint'"):
        pretrained_checkpoints(ConfigDict(init_cfg=dict(type="Pretrained")))


def test_from_scratch(tmp_path: Path) -> None:
    config = model_config(tmp_path / "a.pth")
    remove_pretrained(config)
    assert pretrained_checkpoints(config) == []
    assert config == dict(
        type="Detector",
        backbone=dict(type="TimmBackbone", init_cfg=[dict(type="Kaiming", layer="Conv2d")]),
        necks=[dict(type="FPN")],
        head=dict(init_cfg=dict(type="Normal", layer="Conv2d")),
        extra=dict(type="mmpretrain.TIMMBackbone"),
        teacher=dict(model_name="regnety_160", checkpoint="teacher.pth"),
    )


def test_code_in_weights_is_not_run(bomb: Callable[[str], object], load: Callable[..., Trunk], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds Python code"):
        load({"state_dict": bomb(f"touch {tmp_path / 'ran'}")})
    assert not (tmp_path / "ran").exists()


def test_checkpoints_of_a_run_are_read_in_full(averaged_run: tuple[Path, Weights, Weights]) -> None:
    """The hidden weights of ``EMAHook`` are still there for resuming."""
    assert "ema_state_dict" in read_checkpoint(averaged_run[0])
