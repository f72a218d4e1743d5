from pathlib import Path

import cv2
import numpy as np
import pytest

from fvnet_mm.data.ade20k_check import check_pairs, find_bad_pairs
from fvnet_mm.data.ade20k_layout import find_ade20k
from fvnet_mm.data.classes import ADE20K_CLASSES
from fvnet_mm.data.grounds import GROUNDS
from fvnet_mm.data.kinds import KINDS
from fvnet_mm.data.semantic_shapes import (
    SCENES,
    SETTINGS_FILE,
    THINGS,
    draw_semantic_image,
    write_ade20k_shapes,
)
from fvnet_mm.errors import UserError

SIZE = (128, 96)
TRAIN, VAL = 5, 3
DRAWN = {*GROUNDS, *filter(None, THINGS.values())}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ade20k_shapes(tmp_path_factory.mktemp("shapes") / "ade", TRAIN, VAL, SIZE)


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_layout_is_ade20ks(root: Path):
    names = {
        f"{part}/{folder}/ADE_{split}_{number:08d}{suffix}"
        for part, suffix in (("images", ".jpg"), ("annotations", ".png"))
        for split, folder, count in (("train", "training", TRAIN), ("val", "validation", VAL))
        for number in range(1, count + 1)
    }
    assert files(root).keys() == names | {"objectInfo150.txt", "sceneCategories.txt", SETTINGS_FILE}


def test_it_passes_our_own_checks(root: Path):
    folder = find_ade20k(root)
    assert folder.classes == ADE20K_CLASSES
    for split, count in ((folder.train, TRAIN), (folder.val, VAL)):
        assert split.image_count == count
        assert find_bad_pairs(split) == []
        check_pairs(split, folder.classes)


@pytest.mark.parametrize(("split", "index"), [("train", TRAIN - 1), ("val", VAL - 1)])
def test_mmseg_reads_what_was_drawn(root: Path, split: str, index: int):
    """Also that 0 is what ``reduce_zero_label`` makes the ignored index, and label k the class k - 1."""
    from mmseg.datasets import ADE20KDataset
    from mmseg.datasets.transforms import LoadAnnotations

    folder = {"train": "training", "val": "validation"}[split]
    dataset = ADE20KDataset(
        data_root=str(root),
        data_prefix={"img_path": f"images/{folder}", "seg_map_path": f"annotations/{folder}"},
        pipeline=[{"type": "LoadImageFromFile"}, LoadAnnotations()],
    )
    item, scene = dataset[index], draw_semantic_image(split, index, SIZE)
    assert len(dataset) == index + 1
    assert np.abs(item["img"][..., ::-1].astype(int) - scene.image).mean() < 8  # JPEG's loss
    expected = np.where(scene.labels == 0, 255, scene.labels.astype(int) - 1)
    np.testing.assert_array_equal(item["gt_seg_map"], expected)
    classes = dataset.metainfo["classes"]
    assert {classes[label] for label in np.unique(expected) if label != 255} <= DRAWN


def test_tables_say_what_is_in_the_label_maps(root: Path):
    header, *rows = [row.split("\t") for row in (root / "objectInfo150.txt").read_text().splitlines()]
    assert header == ["Idx", "Ratio", "Train", "Val", "Stuff", "Name"]
    assert [(int(row[0]), row[5]) for row in rows] == list(enumerate(ADE20K_CLASSES, 1))
    maps = {
        split: np.stack([cv2.imread(str(file), -1) for file in (root / "annotations" / folder).iterdir()])
        for split, folder in (("Train", "training"), ("Val", "validation"))
    }
    pixels = np.concatenate([labels.ravel() for labels in maps.values()])
    for label, row in enumerate(rows, 1):
        assert float(row[1]) == pytest.approx((pixels == label).mean(), abs=1e-4)
        assert [int(row[2]), int(row[3])] == [(labels == label).any((1, 2)).sum() for labels in maps.values()]
        assert row[4] == str(int(row[5] in GROUNDS))
    scenes = [line.split() for line in (root / "sceneCategories.txt").read_text().splitlines()]
    assert [stem for stem, _ in scenes] == sorted(file.stem for file in (root / "images").rglob("*.jpg"))
    assert {category for _, category in scenes} <= SCENES.keys()


