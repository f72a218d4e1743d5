"""Data that a config names itself: what is checked and recorded is what the libraries' data sets will read."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from fvnet_mm.cli import tool_parser
from fvnet_mm.data.ade20k_check import check_pairs
from fvnet_mm.data.fingerprint import fingerprint
from fvnet_mm.data.image_folder import find_image_folder, list_images
from fvnet_mm.engine.config import load_config
from fvnet_mm.engine.data_source import select_data
from fvnet_mm.engine.tasks import task_of
from fvnet_mm.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
BOTH = ("train", "val")
THREE = ("car", "dog", "person")


def built(cfg: Config, name: str) -> object:
    """The library's own data set."""
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg[f"{name}_dataloader"].dataset)


def detector(root: Path, classes: object = None) -> Config:
    cfg = Config.fromfile(CONFIGS / "retinanet_fvnet_t_coco.py")
    for name in BOTH:
        cfg[f"{name}_dataloader"].dataset.data_root = str(root)
        if classes is not None:
            cfg[f"{name}_dataloader"].dataset.metainfo = dict(classes=classes)
            cfg.model.bbox_head.num_classes = len(classes)
    return cfg


@pytest.fixture
def three_classes(tiny_coco: Path, tmp_path: Path) -> Path:
    """Objects of 'car', 'dog' and 'person', in this order."""
    root = Path(shutil.copytree(tiny_coco, tmp_path / "three"))
    for file in (root / "annotations").glob("*.json"):
        document = json.loads(file.read_text())
        document["categories"] = [dict(id=number, name=name) for number, name in enumerate(THREE, 1)]
        for place, annotation in enumerate(document["annotations"]):
            annotation["category_id"] = 1 + place % 3
        file.write_text(json.dumps(document))
    return root


def test_cocos_own_classes(tiny_coco: Path) -> None:
    cfg = detector(tiny_coco)
    folder = task_of(cfg).configured(cfg, BOTH)
    assert folder.classes == built(cfg, "train").metainfo["classes"]
    assert len(folder.classes) == 80


@pytest.mark.parametrize("classes", [THREE, ["car", "person"], ("dog",)])
def test_classes_that_metainfo_names(classes: tuple[str, ...], three_classes: Path) -> None:
    """All of a file's or some, in its order: mmdet gives the labels in the order of the file."""
    cfg = detector(three_classes, classes)
    folder = task_of(cfg).configured(cfg, BOTH)
    data = built(cfg, "train")
    assert folder.classes == tuple(THREE[key - 1] for key in data.cat2label)
    assert list(data.cat2label.values()) == list(range(len(classes)))


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (
            None,
            r"classes of CocoDataset, which no metainfo .*/instances_train2017.json \('bicycle', .* only in CocoDat",
        ),
        (("person", "dog", "car"), "another order exchanges the labels"),
        (("person", "car"), "another order exchanges the labels"),
        (("car", "Dog", "person"), r"classes of metainfo of train_dataloader .*'Dog' only in metainfo"),
        ("car", r"is the text 'car', not a list of names; write classes=\['car'\]"),
    ],
)
def test_other_classes_than_the_files(classes: object, sentence: str, three_classes: Path) -> None:
    cfg = detector(three_classes, classes)
    with pytest.raises(UserError, match=sentence):
        task_of(cfg).configured(cfg, BOTH)


def test_training_and_evaluation_have_the_same_classes(three_classes: Path) -> None:
    cfg = detector(three_classes, THREE)
    cfg.train_dataloader.dataset.metainfo.classes = THREE[:2]
    with pytest.raises(UserError, match=r"training and evaluation have other classes .'person' only in val"):
        task_of(cfg).configured(cfg, BOTH)
    file = three_classes / "annotations" / "instances_val2017.json"
    document = json.loads(file.read_text())
    document["categories"].reverse()
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"metainfo of val_dataloader .*another order"):
        task_of(cfg).configured(cfg, BOTH)


@pytest.mark.parametrize("place", ["bbox_head", "roi_head.mask_head"])
def test_heads_have_as_many(place: str, three_classes: Path) -> None:
    cfg = detector(three_classes, THREE)
    cfg.model.roi_head = dict(bbox_head=[dict(num_classes=3)] * 3, mask_head=dict(num_classes=3))
    cfg.model.rpn_head = dict(num_classes=1)
    task_of(cfg).configured(cfg, BOTH)
    cfg.merge_from_dict({f"model.{place}.num_classes": 80})
    with pytest.raises(UserError, match=rf"model.{place}.num_classes is 80, and the data set has 3 classes"):
        task_of(cfg).configured(cfg, BOTH)


