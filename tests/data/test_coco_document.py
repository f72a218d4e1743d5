import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fvnet_mm.data.coco_document import enumerate_offenders, read_coco_document
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.errors import UserError


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_file_is_parsed_once(tmp_path: Path, document: Callable):
    file = written(tmp_path / "a.json", document() | {"info": {"year": 2017}})
    documents = CocoDocuments()
    first = documents.read(file)
    file.unlink()
    assert documents.read(file) is first
    assert first.extras == {"info": {"year": 2017}}


def test_truncated_file_is_located(tmp_path: Path, document: Callable):
    file = tmp_path / "a.json"
    text = json.dumps(document())
    file.write_text(text[:500])
    with pytest.raises(UserError, match=r"a\.json is not valid JSON .*character 4\d\d of 500.*copy it again"):
        read_coco_document(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe\x00", "is not JSON: byte 0 is no UTF-8"),
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM"),
        (b"[" * 100_000, r"is not (an annotation file|valid JSON)"),
        (b"[1, 2]", "holds a JSON list instead of an object"),
        (b"{'images': []}", "is not valid JSON .* export it again"),
    ],
)
def test_file_that_is_no_document(tmp_path: Path, content: bytes, sentence: str):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_coco_document(file)


def test_absent_file_and_folder(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        read_coco_document(tmp_path / "a.json")
    with pytest.raises(UserError, match="can't be read: Is a directory"):
        read_coco_document(tmp_path)


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_missing_and_empty_sections(tmp_path: Path, document: Callable, section: str):
    content = document()
    content[section] = []
    with pytest.raises(UserError, match=f"is empty: its list '{section}' has no entry"):
        read_coco_document(written(tmp_path / "a.json", content))
    content[section] = {"1": {}}
    with pytest.raises(UserError, match=f"'{section}' is not a list"):
        read_coco_document(written(tmp_path / "a.json", content))
    del content[section]
    with pytest.raises(UserError, match=f"lacks '{section}': a COCO instances file"):
        read_coco_document(written(tmp_path / "a.json", content))


def test_missing_key_is_counted(tmp_path: Path, document: Callable):
    content = document()
    for annotation in content["annotations"][3:]:
        del annotation["iscrowd"]
    with pytest.raises(UserError, match=r"5 of 8 entries of 'annotations' lack the key 'iscrowd'.* position 3;"):
        read_coco_document(written(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("annotations", "bbox", [1, 2, 3], "a list of four finite numbers"),
        ("annotations", "bbox", [1, 2, float("nan"), 3], "a list of four finite numbers"),
        ("annotations", "bbox", [1, 2, 10**400, 3], "a list of four finite numbers"),
        ("annotations", "area", None, "a finite number"),
        ("annotations", "iscrowd", 2, "0 or 1"),
        ("annotations", "category_id", "7", "an integer"),
        ("images", "id", 2**70, "an integer"),
        ("images", "width", 0, "a number above 0"),
        ("images", "file_name", "", "a text"),
        ("categories", "name", 5, "a text"),
    ],
)
def test_wrong_value_is_shown(tmp_path: Path, document: Callable, section, key, value, expected):
    content = document()
    content[section][1][key] = value
    pattern = rf"1 of \d entries of '{section}' have a '{key}' that is not {expected}.*: .* \(id "
    with pytest.raises(UserError, match=pattern):
        read_coco_document(written(tmp_path / "a.json", content))


def test_entry_that_is_no_object(tmp_path: Path, document: Callable):
    content = document()
    content["images"][2] = "c.jpg"
    with pytest.raises(UserError, match=r"entry 2 of 'images' is 'c\.jpg' instead of an object"):
        read_coco_document(written(tmp_path / "a.json", content))


def test_offenders_are_counted_beyond_three():
    assert enumerate_offenders(["a", 2]) == "'a', 2"
    assert enumerate_offenders(range(9)) == "0, 1, 2 and 6 more"
