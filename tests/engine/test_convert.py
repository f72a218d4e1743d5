"""From classification checkpoints of this suite, mmpretrain and timm to backbone files."""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.hooks import EMAHook
from mmengine.model import initialize
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier, MobileNetV3
from safetensors.torch import save_file
from torch import nn

import fvnet_mm
from fvnet_mm.backbones import FVNet, TimmBackbone
from fvnet_mm.engine.checkpoint import read_checkpoint
from fvnet_mm.engine.convert import convert
from fvnet_mm.engine.state_dicts import weights_in
from fvnet_mm.engine.weights import loaded_weights
from fvnet_mm.files import sha256_of

Weights = dict[str, torch.Tensor]


def assert_fills(path: Path, model: nn.Module, original: Weights) -> None:
    """A file fills every tensor of a model, with the very values."""
    initialize(model, dict(type="Pretrained", checkpoint=str(path), expected_share=1))
    assert loaded_weights(model)[""].share == 1
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, original[name]), name


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, Weights]:
    """What a run of configs/fvnet_t_in1k.py leaves behind, and the average of its backbone's weights."""
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = ImageClassifier(
            backbone=dict(type="FVNet", arch="t", out_indices=(3,)),
            head=dict(type="LinearClsHead", num_classes=5, in_channels=FVNet.stage_channels("t")[-1]),
        )
    hook = EMAHook()
    hook.before_run(SimpleNamespace(model=model))
    average = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.add_(1)  # the raw weights move on
    meta = {"epoch": 300, "iter": 9, "experiment_name": "fvnet_t_in1k_20240131_120000", "time": "now", "cfg": "a = 1"}
    checkpoint = {"meta": meta, "state_dict": model.state_dict(), "optimizer": {"state": {}}}
    hook.before_save_checkpoint(None, checkpoint)  # which swaps the two
    torch.save(checkpoint, tmp_path / "epoch_300.pth")
    return tmp_path / "epoch_300.pth", average


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_ours(suffix: str, ours: tuple[Path, Weights], tmp_path: Path) -> None:
    source, average = ours
    target = tmp_path / "new" / f"fvnet_t{suffix}"
    done = convert(source, target)
    assert_fills(target, FVNet("t", out_indices=(3,)), average)
    written = read_checkpoint(target)
    assert written["state_dict"].keys() == average.keys()
    provenance = json.loads(written["metadata"]["provenance"]) if suffix == ".safetensors" else written["meta"]
    assert done.provenance == provenance
    assert provenance == {
        "source": "epoch_300.pth",
        "source_sha256": sha256_of(source),
        "container": "state_dict",
        "averaged": True,
        "prefix": "backbone.",
        "tensors": len(average),
        "tensors_dropped": 2,
        "fvnet_mm": fvnet_mm.__version__,
        "config_name": "fvnet_t_in1k",
        "epoch": 300,
    }
    assert (done.sha256, done.values) == (sha256_of(target), sum(tensor.numel() for tensor in average.values()))
    assert str(tmp_path).encode() not in target.read_bytes()
    again = convert(source, tmp_path / f"other{suffix}")
    assert again.sha256 == done.sha256, "the file depends on more than its source"