def segmentor(root: Path) -> Config:
    cfg = Config.fromfile(CONFIGS / "semantic_fpn_fvnet_t_ade20k.py")
    for name in BOTH:
        cfg[f"{name}_dataloader"].dataset.data_root = str(root)
    return cfg


def name_classes(cfg: Config, classes: object, **arguments: object) -> Config:
    for name in BOTH:
        cfg[f"{name}_dataloader"].dataset |= dict(type="BaseSegDataset", metainfo=dict(classes=classes), **arguments)
    cfg.model.decode_head.num_classes = len(classes)
    return cfg


def test_a_list_of_classes_that_the_config_does_not_know(tiny_ade20k: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_ade20k, tmp_path / "own"))
    (root / "classes.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"classes of ADE20KDataset, .*/classes.txt \('wall', .* only in ADE20KDataset"):
        task_of(segmentor(root)).configured(segmentor(root), BOTH)
    cfg = name_classes(segmentor(root), ("a", "b"))
    assert task_of(cfg).configured(cfg, BOTH).classes == ("a", "b")
    with pytest.raises(UserError, match="another order exchanges the labels"):
        task_of(cfg).configured(name_classes(cfg, ("b", "a")), BOTH)
    cfg = name_classes(segmentor(root), ("a", "b"))
    cfg.model.decode_head.num_classes = 150
    with pytest.raises(UserError, match=r"model.decode_head.num_classes is 150, and the data set has 2"):
        task_of(cfg).configured(cfg, BOTH)


def test_names_that_end_otherwise(tiny_ade20k: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_ade20k, tmp_path / "own"))
    (root / "classes.txt").unlink(missing_ok=True)
    for file in (root / "images").rglob("*.jpg"):
        cv2.imwrite(str(file.with_suffix(".png")), cv2.imread(str(file)))
        file.unlink()
    cfg = name_classes(segmentor(root), ("a",))
    with pytest.raises(UserError, match=r"train_dataloader's data set reads .* in \.jpg, .*img_suffix='.png'"):
        task_of(cfg).configured(cfg, BOTH)
    name_classes(cfg, ("a",), img_suffix=".png")
    assert task_of(cfg).configured(cfg, BOTH).train.image_count == len(built(cfg, "train")) == 8


def test_labels_from_0(tiny_ade20k: Path, tmp_path: Path) -> None:
    """Without ``reduce_zero_label`` 0 is the first class, as in mmseg's data set."""
    root = Path(shutil.copytree(tiny_ade20k, tmp_path / "own"))
    (root / "classes.txt").unlink(missing_ok=True)
    for file in (root / "annotations").rglob("*.png"):
        cv2.imwrite(str(file), (np.arange(64 * 64).reshape(64, 64) % 3 % 2 * 1).astype(np.uint8))
    for reduced, labelled, absent in ((False, 1.0, ()), (True, 1365 / 4096, ("object",))):
        cfg = name_classes(segmentor(root), ("ground", "object"), reduce_zero_label=reduced)
        task = task_of(cfg)
        folder = task.configured(cfg, BOTH)
        assert check_pairs(folder.train, folder.classes) == (pytest.approx(labelled, abs=1e-3), absent)
        assert bool(task.check(cfg, "own", folder, False).warnings) == bool(absent)
        task.use(cfg, folder)
        assert cfg.train_dataloader.dataset.reduce_zero_label is reduced
    file = next((root / "annotations" / "training").glob("*.png"))
    cv2.imwrite(str(file), np.full((64, 64), 2, np.uint8))
    cfg = name_classes(segmentor(root), ("ground", "object"), reduce_zero_label=False)
    folder = task_of(cfg).configured(cfg, BOTH)
    with pytest.raises(UserError, match=r"2 classes have the labels 0 to 1, beside 255 \(ignored\)"):
        check_pairs(folder.train, folder.classes)


def classifier(root: Path, **arguments: object) -> Config:
    cfg = Config.fromfile(CONFIGS / "fvnet_t_in1k.py")
    for name in BOTH:
        cfg[f"{name}_dataloader"].dataset.data_root = str(root)
    cfg.train_dataloader.dataset |= dict(type="CustomDataset", with_label=True) | arguments
    cfg.train_dataloader.dataset.pop("split", None)
    return cfg


@pytest.fixture
def classes(tiny_classes: Path, tmp_path: Path) -> Path:
    """Class folders with two images of each class for training."""
    root = Path(shutil.copytree(tiny_classes, tmp_path / "classes"))
    for file in list((root / "train").rglob("*.*")):
        shutil.copy(file, file.with_stem(f"{file.stem}_again"))
    return root


def test_training_images_in_a_folder_of_another_name(classes: Path) -> None:
    shutil.copytree(classes / "val", classes / "train_small")
    cfg = classifier(classes, data_prefix="train_small")
    train = task_of(cfg).configured(cfg, BOTH).train
    assert train.image_dir == classes / "train_small"
    assert train.image_count == len(built(cfg, "train")) == 12


@pytest.mark.parametrize("usual", [False, True])
def test_a_list_of_training_images(usual: bool, classes: Path) -> None:
    """One that the config names, or that mmpretrain's ImageNet finds in ``meta``."""
    whole = find_image_folder(classes).train
    chosen = list(list_images(whole))[::2]
    file = classes / "meta" / ("train.txt" if usual else "half.txt")
    file.parent.mkdir()
    file.write_text("".join(f"{name} {label}\n" for name, label in chosen))
    cfg = classifier(classes, data_prefix="train", ann_file="meta/half.txt")
    if usual:
        cfg.train_dataloader.dataset = dict(type="ImageNet", data_root=str(classes), split="train", pipeline=[])
    train = task_of(cfg).configured(cfg, BOTH).train
    data = built(cfg, "train")
    labels = [data.get_data_info(index)["gt_label"] for index in range(len(data))]
    assert Counter(labels) == dict(enumerate(train.class_counts))
    assert train.image_count == len(data) == len(chosen) == whole.image_count // 2
    assert list(list_images(train)) == chosen
    assert fingerprint(train) != fingerprint(whole)
    file.write_text("".join(f"{name} {label}\n" for name, label in list_images(whole)))
    assert fingerprint(task_of(cfg).configured(cfg, BOTH).train) == fingerprint(whole)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda line: line.replace(" 0", " 1"), r"half.txt, line 1: .* its place in their sorted order"),
        (lambda line: "no_class/image.jpg 0\n", "half.txt, line 1: 'no_class/image.jpg 0'"),
        (lambda line: line.partition(" ")[0], "half.txt, line 1"),
        (lambda line: "", "half.txt lists no image"),
        (lambda line: line, "11 of 12 class folders .* hold no images"),
    ],
)
def test_a_list_that_says_something_else(change: Callable[[str], str], sentence: str, classes: Path) -> None:
    name, label = next(list_images(find_image_folder(classes).train))
    (classes / "half.txt").write_text(change(f"{name} {label}\n"))
    cfg = classifier(classes, data_prefix="train", ann_file="half.txt")
    with pytest.raises(UserError, match=sentence):
        task_of(cfg).configured(cfg, BOTH)


