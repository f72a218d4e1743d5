from pathlib import Path

import cv2
import numpy as np
import pytest

from fvnet_mm.data.class_shapes import CLASSES, SETTINGS_FILE, draw_class_image, write_class_shapes
from fvnet_mm.data.image_folder import find_image_folder, list_images
from fvnet_mm.data.kinds import KINDS
from fvnet_mm.errors import UserError

SIZE = (64, 48)
TRAIN, VAL = 26, 12


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_shapes(tmp_path_factory.mktemp("shapes") / "set", TRAIN, VAL, SIZE)


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_layout_is_imagenets(root: Path):
    folder = find_image_folder(root)
    assert folder.classes == tuple(sorted(CLASSES))
    assert sum(folder.train.class_counts) == TRAIN
    assert folder.val.class_counts == (1,) * len(KINDS)
    assert folder.train.ignored_files == folder.val.ignored_files == 0
    assert files(root).keys() == {
        SETTINGS_FILE,
        *(f"{split.name}/{name}" for split in (folder.train, folder.val) for name, _ in list_images(split)),
    }


def test_files_hold_what_was_drawn(root: Path):
    for split, count in (("train", TRAIN), ("val", VAL)):
        for index in range(count):
            image, label = draw_class_image(split, index, SIZE)
            pixels = cv2.imread(str(root / split / CLASSES[label] / f"{index:06d}.jpg"))[..., ::-1]
            assert pixels.shape == image.shape == (SIZE[1], SIZE[0], 3)
            assert np.abs(pixels.astype(int) - image).mean() < 8  # JPEG's loss


def test_a_folder_holds_objects_of_its_class():
    """An image's colours, which differ from kind to kind, tell its class to a linear classifier fitted to others."""

    def colours(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = [draw_class_image(split, index, (96, 96)) for index in range(count)]
        histograms = [cv2.calcHist([image], [0, 1, 2], None, [6] * 3, [0, 256] * 3).ravel() for image, _ in drawn]
        return np.sqrt(histograms), np.array([label for _, label in drawn])

    features, labels = colours("train", 240)
    gram = features @ features.T
    fitted = features.T @ np.linalg.solve(gram + 0.01 * np.trace(gram) / 240 * np.eye(240), np.eye(len(KINDS))[labels])
    features, labels = colours("val", 96)
    assert ((features @ fitted).argmax(axis=1) == labels).mean() > 0.7


def test_same_settings_give_the_same_bytes(root: Path, tmp_path: Path):
    assert files(write_class_shapes(tmp_path / "again", TRAIN, VAL, SIZE)) == files(root)


def test_smaller_set_is_the_beginning_of_a_larger_one(root: Path, tmp_path: Path):
    small, large = files(write_class_shapes(tmp_path / "small", 12, 12, SIZE)), files(root)
    assert all(large[name] == content for name, content in small.items() if name.endswith(".jpg"))


def test_split_and_index_change_the_images():
    pictures = [draw_class_image(split, index, SIZE)[0] for split in ("train", "val") for index in (0, len(KINDS))]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_complete_set_is_kept_and_any_other_made_again(root: Path, tmp_path: Path):
    mine = write_class_shapes(tmp_path / "set", 12, 12, SIZE)
    mark = next((mine / "train").glob("*/*.jpg"))
    mark.write_bytes(b"kept")
    write_class_shapes(mine, 12, 12, SIZE)
    assert mark.read_bytes() == b"kept"
    mark.unlink()
    write_class_shapes(mine, 12, 12, SIZE)
    assert mark.read_bytes() != b"kept"
    assert files(write_class_shapes(mine, TRAIN, VAL, SIZE)) == files(root)


def test_foreign_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="is no generated data set"):
        write_class_shapes(tmp_path, 12, 12, SIZE)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("wrong", [(11, 12, (64, 64)), (12, 11, (64, 64)), (12, 12, (64, 16))])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: tuple[int, int, tuple[int, int]]):
    with pytest.raises(ValueError, match="a split needs at least 12, an image 32 pixels a side"):
        write_class_shapes(tmp_path / "set", *wrong)
