"""The data set that remembers, beside mmdet's."""

import json
import shutil
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from fvnet_mm.data.coco_document import read_coco_document
from fvnet_mm.engine import coco_dataset
from fvnet_mm.engine.coco_dataset import IndexedCocoDataset, hand_over, let_go_of_all_but

MASKS = [dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True)]


@pytest.fixture
def file(tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Annotations of eight images, one without objects and one with a crowd, and a cache folder of their own."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    document = json.loads((tiny_coco / "annotations" / "instances_train2017.json").read_text())
    empty, crowded = document["images"][0]["id"], document["images"][1]["id"]
    document["annotations"] = [item for item in document["annotations"] if item["image_id"] != empty]
    next(item for item in document["annotations"] if item["image_id"] == crowded)["iscrowd"] = 1
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    return path


def settings(file: Path, **others: object) -> dict[str, object]:
    classes = tuple(category["name"] for category in json.loads(file.read_text())["categories"])
    usual = dict(ann_file=str(file), data_prefix=dict(img="images/"), metainfo=dict(classes=classes), pipeline=MASKS)
    return usual | dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)) | others


def entries(dataset: CocoDataset) -> list[dict]:
    return [dataset.get_data_info(number) for number in range(len(dataset))]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that pycocotools was made to parse."""
    paths: list[str] = []
    begin = COCO.__init__

    def noted(coco: COCO, annotation_file: str | None = None) -> None:
        paths.extend([annotation_file] if annotation_file else [])
        begin(coco, annotation_file)

    monkeypatch.setattr(COCO, "__init__", noted)
    return paths


@pytest.mark.parametrize("test_mode", [False, True])
def test_it_is_mmdets_the_first_and_the_second_time(file: Path, parsed: list[str], test_mode: bool) -> None:
    expected = CocoDataset(**settings(file, test_mode=test_mode))
    parsed.clear()
    first, second = (IndexedCocoDataset(**settings(file, test_mode=test_mode)) for _ in range(2))
    assert parsed == [str(file)]
    assert len(expected) == (8 if test_mode else 7)
    assert entries(first) == entries(second) == entries(expected)
    assert (second.cat_ids, second.cat2label) == (expected.cat_ids, expected.cat2label)
    assert second.metainfo == expected.metainfo


def test_a_changed_file_or_setting_is_parsed_again(file: Path, parsed: list[str]) -> None:
    usual = settings(file)
    IndexedCocoDataset(**usual)
    some = usual["metainfo"]["classes"][::2]
    for changed in (dict(metainfo=dict(classes=some)), dict(filter_cfg=None), dict(data_prefix=dict(img="others/"))):
        assert entries(IndexedCocoDataset(**usual | changed)) == entries(CocoDataset(**usual | changed))
    document = json.loads(file.read_text())
    document["annotations"] = document["annotations"][:-1]
    file.write_text(json.dumps(document))
    assert entries(IndexedCocoDataset(**usual)) == entries(CocoDataset(**usual))
    parsed.clear()
    IndexedCocoDataset(**usual, indices=3)  # a part is not kept, nor taken for the whole
    IndexedCocoDataset(**usual)
    assert parsed == [str(file)]


def test_outlines_are_kept_where_masks_are_read(file: Path) -> None:
    with_masks, without = (IndexedCocoDataset(**settings(file, pipeline=steps)) for steps in (MASKS, []))
    for whole, bare in zip(entries(with_masks), entries(without), strict=True):
        for instance in whole["instances"]:
            instance.pop("mask")
        assert whole == bare


def test_what_was_read_is_not_parsed_again(file: Path, parsed: list[str]) -> None:
    expected = entries(CocoDataset(**settings(file)))
    parsed.clear()
    hand_over(read_coco_document(file))
    assert entries(IndexedCocoDataset(**settings(file))) == expected
    assert parsed == []
    hand_over(read_coco_document(file))
    let_go_of_all_but([])
    assert not coco_dataset._documents


def test_a_damaged_cache_is_made_again(file: Path, tmp_path: Path) -> None:
    expected = entries(IndexedCocoDataset(**settings(file)))
    (kept,) = (tmp_path / "cache").rglob("*.npy")
    kept.write_bytes(kept.read_bytes()[:300])
    assert entries(IndexedCocoDataset(**settings(file))) == expected
    assert entries(IndexedCocoDataset(**settings(file))) == expected


def test_a_cache_that_cannot_be_written_costs_time_alone(file: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    (tmp_path / "cache").write_text("no folder")
    assert entries(IndexedCocoDataset(**settings(file))) == entries(CocoDataset(**settings(file)))
