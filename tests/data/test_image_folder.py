import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image

from fvnet_mm.data.image_folder import find_bad_images, find_image_folder, list_images, without_images
from fvnet_mm.errors import UserError

NAMES = ("b/2.jpg", "b/10.JPG", "b/deep/er/1.png", "a b/x.jpeg", "a b/y.bmp", "Z/1.tif", "Z/white space.ppm")
"""Images of three classes, in no order."""


def save(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound data set of the classes 'Z', 'a b' and 'b'."""
    for name in NAMES:
        save(tmp_path / "data" / "train" / name)
    for name in ("b/1.jpg", "a b/1.jpg", "Z/1.jpg"):
        save(tmp_path / "data" / "val" / name)
    return tmp_path / "data"


def read_by_mmpretrain(folder: Path, **settings: object) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    dataset = CustomDataset(data_prefix=str(folder), **settings)
    images = [(os.path.relpath(entry["img_path"], folder), entry["gt_label"]) for entry in dataset]
    return dataset.metainfo.get("classes"), images


def test_classes_and_images_are_those_of_mmpretrain(root: Path):
    for name in ("README", "b/notes.txt", "b/._2.jpg", "a b/deep/picture.webp", "loose.jpg"):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).write_bytes(b"no image")
    folder = find_image_folder(root)
    for split in (folder.train, folder.val):
        assert (folder.classes, list(list_images(split))) == read_by_mmpretrain(split.image_dir)
    assert folder.classes == ("Z", "a b", "b")
    assert (folder.train.class_counts, folder.train.image_count) == ((2, 2, 3), len(NAMES))
    assert folder.train.ignored_files == 4  # hidden files are the system's
    assert folder.val.class_counts == (1, 1, 1)


def test_a_test_needs_no_training_images(root: Path):
    shutil.rmtree(root / "train")
    folder = find_image_folder(root, ("val",))
    assert folder.train is None
    assert folder.val.image_count == 3


def test_a_link_that_leads_back_is_named(root: Path):
    (root / "train" / "b" / "again").symlink_to(".")
    with pytest.raises(UserError, match=r"train cannot be listed: .*, at \S*/train/b/again/again; make"):
        find_image_folder(root)


def test_sound_images_pass(root: Path):
    folder = find_image_folder(root)
    assert find_bad_images(folder.train) == find_bad_images(folder.val) == []


def test_bad_images_are_found_and_left_out(root: Path, tmp_path: Path):
    file = root / "train" / "b" / "10.JPG"
    file.write_bytes(file.read_bytes()[:300])
    (root / "train" / "Z" / "1.tif").write_bytes(b"")
    split = find_image_folder(root).train
    calls: list[tuple[int, int]] = []
    bad = find_bad_images(split, lambda done, total: calls.append((done, total)))
    assert [image.name for image in bad] == ["Z/1.tif", "b/10.JPG"]
    assert all(image.reason for image in bad)
    assert calls == [(7, 7)]

    good = without_images(split, bad, tmp_path / "good.txt")
    assert good.class_counts == (1, 2, 2)
    kept = [entry for entry in list_images(split) if entry[0] not in ("Z/1.tif", "b/10.JPG")]
    assert read_by_mmpretrain(root / "train", ann_file=str(good.annotation_file))[1] == kept


def test_a_class_is_not_left_without_images(root: Path, tmp_path: Path):
    (root / "train" / "a b" / "y.bmp").unlink()
    (root / "train" / "a b" / "x.jpeg").write_bytes(b"")
    split = find_image_folder(root).train
    with pytest.raises(UserError, match="the classes 'a b' have no images left"):
        without_images(split, find_bad_images(split), tmp_path / "good.txt")
    assert not (tmp_path / "good.txt").exists()


@pytest.mark.parametrize("name", ["b/line\nbreak.jpg", "b/line\rbreak.jpg", "b/\udcff.jpg"])
def test_names_that_no_list_can_hold(root: Path, tmp_path: Path, name: str):
    save(root / "train" / "b" / "sound.png")
    (root / "train" / "b" / "sound.png").rename(root / "train" / name)
    split = find_image_folder(root).train
    with pytest.raises(UserError, match="cannot stand in a list of images"):
        without_images(split, [], tmp_path / "good.txt")


def flat_val(root: Path) -> None:
    shutil.rmtree(root / "val")
    for number in range(1, 4):
        save(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")


def archives(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").mkdir()
    for name in ("n01440764.tar", "n01443537.tar"):
        (root / "train" / name).write_bytes(b"")


def empty_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "cow").mkdir()
    (root / "train" / "cow" / "1.webp").write_bytes(b"")


def hidden_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / ".ipynb_checkpoints").mkdir()


def nested(root: Path) -> None:
    (root / "train").rename(root / "classes")
    (root / "train").mkdir()
    (root / "classes").rename(root / "train" / "classes")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shutil.rmtree, r"data does not exist; it is to hold train/CLASS/\*\.jpg"),
        (lambda root: shutil.rmtree(root / "val"), r"data has no folder 'val' \(its folders are 'train'\)"),
        (flat_val, r"val holds 3 images and no class folders; .* valprep\.sh"),
        (archives, r"train holds 2 \.tar archives and no class folders; unpack each into a folder of its name"),
        (lambda root: [shutil.rmtree(root / "val"), (root / "val").mkdir()], "val has no class folders; "),
        (lambda root: shutil.rmtree(root / "val" / "b"), r"differ \('b' only in train\)"),
        (lambda root: (root / "val" / "b").rename(root / "val" / "B"), r"\('b' only in train, 'B' only in val\)"),
        (empty_class, r"1 of 4 class folders of .*train hold no images \('cow'\); .* \.jpg, "),
        (hidden_class, r"hidden folders \('\.ipynb_checkpoints'\)"),
        (nested, r"train has a single class folder, 'classes'"),
    ],
)
def test_mistakes(root: Path, change: Callable[[Path], object], sentence: str):
    change(root)
    with pytest.raises(UserError) as caught:
        find_image_folder(root)
    assert re.search(sentence, str(caught.value)), caught.value
    assert str(root) in str(caught.value)


def test_folders_are_named_as_they_are(root: Path):
    (root / "val").rename(root / "test")
    shutil.rmtree(root / "test" / "b")
    with pytest.raises(UserError, match=rf"{root}/train and {root}/test differ \('b' only in train\)"):
        find_image_folder(root, folders={"val": "test"})


def test_a_class_may_lack_validation_images(root: Path):
    (root / "val" / "b" / "1.jpg").unlink()
    assert find_image_folder(root).val.class_counts == (1, 1, 0)
    shutil.rmtree(root / "train")
    for file in (root / "val").glob("*/*"):
        file.unlink()
    with pytest.raises(UserError, match=r"3 of 3 class folders of .*val hold no images"):
        find_image_folder(root, ("val",))