def test_mmpretrains(tmp_path: Path) -> None:
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = ImageClassifier(
            backbone=dict(type="MobileNetV3", arch="small_050"),
            head=dict(type="LinearClsHead", num_classes=5, in_channels=288),
        )
    torch.save({"meta": {}, "state_dict": model.state_dict()}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert_fills(tmp_path / "b.safetensors", MobileNetV3("small_050"), model.backbone.state_dict())


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv4_conv_small", "repvit_m0_9", "efficientformerv2_s0", "starnet_s1", "regnety_002"]
)
def test_timms(name: str, tmp_path: Path) -> None:
    """timm itself says which tensors are the classifier's: those that a model of no classes does not have."""
    model = timm.create_model(name)
    raw = {key: torch.zeros_like(tensor) for key, tensor in model.state_dict().items()}
    checkpoint = {"arch": name, "args": Namespace(lr=1.0), "state_dict": raw, "state_dict_ema": model.state_dict()}
    torch.save(checkpoint, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    headless = timm.create_model(name, num_classes=0)
    assert read_checkpoint(tmp_path / "b.safetensors")["state_dict"].keys() == headless.state_dict().keys()
    assert_fills(tmp_path / "b.safetensors", headless, model.state_dict())


def test_timms_fill_a_trunk(tmp_path: Path) -> None:
    model = timm.create_model("efficientformerv2_s0")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    convert(tmp_path / "model.safetensors", tmp_path / "b.safetensors")
    for path in ("model.safetensors", "b.safetensors"):
        original = {f"timm_model.{name}": tensor for name, tensor in model.state_dict().items()}
        assert_fills(tmp_path / path, TimmBackbone("efficientformerv2_s0"), original)


@pytest.mark.parametrize(
    ("names", "prefix", "taken", "kept"),
    [
        (["conv.weight", "fc.weight", "fc.bias"], None, "", ["conv.weight"]),
        (["module.conv.weight", "module.head.weight"], None, "module.", ["conv.weight"]),
        (["module.backbone.conv.weight", "module.head.fc"], None, "module.backbone.", ["conv.weight"]),
        (["backbone.timm_model.conv", "head.fc"], None, "backbone.", ["timm_model.conv"]),
        (["backbone.conv", "backbone.head"], None, "backbone.", ["conv", "head"]),  # its own, whatever it is
        (["student.backbone.conv", "teacher.backbone.conv"], None, "student.backbone.", ["conv"]),
        (["a.conv", "a.head.fc", "b.conv"], "a", "a.", ["conv"]),
        (["a.conv", "b.conv"], "b.", "b.", ["conv"]),
    ],
)
def test_what_is_taken(names: list[str], prefix: str | None, taken: str, kept: list[str], tmp_path: Path) -> None:
    save_file({name: torch.ones(2) for name in names}, tmp_path / "a.safetensors")
    done = convert(tmp_path / "a.safetensors", tmp_path / "b.pth", prefix)
    assert done.provenance["prefix"] == taken
    assert list(read_checkpoint(tmp_path / "b.pth")["state_dict"]) == kept
    assert done.provenance["tensors_dropped"] == len(names) - len(kept)


def test_views_and_tied_tensors_are_written_as_their_own(tmp_path: Path) -> None:
    table = torch.arange(100.0)
    torch.save({"a": table[:3], "b": table[:3], "c": torch.ones(2, 3).T}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    convert(tmp_path / "a.pth", tmp_path / "b.pth")
    for path in (tmp_path / "b.safetensors", tmp_path / "b.pth"):
        written = read_checkpoint(path)["state_dict"]
        assert torch.equal(written["b"], table[:3])
        assert written["a"].untyped_storage().nbytes() == 12, "the whole table was written"
        assert torch.equal(written["c"], torch.ones(3, 2))


@pytest.mark.parametrize(
    ("content", "words", "sentence"),
    [
        (
            {"epoch": 3, "optimizer": {"state": {}}},
            [],
            "holds no weights where they are kept; its entries are: epoch, opt",
        ),
        ({"head.weight": torch.ones(2)}, [], "holds a classifier and no backbone: head.weight."),
        ({"conv": torch.ones(2)}, ["--prefix", "net"], "has no tensors under --prefix net.; it has conv."),
    ],
)
def test_nonsense_is_refused(
    content: dict[str, object],
    words: list[str],
    sentence: str,
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert run("convert_weights", tmp_path / "a.pth", tmp_path / "b.pth", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/a.pth {sentence}")
    assert not (tmp_path / "b.pth").exists()


def test_the_tool(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.pth", tmp_path / "b.safetensors"
    torch.save({"model_ema": {"conv.weight": torch.ones(2000, 500), "fc.bias": torch.ones(2)}}, source)
    assert run("convert_weights", source, target) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {target}: 1 tensors, 1.00 M values, from model_ema (moving average) of a.pth, 1 tensors dropped",
        f"sha256 {sha256_of(target)}",
    ]
    before = target.stat()
    assert run("convert_weights", source, target) == 2
    assert "exists; choose another name, or write over it with --force" in capsys.readouterr().err
    assert target.stat() == before
    assert run("convert_weights", source, target, "--force") == 0
    assert run("convert_weights", source, source, "--force") == 2
    assert "is the file to be converted" in capsys.readouterr().err
    assert run("convert_weights", source, tmp_path / "b.bin") == 2
    assert "let its name end with .safetensors or .pth" in capsys.readouterr().err
    assert run("convert_weights", tmp_path / "none.pth", tmp_path / "c.pth") == 2
    assert "does not exist" in capsys.readouterr().err
    assert run("convert_weights", source, source / "c.pth") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_help_answers_at_once() -> None:
    tool = Path(fvnet_mm.__file__).parents[1] / "tools" / "convert_weights.py"
    code = f"import runpy, sys; sys.argv = ['x', '--help']; runpy.run_path({str(tool)!r}, run_name='__main__')"
    script = f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert done.stdout.endswith("False\n")


def test_a_file_that_was_converted_is_a_source_too(tmp_path: Path) -> None:
    save_file({"conv": torch.ones(2), "num_batches_tracked": torch.tensor(3)}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    convert(tmp_path / "b.pth", tmp_path / "c.safetensors")
    content = weights_in(read_checkpoint(tmp_path / "c.safetensors"), "c")
    assert content.tensors["num_batches_tracked"] == 3
