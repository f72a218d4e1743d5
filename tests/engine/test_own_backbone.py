"""A backbone that its user wrote: plugged in, and refused in a sentence that says where it is wrong."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS as DETECTION_MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from fvnet_mm.engine.config_file import apply_overrides, read_config
from fvnet_mm.engine.runner import build_model
from fvnet_mm.engine.trunk import describe, plug_backbone
from fvnet_mm.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
WIDTHS = (8, 16, 24, 32)
DESCRIPTION = """
custom_imports = dict(imports=["own_net"], allow_failed_imports=False)
backbone_name = "own"
backbone = dict(type="OwnNet", out_indices=(0, 1, 2, 3))
channels = (8, 16, 24, 32)
"""


class Pools(nn.Module):
    """Four maps at strides 4, 8, 16 and 32, each a pooled image with as many channels as wanted."""

    strides = (4, 8, 16, 32)

    def __init__(self, out_indices: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.out_indices = out_indices
        self.widen = nn.ModuleList(nn.Conv2d(3, width, 1) for width in WIDTHS)

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """All four, each of shape (N, C, H, W)."""
        pairs = zip(self.widen, self.strides, strict=True)
        return [widen(nn.functional.avg_pool2d(images, stride)) for widen, stride in pairs]

    def forward(self, images: torch.Tensor) -> object:
        maps = self.maps(images)
        return tuple(maps[index] for index in self.out_indices)


class StrideTwice(Pools):
    strides = (4, 8, 16, 16)


class AllMaps(Pools):
    def forward(self, images: torch.Tensor) -> object:
        return tuple(self.maps(images))


class CoarseFirst(Pools):
    def forward(self, images: torch.Tensor) -> object:
        return super().forward(images)[::-1]


class Named(Pools):
    def forward(self, images: torch.Tensor) -> object:
        return dict(enumerate(super().forward(images)))


class Tokens(Pools):
    def forward(self, images: torch.Tensor) -> object:
        return tuple(each.flatten(2).mT for each in super().forward(images))


class ChannelsLast(Pools):
    def forward(self, images: torch.Tensor) -> object:
        return tuple(each.permute(0, 2, 3, 1) for each in super().forward(images))


class WidthFirst(Pools):
    """As tokens that are laid out by (width, height)."""

    def forward(self, images: torch.Tensor) -> object:
        return tuple(each.mT for each in super().forward(images))


class MultiplesOf64(Pools):
    def forward(self, images: torch.Tensor) -> object:
        assert images.shape[-1] % 64 == 0, "multiples of 64"
        return super().forward(images)


class MultiplesOf32(Pools):
    def forward(self, images: torch.Tensor) -> object:
        assert images.shape[-1] % 32 == 0, "multiples of 32"
        return super().forward(images)


class LevelTooMany(Pools):
    def forward(self, images: torch.Tensor) -> object:
        return self.maps(images)[4]


class FixedSize(Pools):
    def forward(self, images: torch.Tensor) -> object:
        return super().forward(images + torch.zeros(1, 3, 224, 224))


class NoInit(Pools):
    def __init__(self, out_indices: tuple[int, ...] = ()) -> None:
        self.stem = nn.Identity()


def build(trunk: type, framework: str = "retinanet", channels: tuple[int, ...] = WIDTHS) -> nn.Module:
    """Builds a model of the suite with another trunk, as ``--backbone`` puts it in."""
    cfg = Config.fromfile(CONFIGS / f"{framework}_fvnet_s_shapes.py")
    cfg.model.backbone = ConfigDict(type=trunk, out_indices=cfg.levels)
    read = [channels[level] for level in cfg.levels]
    if "neck" in cfg.model:
        cfg.model.neck.in_channels = read
    else:
        cfg.model.decode_head.in_channels, cfg.model.auxiliary_head.in_channels = read, read[2]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return build_model(cfg.model, cfg.levels)


def line_of(text: str) -> str:
    """How a sentence names the line of this file that has this text."""
    lines = Path(__file__).read_text().splitlines()
    return f"({__file__}, line {next(i for i, line in enumerate(lines, 1) if text in line)})"


@pytest.mark.parametrize("framework", ["retinanet", "mask_rcnn", "semantic_fpn", "upernet"])
def test_a_trunk_that_keeps_the_contract(framework: str, capsys: pytest.CaptureFixture[str]) -> None:
    build(Pools, framework)
    assert "strides" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trunk", "words"),
    [
        (
            StrideTwice,
            ["strides 8, 16 and 16", "RetinaHead takes for 8, 16 and 32", "strides of the backbone's stages"],
        ),
        (AllMaps, ["returns 4 maps ([8, 16, 24, 32] channels) for out_indices=(1, 2, 3)"]),
        (CoarseFirst, ["strides 32, 16 and 8", "return the finest first"]),
        (Named, ["returns a dict", "tuple or list of tensors (N, C, H, W)"]),
        (Tokens, ["tensors of shapes (1, 256, 16), (1, 64, 24), (1, 16, 32)", "tensors (N, C, H, W)"]),
        (ChannelsLast, ["returns maps (N, H, W, C), with the channels last", "map.permute(0, 3, 1, 2)"]),
        (WidthFirst, ["map of 20x16 for an image of 128x160 pixels", "height and width are exchanged"]),
        (LevelTooMany, ["blank image of 128x128 pixels", "list index out of range", line_of("self.maps(images)[4]")]),
        (FixedSize, ["blank image of 128x128 pixels", "images of any size", line_of("images + torch.zeros")]),
        (NoInit, ["cannot assign module before Module.__init__() call", line_of("self.stem = nn.Identity()")]),
    ],
)
def test_a_trunk_that_breaks_it(trunk: type, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        build(trunk)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "in_channels=" not in str(caught.value)  # no neck mends it


@pytest.mark.parametrize(("framework", "head"), [("mask_rcnn", "RPNHead"), ("semantic_fpn", "FPNHead")])
def test_strides_that_other_heads_state(framework: str, head: str) -> None:
    with pytest.raises(UserError, match=f"strides 4, 8, 16 and 16, which {head} takes for 4, 8, 16 and 32"):
        build(StrideTwice, framework)


def test_a_head_that_takes_any_strides(capsys: pytest.CaptureFixture[str]) -> None:
    build(StrideTwice, "upernet")
    said = capsys.readouterr()
    assert "maps of strides 4, 8, 16 and 16 where the config's other trunks give 4, 8, 16 and 32" in said.out + said.err
    with pytest.raises(UserError, match="return the finest first"):
        build(CoarseFirst, "upernet", WIDTHS[::-1])


@pytest.mark.parametrize(
    ("trunk", "framework", "width"),
    [
        (MultiplesOf64, "retinanet", 160),  # images are padded to multiples of 32
        (MultiplesOf32, "retinanet", None),
        (MultiplesOf32, "upernet", 161),  # and here they are not
    ],
)
def test_sizes_that_a_test_has_and_a_trunk_does_not_take(
    trunk: type, framework: str, width: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    build(trunk, framework)
    said = capsys.readouterr()
    warned = f"the backbone {trunk.__name__} fails on a blank image of 128x{width} pixels"
    assert (warned in said.out + said.err) is (width is not None)
    assert ("stops at the first such image" in said.out + said.err) is (width is not None)


@pytest.mark.parametrize(
    ("trunk", "channels"),
    [(dict(type=FixedSize, out_indices=(3,)), 32), (dict(type="ResNet", depth=18, in_channels=1), 512)],
)
def test_a_classifier_may_take_one_size_or_grey_images(trunk: dict[str, object], channels: int) -> None:
    head = dict(type="LinearClsHead", in_channels=channels, num_classes=3)
    model = dict(type="ImageClassifier", backbone=trunk, neck=dict(type="GlobalAveragePooling"), head=head)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        build_model(ConfigDict(model))


def test_channels_that_a_description_says_wrongly() -> None:
    sentence = (
        r"gives \[16, 24, 32\] channels but the neck FPN expects \[16, 24, 40\]; correct channels in the backbone's"
    )
    with pytest.raises(UserError, match=sentence):
        build(Pools, channels=(8, 16, 24, 40))


@pytest.fixture
def registered() -> Iterator[Callable[..., None]]:
    """Registers :class:`Pools` under a name until the test ends."""
    added = []

    def add(name: str, registry: object) -> None:
        registry.register_module(name, module=Pools)
        added.append((name, registry))

    yield add
    for name, registry in added:
        registry.module_dict.pop(name)


def test_a_class_of_one_library_alone(registered: Callable[..., None]) -> None:
    registered("OwnNet", DETECTION_MODELS)
    with pytest.raises(UserError, match=r"'OwnNet' .* in mmdet alone: write 'mmdet.OwnNet', or, .* mmengine.registry"):
        build("OwnNet", "upernet")


def test_a_class_that_nothing_imports(registered: Callable[..., None]) -> None:
    registered("OwnNets", MODELS)
    with pytest.raises(UserError, match=r"'OwnNet' that is not registered; .*OwnNets.*; .* custom_imports"):
        build("OwnNet")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A description beside the module of its class; both are found by path alone."""
    (tmp_path / "own.py").write_text(DESCRIPTION)
    (tmp_path / "own_net.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "own.py"
    sys.modules.pop("own_net", None)


def test_what_a_run_writes_imports_the_class(own: Path) -> None:
    sys.path.append(str(own.parent))
    cfg = read_config(CONFIGS / "retinanet_fvnet_s_coco.py", "config")
    cfg.config_name = "retinanet_fvnet_s_coco"
    plug_backbone(cfg, str(own))
    assert cfg.config_name == "retinanet_own_coco"
    assert cfg.weights is None
    cfg.dump(own.parent / "dumped.py")
    del sys.modules["own_net"]
    again = Config.fromfile(own.parent / "dumped.py")  # as DetInferencer does
    assert again.custom_imports.imports == ["fvnet_mm.backbones", "fvnet_mm.engine", "own_net"]
    assert "own_net" in sys.modules


def test_a_module_that_python_does_not_find(own: Path) -> None:
    sentence = rf"own.py: custom_imports names 'own_net'.*\(PYTHONPATH={own.parent} before the command\)"
    with pytest.raises(UserError, match=sentence):
        describe(str(own))
    own.write_text(DESCRIPTION.replace("own_net", "no_such_net"))
    with pytest.raises(UserError, match=r"'no_such_net'.*PYTHONPATH=FOLDER"):
        describe(str(own))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library' (FILE, line 1)"),
        ("x = 1\ny = x.z", "AttributeError: 'int' object has no attribute 'z' (FILE, line 2)"),
        ("x = (", "SyntaxError: '(' was never closed (FILE, line 1)"),
    ],
)
def test_a_module_that_fails(code: str, words: str, own: Path) -> None:
    sys.path.append(str(own.parent))
    file = own.with_name("own_net.py")
    file.write_text(code)
    with pytest.raises(UserError) as caught:
        describe(str(own))
    assert f"'own_net' of custom_imports cannot be imported: {words.replace('FILE', str(file))}" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("channels =", "widths =", "lacks channels"),
        ("(8, 16, 24, 32)", "(8, 16, 24)", "must be four numbers"),
        ('dict(type="OwnNet", out_indices=(0, 1, 2, 3))', '"OwnNet"', "must be dict(type='CLASS', ...)"),
        (
            'dict(imports=["own_net"], allow_failed_imports=False)',
            '["own_net"]',
            "must be dict(imports=['MODULE', ...])",
        ),
        (DESCRIPTION.splitlines()[1], "import own_net", "other dialect of configs"),
        (DESCRIPTION.splitlines()[1], "from own_net import OwnNet", "other dialect of configs"),
    ],
)
def test_a_description_that_is_not_right(old: str, new: str, words: str, own: Path) -> None:
    sys.path.append(str(own.parent))
    assert old in DESCRIPTION
    own.write_text(DESCRIPTION.replace(old, new))
    with pytest.raises(UserError) as caught:
        describe(str(own))
    assert str(own) in str(caught.value)
    assert words in str(caught.value)


def test_a_description_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.py does not exist; .*list --backbones`"):
        describe(str(tmp_path / "none.py"))


def test_the_code_of_a_backbone_is_no_description() -> None:
    with pytest.raises(UserError, match=r"mynet.py is code .*MyNet.*--backbone takes the description"):
        describe(str(CONFIGS.parent / "docs" / "own_backbone" / "mynet.py"))


def test_imports_of_the_command_line(own: Path) -> None:
    sys.path.append(str(own.parent))
    cfg = read_config(CONFIGS / "retinanet_fvnet_s_coco.py", "config")
    apply_overrides(cfg, ["custom_imports.imports=[fvnet_mm.engine,own_net]"])
    assert "own_net" in sys.modules
    with pytest.raises(UserError, match=r"--cfg-options custom_imports: .*'no_such_net', which Python does not find"):
        apply_overrides(cfg, ["custom_imports.imports=[no_such_net]"])
