"""What a record says of a trunk that its user plugged in: its name, its code, and what of it is not trained."""

import hashlib
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from fvnet_mm import list as listing
from fvnet_mm.backbones import FVNet
from fvnet_mm.data.ade20k_layout import find_ade20k
from fvnet_mm.data.coco_layout import find_coco
from fvnet_mm.engine.run_facts import (
    describe_backbone,
    describe_teacher,
    evaluates_one_size,
    pretraining,
    trunk_settings,
)
from fvnet_mm.engine.tasks import DataSource
from fvnet_mm.engine.trunk_source import source_digest
from fvnet_mm.records import Weights
from fvnet_mm.records.reading import read_record, write_record

CONFIGS = Path(__file__).parents[2] / "configs"

MINE = """
from mmengine.registry import MODELS
from torch import nn

import my_blocks


@MODELS.register_module(force=True)
class MyNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = my_blocks.block(3, width)
        self.stages = nn.ModuleList([my_blocks.block(width, width) for _ in range(3)])

    def forward(self, x):
        outputs = []
        x = self.stem(x)[:, :, ::2, ::2]
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)
"""
BLOCKS = """
from torch import nn


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU())
"""
LEAF = """
_base_ = ["{base}"]
model = dict(backbone=dict(_delete_=True, type="MyNet"), neck=dict(in_channels=[8, 8, 8]))
"""

Leaf = Callable[[str], Path]
PRETRAINED = dict(type="Pretrained", checkpoint="weights.pth", distilled=False)


@pytest.fixture
def leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leaf:
    """Writes a config of RetinaNet with a trunk of the user's own in place of its base's."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "my_net.py").write_text(MINE)
    (code / "my_blocks.py").write_text(BLOCKS)
    monkeypatch.syspath_prepend(code)
    for name in ("my_net", "my_blocks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    __import__("my_net")

    def write(base: str) -> Path:
        path = tmp_path / "retinanet_mine.py"
        path.write_text(LEAF.format(base=CONFIGS / f"{base}.py"))
        return path

    return write


@pytest.mark.parametrize("base", ["retinanet_fvnet_t_coco", "retinanet_mobilenet_v2_coco"])
def test_another_trunk_has_not_its_bases_name_and_weights(base: str, leaf: Leaf) -> None:
    cfg = Config.fromfile(leaf(base))
    assert (cfg.backbone_name, describe_backbone(cfg).name) == (base.removeprefix("retinanet_")[:-5], "MyNet")
    assert listing._initial_weights(cfg) == "none"
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="mine.pth")
    assert listing._initial_weights(cfg) == "origin unknown"


def test_another_model_of_timm_has_its_own_name(tmp_path: Path) -> None:
    description = Config.fromfile(CONFIGS / "_base_/backbones/repvit_m1_1.py")
    cfg = Config(dict(description.to_dict(), model=dict(backbone=description.backbone.to_dict())))
    assert describe_backbone(cfg).name == "repvit_m1_1"
    cfg.model.backbone.model_name = "repvit_m0_9.dist_450e_in1k"
    assert describe_backbone(cfg).name == "repvit_m0_9_dist_450e_in1k"


def test_other_arguments_keep_the_name() -> None:
    cfg = Config.fromfile(CONFIGS / "retinanet_mobilenet_v2_coco.py")
    cfg.merge_from_dict({"model.backbone.norm_eval": True})
    assert describe_backbone(cfg).name == "mobilenet_v2"
    assert listing._initial_weights(cfg) == "plain, 300 epochs"


def test_a_digest_of_the_users_code_alone(leaf: Leaf, tmp_path: Path) -> None:
    cfg = Config.fromfile(leaf("retinanet_fvnet_t_coco"))
    before = describe_backbone(cfg).source_sha256
    assert before is not None
    assert describe_backbone(cfg).source_sha256 == before
    for name in ("my_net.py", "my_blocks.py"):  # which the former takes its blocks from
        file = tmp_path / "code" / name
        code = file.read_text()
        file.write_text(code.replace("ReLU", "Tanh") + "\n")
        assert describe_backbone(cfg).source_sha256 not in (None, before), name
        file.write_text(code)
    assert describe_backbone(cfg).source_sha256 == before
    for kind in ("FVNet", "mmdet.ResNet", "ResNet"):
        cfg.model.backbone = dict(type=kind)
        assert describe_backbone(cfg).source_sha256 is None


def test_no_resuming_with_other_code(
    run: Callable[..., int],
    leaf: Leaf,
    tiny_coco: Path,
    small_run: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [leaf("retinanet_fvnet_t_coco"), "--data", tiny_coco, "--work-dir", tmp_path / "run"]
    assert run("train", *words, *small_run) == 0
    record = read_record(tmp_path / "run" / "run.json")
    assert (record.backbone.name, len(record.backbone.source_sha256)) == ("MyNet", 64)
    assert run("train", *words, "--resume", *small_run) == 0
    blocks = tmp_path / "code" / "my_blocks.py"
    blocks.write_text(blocks.read_text().replace("ReLU", "Tanh"))
    capsys.readouterr()
    assert run("train", *words, "--resume", *small_run) == 2
    assert f"code of the backbone {record.backbone.source_sha256[:8]} then" in capsys.readouterr().err
    # Of an older record nobody knows.
    older = record.model_copy(update=dict(backbone=record.backbone.model_copy(update=dict(source_sha256=None))))
    write_record(older, tmp_path / "run" / "run.json")
    assert run("train", *words, "--resume", *small_run) == 0


class Model(nn.Module):
    """A model that has a trunk and no more."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.backbone = trunk