def test_lists_that_are_not_there_and_images_in_two_places(classes: Path, tmp_path: Path) -> None:
    cfg = classifier(classes, data_prefix="train", ann_file="no.txt")
    with pytest.raises(UserError, match=r"no.txt, which lists the images .* cannot be read"):
        task_of(cfg).configured(cfg, BOTH)
    elsewhere = Path(shutil.copytree(classes, tmp_path / "elsewhere"))
    cfg = classifier(elsewhere, data_prefix="train")
    cfg.val_dataloader.dataset.data_root = str(classes)
    with pytest.raises(UserError, match=f"are in {elsewhere} and {classes}; put both into one folder"):
        task_of(cfg).configured(cfg, BOTH)


@pytest.mark.parametrize(("framework", "names"), [("mask_rcnn", BOTH), ("mask_rcnn", ("val",)), ("retinanet", ())])
def test_a_mask_ap_of_boxes_is_warned_of(
    framework: str, names: tuple[str, ...], tiny_coco: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tiny_coco, tmp_path / "boxes"))
    for name in names or BOTH:
        file = root / "annotations" / f"instances_{name}2017.json"
        document = json.loads(file.read_text())
        for annotation in document["annotations"]:
            x, y, width, height = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        file.write_text(json.dumps(document))
    arguments = tool_parser("").parse_args(
        [str(CONFIGS / f"{framework}_fvnet_t_coco.py"), "--data", str(root), "--work-dir", str(tmp_path / "work")]
    )
    cfg = load_config(arguments)
    warnings = [each for each in select_data(cfg, arguments).warnings if "its mask AP is none of masks" in each]
    assert [name for name in BOTH for each in warnings if f"instances_{name}2017.json is the rectangle" in each] == [
        *names
    ]
