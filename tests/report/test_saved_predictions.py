import json
from pathlib import Path

import pytest

from fvnet_mm.data.coco_document import CocoDocument
from fvnet_mm.errors import UserError
from fvnet_mm.report.saved_predictions import read_class_predictions, read_detections


def entry(file: str, label: object = 0, prediction: object = 1) -> dict[str, object]:
    return dict(file=file, label=label, prediction=prediction, score=0.9)


def test_classes_in_the_order_of_the_file(tmp_path: Path):
    entries = [entry("b", 1), entry("a", 0, 2)]
    (tmp_path / "classes.json").write_text(json.dumps(entries))
    assert read_class_predictions(tmp_path / "classes.json", 3) == entries


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"file": "a"', "are not JSON"),
        ("[]", "holds no prediction"),
        ({"a": 1}, "is not a list of objects with file, label, prediction and score"),
        ([entry("a", 0.5)], "is not a list of objects with file, label, prediction and score"),
        ([entry("a", [1])], "is not a list of objects with file, label, prediction and score"),
        ([entry("a") | {"score": "high"}], "is not a list of objects with file, label, prediction and score"),
        ([entry("a", 1, 3), entry("b", -1)], "has the classes -1, 3, but the 3 classes are numbered 0 to 2"),
        ([entry("a"), entry("a")], "has 1 images more than once"),
    ],
)
def test_bad_classes(content: object, sentence: str, tmp_path: Path):
    (tmp_path / "classes.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=sentence):
        read_class_predictions(tmp_path / "classes.json", 3)


def test_missing_classes(tmp_path: Path):
    with pytest.raises(UserError, match=r"classes.json can't be read: No such file"):
        read_class_predictions(tmp_path / "classes.json", 3)


BOX, MASK = {"bbox": [1, 2, 3, 4.5]}, {"segmentation": {"size": [8, 8], "counts": "PPYo0"}}
FOUND = {"image_id": 1, "category_id": 5, "score": 0.5}


@pytest.fixture
def truth(tmp_path: Path) -> CocoDocument:
    """Of the image 1 and the category 5."""
    images = [{"id": 1, "file_name": "1.jpg", "width": 8, "height": 8}]
    return CocoDocument(tmp_path / "truth.json", (0, 0, 0), images, [], [{"id": 5, "name": "cat"}], {})


@pytest.mark.parametrize(
    ("entries", "shapes"),
    [([], ["bbox"]), ([FOUND | BOX], ["bbox"]), ([FOUND | MASK], ["segmentation"])],
)
def test_detections_have_the_shapes_that_are_asked_for(
    entries: list[dict], shapes: list[str], truth: CocoDocument, tmp_path: Path
):
    (tmp_path / "found.json").write_text(json.dumps(entries))
    assert read_detections(tmp_path / "found.json", truth, shapes) == entries
    if entries:
        with pytest.raises(UserError, match=r"bbox \(x, y, width, height\), segmentation \(run lengths\) and score;"):
            read_detections(tmp_path / "found.json", truth, ["bbox", "segmentation"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": 1}, "is not in COCO's result format"),
        (["a"], "is not in COCO's result format"),
        ([FOUND | {"bbox": [1, 2, 3]}], "is not in COCO's result format"),
        ([FOUND | BOX | {"score": float("nan")}], "is not in COCO's result format"),
        ([FOUND | BOX | {"image_id": []}], "is not in COCO's result format"),
        ([FOUND | BOX | {"image_id": 77}], r"is of another data set than .*truth.json, which lacks its image_id 77"),
        ([FOUND | BOX | {"category_id": 9}], "lacks its category_id 9"),
    ],
)
def test_bad_detections(content: object, sentence: str, truth: CocoDocument, tmp_path: Path):
    (tmp_path / "found.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=sentence):
        read_detections(tmp_path / "found.json", truth, ["bbox"])