class Frozen(nn.Module):
    """A trunk of three stages that holds norms in ``train()``, and of which parts may be frozen."""

    def __init__(self, norms_in_eval: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.stages = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(3)))
        self.norms_in_eval = norms_in_eval

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        for module in self.modules():
            if self.norms_in_eval and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def test_norms_that_a_trunk_holds_by_itself() -> None:
    trunk = Frozen(norms_in_eval=True)
    modes = [module.training for module in trunk.modules()]
    assert trunk_settings(Model(trunk)) == dict(norm_eval=True, frozen_stages=-1)
    assert [module.training for module in trunk.modules()] == modes
    assert trunk_settings(Model(Frozen())) == dict(norm_eval=False, frozen_stages=-1)


def test_the_weights_of_a_teacher(tmp_path: Path) -> None:
    file = tmp_path / "teacher.pth"
    file.write_bytes(b"weights")
    student = Model(nn.Identity())
    assert describe_teacher(student) is None
    student.teacher = SimpleNamespace(checkpoint=None)
    assert describe_teacher(student) is None
    student.teacher.checkpoint = str(file)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert describe_teacher(student) == Weights(part="teacher", source=str(file), sha256=digest)


def test_parts_that_a_trunk_freezes_by_itself() -> None:
    trunk = Frozen()
    trunk.stem.requires_grad_(False)
    trunk.stages[0].requires_grad_(False)
    assert trunk_settings(Model(trunk)) == dict(norm_eval=False, frozen_stages="stem, stages.0")
    assert trunk_settings(Model(trunk.requires_grad_(False)))["frozen_stages"] == "all"
    trunk = Frozen()
    trunk.stem.requires_grad_(False)
    trunk.unused_parameters = {"stem.weight", "stem.bias"}  # whatever a library left there
    assert trunk_settings(Model(trunk))["frozen_stages"] == -1
    trunk = Frozen()
    trunk.stem.bias.requires_grad_(False)  # a fixed parameter, no frozen part
    assert trunk_settings(Model(trunk))["frozen_stages"] == -1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (dict(), (False, -1)),
        (dict(frozen_stages=1), (False, 1)),  # whose norms are held, too
        (dict(frozen_stages=1, norm_eval=True), (True, 1)),
        (dict(unit="FixedTauFTFU"), (False, -1)),
    ],
)
def test_trunks_that_say_what_they_freeze(arguments: dict[str, object], expected: tuple[bool, int]) -> None:
    settings = trunk_settings(Model(FVNet("t", **arguments)))
    assert (settings["norm_eval"], settings["frozen_stages"]) == expected


@pytest.mark.parametrize("norm_eval", [True, False])
def test_a_trunk_of_mmdet(norm_eval: bool) -> None:
    import mmdet.models  # noqa: F401

    trunk = MODELS.build(dict(type="mmdet.ResNet", depth=18, frozen_stages=1, norm_eval=norm_eval))
    assert trunk_settings(Model(trunk)) == dict(norm_eval=norm_eval, frozen_stages=1)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"backbone": {"init_cfg": PRETRAINED}}, "plain"),
        ({"backbone": {"backbone_cfg": {"init_cfg": PRETRAINED}}}, "plain"),
        ({"neck": {"init_cfg": PRETRAINED}}, "fine-tuned"),
        ({"init_cfg": PRETRAINED}, "fine-tuned"),
        ({"teacher": {"backbone": {"init_cfg": PRETRAINED}}}, "scratch"),
    ],
)
def test_what_weights_of_a_part_are(changes: dict[str, object], kind: str) -> None:
    assert pretraining(Config(dict(model={"backbone": {"type": "MyNet"}} | changes))) == kind


def test_whether_images_that_are_evaluated_have_one_size(tiny_coco: Path, tiny_ade20k: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_coco, tmp_path / "other")
    assert evaluates_one_size(DataSource("x", find_coco(other), ())) is True
    file = find_coco(other).val.annotation_file
    document = json.loads(file.read_text())
    document["images"][0]["width"] += 1
    file.write_text(json.dumps(document))
    assert evaluates_one_size(DataSource("x", find_coco(other), ())) is False
    assert evaluates_one_size(DataSource("x", find_ade20k(tiny_ade20k), ())) is None


def test_a_library_installed_from_a_clone_is_no_code_of_the_user(leaf: Leaf, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf("retinanet_fvnet_t_coco")
    module = sys.modules["my_net"]
    assert source_digest({"type": module.MyNet}, "mmdet") is not None
    monkeypatch.setattr(module.MyNet, "__module__", "mmdet.my_net")
    monkeypatch.setitem(sys.modules, "mmdet.my_net", module)
    assert source_digest({"type": module.MyNet}, "mmdet") is None


def test_the_code_of_an_installed_package_that_no_version_is_recorded_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "their_trunks"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "blocks.py").write_text("def width():\n    return 8\n")
    (package / "net.py").write_text("from their_trunks.blocks import width\n\n\nclass TheirNet:\n    pass\n")
    monkeypatch.syspath_prepend(package.parent)
    module = importlib.import_module("their_trunks.net")
    before = source_digest({"type": module.TheirNet}, "mmdet")
    assert before is not None
    (package / "blocks.py").write_text("def width():\n    return 9\n")
    assert source_digest({"type": module.TheirNet}, "mmdet") not in (None, before)


@pytest.mark.parametrize(("stages", "recorded"), [((0, 1), -1), ("all", -1), (2, 2)])
def test_stages_that_are_no_number(stages: object, recorded: int) -> None:
    model = Model(nn.Sequential(nn.Conv2d(3, 3, 1)))
    model.backbone.frozen_stages = stages
    assert trunk_settings(model)["frozen_stages"] == recorded
