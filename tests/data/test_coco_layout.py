import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvnet_mm.data.classes import COCO_CLASSES
from fvnet_mm.data.coco_layout import CocoFolder, CocoSplit, find_coco
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.errors import UserError


def test_generated_set_is_found(tmp_path: Path):
    root = write_coco_shapes(tmp_path / "coco", 2, 1, (64, 64))
    folder = find_coco(root)
    assert folder.classes == COCO_CLASSES
    assert folder.train.image_dir == root / "train2017"
    assert folder.val.annotation_file == root / "annotations" / "instances_val2017.json"
    assert (folder.train.image_count, folder.val.image_count) == (2, 1)


def test_all_that_is_found(coco_root: Path):
    annotations = coco_root / "annotations"
    assert find_coco(coco_root) == CocoFolder(
        root=coco_root,
        classes=("cat", "dog"),
        train=CocoSplit("train", annotations / "instances_train.json", coco_root / "train", 4, 8),
        val=CocoSplit("val", annotations / "instances_val.json", coco_root / "val", 4, 8),
    )


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("images/train", "images/val"),
        ("images", "images"),
        ("", ""),
        ("pictures", "pictures"),
    ],
)
def test_images_are_found_where_they_are(tmp_path: Path, write_coco: Callable, train: str, val: str):
    root = write_coco(tmp_path / "data", folders=(train, val))
    folder = find_coco(root)
    assert (folder.train.image_dir, folder.val.image_dir) == (root / train, root / val)


def test_names_may_have_folders(tmp_path: Path, write_coco: Callable, document: Callable):
    root = write_coco(tmp_path / "data", document("city/one/a"), document("city/two/b"), folders=("raw", "raw"))
    assert find_coco(root).val.image_dir == root / "raw"


def test_folder_with_more_of_the_images_wins(coco_root: Path):
    whole = coco_root / "images" / "train"
    whole.mkdir(parents=True)
    for image in (coco_root / "train").iterdir():
        (whole / image.name).write_bytes(image.read_bytes())
    (coco_root / "train" / "t2.jpg").unlink()
    assert find_coco(coco_root).train.image_dir == whole


def test_other_splits_folder_is_never_taken(tmp_path: Path, write_coco: Callable, document: Callable):
    """Both splits name a0.jpg, a1.jpg ...: without the training images the validation ones must not serve."""
    root = write_coco(tmp_path / "data", document(), document())
    (root / "train").rename(tmp_path / "train")
    with pytest.raises(UserError, match=r"none of the 4 images .* put them into .*train"):
        find_coco(root)


def test_year_of_2017_is_preferred_and_other_doubt_refused(coco_root: Path):
    annotations = coco_root / "annotations"
    original = annotations / "instances_train.json"
    for name in ("instances_train2017.json", "instances_train2014.json"):
        (annotations / name).write_bytes(original.read_bytes())
    assert find_coco(coco_root).train.annotation_file.name == "instances_train2017.json"
    original.unlink()
    (annotations / "instances_train2017.json").rename(annotations / "instances_trainval.json")
    with pytest.raises(UserError, match=r"several annotation files .*name the one to use instances_train.json"):
        find_coco(coco_root)


def test_missing_parts_are_named(coco_root: Path, tmp_path: Path):
    (coco_root / "annotations" / "instances_val.json").unlink()
    with pytest.raises(UserError, match=r"name the annotations of the validation images instances_val.json"):
        find_coco(coco_root)
    with pytest.raises(UserError, match="does not exist; it is to hold annotations/instances_train"):
        find_coco(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("annotations/instances_train.json", "json is a file, and the data set's folder is wanted"),
        ("train", r"train has no annotations/instances_\*\.json, but .* has; that is the data set's folder"),
        ("..", r"has no annotations/instances_\*\.json, but .* has; that is the data set's folder"),
    ],
)
def test_the_folder_that_is_meant_is_named(place: str, sentence: str, coco_root: Path):
    with pytest.raises(UserError, match=sentence):
        find_coco(coco_root / place)


def test_a_folder_without_annotations_or_of_another_layout(tmp_path: Path):
    with pytest.raises(UserError, match=r"annotations does not exist, which is to hold instances_train"):
        find_coco(tmp_path)
    (tmp_path / "annotations" / "validation").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is in ADE20K's layout .* segmentors \(semantic_fpn_.*of detectors"):
        find_coco(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda categories: categories.append({"id": 9, "name": "cow"}), "'cow' only in instances_val.json"),
        (lambda categories: categories.pop(), "'dog' only in instances_train.json"),
        (lambda categories: categories.reverse(), "the same names in another order"),
        (lambda categories: categories.append({"id": 9, "name": "cat"}), "more than one .* name 'cat'"),
        (lambda categories: categories.append({"id": 7, "name": "cow"}), "more than one .* id 7"),
    ],
)
def test_categories_that_would_mix_up_labels(coco_root: Path, edit: Callable, change: Callable, sentence: str):
    edit("val", lambda content: change(content["categories"]))
    with pytest.raises(UserError, match=sentence):
        find_coco(coco_root)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8)


@given(
    names=st.lists(NAMES, min_size=1, max_size=6, unique=True),
    ids=st.lists(st.integers(-5, 90), min_size=6, max_size=6, unique=True),
)
@settings(deadline=None, max_examples=40)
def test_mmdet_gives_every_object_the_label_of_its_class(
    write_coco: Callable, document: Callable, names: list[str], ids: list[int]
):
    """Whatever the ids and their order: ``classes[label]`` is the name of the object's category."""
    from mmdet.datasets import CocoDataset

    content = document(images=len(names))
    content["categories"] = [{"id": i, "name": name} for i, name in zip(ids, names, strict=False)]
    for number, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = ids[number % len(names)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = find_coco(write_coco(Path(temporary, "data"), content, content))
        dataset = CocoDataset(
            ann_file=str(folder.train.annotation_file),
            data_prefix={"img": str(folder.train.image_dir)},
            metainfo={"classes": folder.classes},
            pipeline=[],
        )
        labels = [item["bbox_label"] for image in dataset for item in image["instances"]]
        assert all(Path(image["img_path"]).is_file() for image in dataset)
    truth = dict(zip(ids, names, strict=False))
    expected = [truth[annotation["category_id"]] for annotation in content["annotations"]]
    assert [folder.classes[label] for label in labels] == expected
    assert json.loads(json.dumps(folder.classes)) == names
