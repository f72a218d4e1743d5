import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from fvnet_mm.data.classes import COCO_CATEGORIES
from fvnet_mm.data.kinds import KINDS
from fvnet_mm.data.shapes import CATEGORIES, SETTINGS_FILE, draw_shapes_image, mask_to_polygons, write_coco_shapes
from fvnet_mm.errors import UserError

SIZE = (128, 96)
TRAIN, VAL = 5, 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_shapes(tmp_path_factory.mktemp("shapes") / "coco", TRAIN, VAL, SIZE)


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_layout_is_coco_2017s(root: Path):
    names = {f"train2017/{i:012d}.jpg" for i in range(1, TRAIN + 1)}
    names |= {f"val2017/{i:012d}.jpg" for i in range(500_001, 500_001 + VAL)}
    names |= {f"annotations/instances_{split}2017.json" for split in ("train", "val")}
    assert files(root).keys() == names | {SETTINGS_FILE}


@pytest.mark.parametrize("split", ["train", "val"])
def test_pycocotools_reads_what_was_drawn(root: Path, split: str):
    coco = COCO(root / "annotations" / f"instances_{split}2017.json")
    ids = {category.name: category.id for category in COCO_CATEGORIES}
    assert {category["name"]: category["id"] for category in coco.loadCats(coco.getCatIds())} == ids
    for index, image in enumerate(coco.loadImgs(coco.getImgIds())):
        scene = draw_shapes_image(split, index, SIZE)
        pixels = cv2.imread(str(root / f"{split}2017" / image["file_name"]))[..., ::-1]
        assert pixels.shape == (image["height"], image["width"], 3) == scene.image.shape
        assert np.abs(pixels.astype(int) - scene.image).mean() < 8  # JPEG's loss
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(annotations) == len(scene.objects)
        for annotation, item in zip(annotations, scene.objects, strict=True):
            assert annotation["category_id"] == ids[KINDS[item.kind].name]
            np.testing.assert_array_equal(coco.annToMask(annotation), item.mask)
            assert annotation["area"] == item.mask.sum()
            assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()
            assert annotation["iscrowd"] == 0


def test_ids_are_unique_over_both_splits(root: Path):
    documents = [json.loads(file.read_text()) for file in (root / "annotations").iterdir()]
    for section in ("images", "annotations"):
        ids = [entry["id"] for document in documents for entry in document[section]]
        assert len(set(ids)) == len(ids)
        assert 0 not in ids  # COCOeval takes a match with an object of id 0 for none


def test_same_settings_give_the_same_bytes(root: Path, tmp_path: Path):
    assert files(write_coco_shapes(tmp_path / "again", TRAIN, VAL, SIZE)) == files(root)


def test_smaller_set_is_the_beginning_of_a_larger_one(root: Path, tmp_path: Path):
    small = write_coco_shapes(tmp_path / "small", 2, 1, SIZE)
    large = files(root)
    assert all(large[name] == content for name, content in files(small).items() if name.endswith(".jpg"))
    for split in ("train", "val"):
        name = f"annotations/instances_{split}2017.json"
        beginning, whole = (json.loads((folder / name).read_text()) for folder in (small, root))
        for section in ("images", "annotations"):
            assert whole[section][: len(beginning[section])] == beginning[section]


def test_split_and_index_change_the_images():
    pictures = [draw_shapes_image(split, index, SIZE).image for split in ("train", "val") for index in (0, 1)]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_only_the_first_kinds_are_drawn():
    kinds = {item.kind for index in range(30) for item in draw_shapes_image("train", index, SIZE).objects}
    assert kinds == set(range(CATEGORIES))


def test_complete_set_is_kept(tmp_path: Path):
    root = write_coco_shapes(tmp_path / "coco", 1, 1, SIZE)
    mark = root / "train2017" / "000000000001.jpg"
    mark.write_bytes(b"kept")
    write_coco_shapes(root, 1, 1, SIZE)
    assert mark.read_bytes() == b"kept"


@pytest.mark.parametrize("lost", ["train2017/000000000001.jpg", "annotations/instances_val2017.json"])
def test_incomplete_set_is_made_again(tmp_path: Path, lost: str):
    root = write_coco_shapes(tmp_path / "coco", 1, 1, SIZE)
    before = files(root)
    (root / lost).unlink()
    assert files(write_coco_shapes(root, 1, 1, SIZE)) == before
    assert [file.name for file in tmp_path.iterdir()] == ["coco"]


def test_other_settings_replace_the_set(tmp_path: Path):
    write_coco_shapes(tmp_path / "coco", 2, 1, SIZE)
    write_coco_shapes(tmp_path / "coco", 1, 1, SIZE)
    assert [file.name for file in (tmp_path / "coco" / "train2017").iterdir()] == ["000000000001.jpg"]


def test_foreign_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="is no generated data set"):
        write_coco_shapes(tmp_path, 1, 1, SIZE)
    assert (tmp_path / "train2017" / "holiday.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("wrong", [(0, 1, SIZE), (1, 0, SIZE), (1, 1, (16, 64))])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: tuple[int, int, tuple[int, int]]):
    with pytest.raises(ValueError, match="a split needs at least 1, an image 32 pixels a side"):
        write_coco_shapes(tmp_path / "coco", *wrong)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=16), elements=st.booleans()))
@settings(deadline=None, max_examples=150)
def test_polygons_hold_any_mask_exactly(mask: np.ndarray):
    polygons = mask_to_polygons(mask)
    assert all(isinstance(number, float) for polygon in polygons for number in polygon)
    decoded = np.zeros(mask.shape, bool)
    if polygons:
        decoded = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))).astype(bool)
    np.testing.assert_array_equal(decoded, mask)
