import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.mask import encode

from fvnet_mm.data.coco_check import (
    check_annotations,
    check_outlines,
    find_bad_images,
    without_images,
)
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.data.coco_layout import find_coco
from fvnet_mm.data.coco_outline import is_outline, is_rectangle
from fvnet_mm.data.image_check import BadImage
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.errors import UserError


def set_value(section: str, position: int, key: str, value: object) -> Callable[[dict], None]:
    return lambda content: content[section][position].update({key: value})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_value("images", 1, "id", 1), r"1 image ids are there more than once \(1\)"),
        (set_value("annotations", 5, "id", 1), r"1 annotation ids are there more than once \(1\)"),
        (
            set_value("images", 2, "file_name", "../train/t2.jpg"),
            r"1 file names lead out .*'\.\./train/t2\.jpg'",
        ),
        (set_value("images", 2, "file_name", "/etc/passwd"), "1 file names lead out .*'/etc/passwd'"),
        (set_value("images", 2, "file_name", "..\\t2.jpg"), "1 file names lead out"),
        (set_value("images", 2, "file_name", "C:\\t2.jpg"), "1 file names lead out"),
        (
            set_value("images", 2, "file_name", "gone.jpg"),
            r"names 1 of 4 images that are not in .*'gone\.jpg'",
        ),
        (set_value("images", 2, "file_name", "no/where.jpg"), r"names 1 of 4 images .*'no/where\.jpg'"),
        (set_value("annotations", 4, "image_id", 99), r"1 annotations \(ids 5\) have a image_id .*\(99\)"),
        (
            set_value("annotations", 4, "category_id", 1),
            r"1 annotations \(ids 5\) .* not in 'categories' \(1\)",
        ),
    ],
)
def test_mistake_is_named(coco_root: Path, edit: Callable, change: Callable, sentence: str):
    edit("train", change)
    with pytest.raises(UserError, match=sentence):
        check_annotations(find_coco(coco_root).train, CocoDocuments())


def test_many_missing_images_are_counted(tmp_path: Path, write_coco: Callable, document: Callable):
    root = write_coco(tmp_path / "data", document("t", images=40))
    for number in range(30):
        (root / "train" / f"t{number}.jpg").unlink()
    with pytest.raises(UserError, match=r"30 of 40 images .*'t0.jpg', 't1.jpg', 't2.jpg' and 27 more"):
        check_annotations(find_coco(root).train, CocoDocuments())


def test_braces_in_a_path_do_no_harm(tmp_path: Path, write_coco: Callable, document: Callable):
    content = document()
    content["annotations"][0]["category_id"] = 5
    root = write_coco(tmp_path / "{count} {0}", content)
    with pytest.raises(UserError, match=r"1 annotations \(ids 1\)"):
        check_annotations(find_coco(root).train, CocoDocuments())


def test_boxes_that_mmdet_leaves_out_are_counted_as_mmdet_does(coco_root: Path, edit: Callable):
    from mmdet.datasets import CocoDataset

    boxes = [[0, 0, 0, 5], [0, 0, 5, -1], [50, 0, 9, 9], [0, 0, 0.5, 9], [-9, 0, 9, 9], [-5, -5, 20, 20]]

    def spoil(content: dict) -> None:
        for annotation, box in zip(content["annotations"], boxes, strict=False):
            annotation["bbox"] = box
        content["annotations"][6]["area"] = 0

    edit("train", spoil)
    split = find_coco(coco_root).train
    dataset = CocoDataset(
        ann_file=str(split.annotation_file),
        metainfo={"classes": ("cat", "dog")},
        data_prefix={"img": ""},
        pipeline=[],
        test_mode=True,
    )
    kept = [len(image["instances"]) for image in dataset]
    assert check_annotations(split, CocoDocuments()) == 8 - sum(kept)
    assert kept == [0, 0, 1, 1]


def test_sound_images_pass(coco_root: Path):
    folder = find_coco(coco_root)
    assert find_bad_images(folder.train, CocoDocuments()) == find_bad_images(folder.val, CocoDocuments()) == []