def test_names_are_those_of_kinds_grounds_and_ade20k():
    assert THINGS.keys() <= {kind.name for kind in KINDS}
    assert {name for grounds in SCENES.values() for name in grounds} == GROUNDS.keys()
    assert set(ADE20K_CLASSES) >= DRAWN


def test_every_class_occurs_and_part_of_each_image_is_not_labelled():
    labels = np.stack([draw_semantic_image("train", index, (160, 160)).labels for index in range(48)])
    present = {ADE20K_CLASSES[label - 1] for label in np.unique(labels) if label}
    assert present == DRAWN
    unlabelled = (labels == 0).mean((1, 2))
    assert unlabelled.min() > 0
    assert unlabelled.mean() < 0.25


def test_classes_can_be_told_by_their_looks():
    """A nearest mean colour, of 8x8 blocks and from other images, beats chance by far."""

    def blocks(split: str) -> tuple[np.ndarray, np.ndarray]:
        colours, labels = [], []
        for index in range(40):
            scene = draw_semantic_image(split, index, (160, 160))
            centre = scene.labels[4::8, 4::8]
            colours.append(cv2.resize(scene.image, centre.shape[::-1], interpolation=cv2.INTER_AREA)[centre > 0])
            labels.append(centre[centre > 0])
        return np.concatenate(colours).astype(float), np.concatenate(labels)

    (colours, labels), (other_colours, other_labels) = blocks("train"), blocks("val")
    means = np.stack([colours[labels == label].mean(0) for label in np.unique(labels)])
    guesses = np.unique(labels)[((other_colours[:, None] - means) ** 2).sum(-1).argmin(1)]
    assert (guesses == other_labels).mean() > 0.5


def test_same_settings_give_the_same_bytes(root: Path, tmp_path: Path):
    assert files(write_ade20k_shapes(tmp_path / "again", TRAIN, VAL, SIZE)) == files(root)


def test_smaller_set_is_the_beginning_of_a_larger_one(root: Path, tmp_path: Path):
    small = files(write_ade20k_shapes(tmp_path / "small", 2, 1, SIZE))
    large = files(root)
    pictures = [name for name in small if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 6
    assert all(large[name] == small[name] for name in pictures)


def test_split_and_index_change_the_images():
    pictures = [draw_semantic_image(split, index, SIZE).image for split in ("train", "val") for index in (0, 1)]
    assert len({picture.tobytes() for picture in pictures}) == 4


@pytest.mark.parametrize("size", [(32, 32), (200, 48), (33, 190)])
def test_any_size_is_drawn(size: tuple[int, int]):
    for index in range(10):
        scene = draw_semantic_image("train", index, size)
        assert scene.image.shape == (size[1], size[0], 3)
        assert scene.labels.shape == (size[1], size[0])
        assert scene.labels.dtype == scene.image.dtype == np.uint8


@pytest.mark.parametrize(
    "lost", ["images/training/ADE_train_00000001.jpg", "annotations/validation/ADE_val_00000001.png"]
)
def test_incomplete_set_is_made_again(tmp_path: Path, lost: str):
    root = write_ade20k_shapes(tmp_path / "ade", 1, 1, (32, 32))
    before = files(root)
    (root / lost).unlink()
    assert files(write_ade20k_shapes(root, 1, 1, (32, 32))) == before
    assert [file.name for file in tmp_path.iterdir()] == ["ade"]


def test_complete_set_is_kept_and_other_settings_replace_it(tmp_path: Path):
    root = write_ade20k_shapes(tmp_path / "ade", 2, 1, (32, 32))
    mark = root / "images" / "training" / "ADE_train_00000002.jpg"
    mark.write_bytes(b"kept")
    write_ade20k_shapes(root, 2, 1, (32, 32))
    assert mark.read_bytes() == b"kept"
    write_ade20k_shapes(root, 1, 1, (32, 32))
    assert not mark.exists()


def test_foreign_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="is no generated data set"):
        write_ade20k_shapes(tmp_path, 1, 1, SIZE)
    assert files(tmp_path) == {"holiday.jpg": b"mine"}


@pytest.mark.parametrize("wrong", [(0, 1, SIZE), (1, 0, SIZE), (1, 1, (64, 16))])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: tuple[int, int, tuple[int, int]]):
    with pytest.raises(ValueError, match="a split needs at least 1, an image 32 pixels a side"):
        write_ade20k_shapes(tmp_path / "ade", *wrong)