def test_bad_images_are_found_with_their_reasons(coco_root: Path, edit: Callable):
    folder = coco_root / "train"
    whole = (folder / "t0.jpg").read_bytes()
    (folder / "t0.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "t1.jpg").write_text("a web page")
    (folder / "t2.jpg").unlink()
    edit("train", set_value("images", 3, "width", 41))
    reasons = {image.name: image.reason for image in find_bad_images(find_coco(coco_root).train, CocoDocuments())}
    assert list(reasons) == ["t0.jpg", "t1.jpg", "t2.jpg", "t3.jpg"]
    assert "truncated" in reasons["t0.jpg"]
    assert reasons["t1.jpg"] == "cannot identify image file"
    assert reasons["t2.jpg"] == "there is no such file"
    assert reasons["t3.jpg"] == "it is 40x30, the annotations say 41x30"


def test_sizes_of_images_that_are_not_turned(coco_root: Path, edit: Callable):
    edit("train", set_value("images", 0, "width", 30))
    edit("train", set_value("images", 0, "height", 40))
    (bad,) = find_bad_images(find_coco(coco_root).train, CocoDocuments())
    assert bad.reason == "it is 40x30, the annotations say 30x40 (images are turned as their EXIF orientation says)"


def test_annotations_without_bad_images(coco_root: Path, tmp_path: Path, edit: Callable):
    edit("train", lambda content: content.update(info={"year": 2017}))
    split = find_coco(coco_root).train
    bad = [BadImage("t1.jpg", "broken"), BadImage("t3.jpg", "broken")]
    new = without_images(split, bad, tmp_path / "work" / "kept.json", CocoDocuments())
    assert (new.image_count, new.annotation_count, new.image_dir) == (2, 4, split.image_dir)
    coco = COCO(new.annotation_file)
    assert [image["file_name"] for image in coco.dataset["images"]] == ["t0.jpg", "t2.jpg"]
    assert {annotation["image_id"] for annotation in coco.dataset["annotations"]} == {1, 3}
    assert coco.dataset["info"] == {"year": 2017}
    check_annotations(new, CocoDocuments())


def test_nothing_left_is_refused(coco_root: Path, tmp_path: Path):
    bad = [BadImage(f"t{number}.jpg", "broken") for number in range(4)]
    with pytest.raises(UserError, match=r"without the 4 bad images .* has no images left"):
        without_images(find_coco(coco_root).train, bad, tmp_path / "kept.json", CocoDocuments())
    assert not (tmp_path / "kept.json").exists()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_spoilt_annotations_end_in_a_sentence_or_load_in_mmdet(
    write_coco: Callable, document: Callable, data: st.DataObject
):
    """Any value replaced or removed anywhere: refused with a UserError, or readable for mmdet."""
    from mmdet.datasets import CocoDataset

    content = document(images=2)
    spoilt = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 2))):
        place = spoilt
        while True:
            key = data.draw(st.sampled_from(range(len(place)) if isinstance(place, list) else list(place)))
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or data.draw(st.integers(0, 3)) == 0:
                break
            place = inner
        if data.draw(st.booleans()):
            place[key] = data.draw(JSON_VALUES)
        else:
            del place[key]
        if not spoilt or not place:
            break
    with tempfile.TemporaryDirectory() as temporary:
        root = write_coco(Path(temporary, "data"), content, content)
        file = root / "annotations" / "instances_train.json"
        file.write_text(json.dumps(spoilt))
        try:
            folder = find_coco(root)
            check_annotations(folder.train, CocoDocuments())
            bad = find_bad_images(folder.train, CocoDocuments())
        except UserError as error:
            sentence = str(error)
        else:
            sentence = ""
        if sentence:
            assert "\n" not in sentence
            assert sentence.endswith(".")
            return
        dataset = CocoDataset(
            ann_file=str(file),
            metainfo={"classes": folder.classes},
            data_prefix={"img": ""},
            pipeline=[],
            test_mode=True,
        )
        assert len(dataset) == folder.train.image_count
        assert len(bad) <= folder.train.image_count


@pytest.mark.parametrize(
    "outline",
    [
        [[0, 0, 8, 0]],
        [[0, 0, 8, 0, 8]],
        [[0, 0, 8, 0, 8, float("nan")]],
        [[0, 0, 8, 0, 8, 1e9]],
        [0, 0, 8, 0, 8, 6],
        "outline",
        {"size": [10**9, 10**9], "counts": []},
        {"size": [64, 64], "counts": [4097, -1]},
        {"size": [64, 64], "counts": [4095]},
        {"size": [64, 64], "counts": "@@"},
        {"size": [64, 64], "counts": "PP"},
    ],
)
def test_outlines_that_cannot_be_filled(outline: object, tmp_path: Path) -> None:
    root = write_coco_shapes(tmp_path / "data", 2, 1, (64, 64))
    split = find_coco(root).train
    check_outlines(split, CocoDocuments())
    document = json.loads(split.annotation_file.read_text())
    document["annotations"][0]["segmentation"] = outline
    split.annotation_file.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"the segmentation of 1 of \d+ objects \(\d+\) is neither"):
        check_outlines(split, CocoDocuments())


@pytest.mark.parametrize(
    ("outline", "rectangle"),
    [
        ([[4, 6, 14, 6, 14, 26, 4, 26]], True),
        ([[4, 26, 4, 6, 14, 6, 14, 26, 4, 26]], True),  # closed
        ([[4, 6, 13, 6, 13, 25, 4, 25]], True),  # of whole pixels
        ([[4, 6, 14, 6, 14, 26, 4, 22]], False),
        ([[4, 6, 14, 6, 14, 26, 14, 26]], False),
        ([[9, 6, 14, 16, 9, 26, 4, 16]], False),
        ([[4, 6, 14, 6, 14, 26]], False),
        ([[4, 6, 14, 6, 14, 26, 4, 26]] * 2, False),
        ({"size": [64, 64], "counts": [4096]}, False),
        (None, False),
    ],
)
def test_outlines_that_are_boxes(outline: object, rectangle: bool) -> None:
    assert is_rectangle(outline, [4, 6, 10, 20]) == rectangle


@given(data=st.data(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_run_lengths_that_pycocotools_writes_are_outlines(data: st.DataObject, height: int, width: int) -> None:
    pixels = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    text = encode(np.asfortranarray(np.array(pixels, np.uint8).reshape(height, width)))["counts"].decode()
    assert is_outline({"size": [height, width], "counts": text}, width, height)
    assert not is_outline({"size": [height, width], "counts": text + "1"}, width, height)
    assert not is_outline({"size": [height, width + 1], "counts": text}, width + 1, height)


@given(st.lists(st.integers(-999_999, 999_999) | st.floats(-999_999, 999_999), min_size=6, max_size=12), st.data())
def test_polygons_are_outlines_unless_a_number_is_none(polygon: list[float], data: st.DataObject) -> None:
    polygon = polygon[: len(polygon) // 2 * 2]
    assert is_outline([polygon], 8, 8)
    odd = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), 10**400, 1e6, True, "1", None, []]))
    polygon[data.draw(st.integers(0, len(polygon) - 1))] = odd
    assert not is_outline([polygon], 8, 8)
