"""What is remembered of an annotation file, and until when."""

import json
import os
from pathlib import Path

import pytest

from fvnet_mm.data import coco_index
from fvnet_mm.data.coco_check import check_annotations, find_bad_images
from fvnet_mm.data.coco_index import CocoDocuments, remembered_index
from fvnet_mm.data.coco_layout import find_coco
from fvnet_mm.data.fingerprint import fingerprint
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco_shapes(tmp_path / "data", 4, 3, (64, 64))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Annotation files that were parsed."""
    paths: list[Path] = []
    read = coco_index.read_coco_document

    def noted(path: Path) -> object:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(coco_index, "read_coco_document", noted)
    return paths


def checked(root: Path) -> tuple[object, ...]:
    """All that a run asks of the data."""
    documents = CocoDocuments()
    folder = find_coco(root, documents)
    splits = (folder.train, folder.val)
    counts = [check_annotations(split, documents) for split in splits]
    bad = [find_bad_images(split, documents) for split in splits]
    outlines = [documents.index(split.annotation_file).without_outline for split in splits]
    return folder, counts, bad, outlines, [fingerprint(split) for split in splits]


def test_a_file_that_was_found_right_is_not_parsed_again(root: Path, parsed: list[Path]) -> None:
    first = checked(root)
    assert len(parsed) == 2
    assert checked(root) == first
    assert len(parsed) == 2


def test_a_changed_file_is(root: Path, parsed: list[Path]) -> None:
    folder, *_ = checked(root)
    file = folder.train.annotation_file
    before, times = file.read_text(), file.stat()
    document = json.loads(before)
    document["annotations"][0]["image_id"] = 999999
    after = json.dumps(document)
    # As long as before, and with the old time: an editor's doing or a copy's.
    file.write_text(after.ljust(len(before)) if len(after) < len(before) else after)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert remembered_index(file) is None
    with pytest.raises(UserError, match="image_id that is not in"):
        checked(root)
    with pytest.raises(UserError, match="image_id that is not in"):
        checked(root)  # what is wrong is not remembered as right


def test_images_are_looked_for_every_time(root: Path) -> None:
    folder, *_ = checked(root)
    next(folder.val.image_dir.iterdir()).unlink()
    with pytest.raises(UserError, match="that are not in"):
        checked(root)


def test_a_damaged_index_is_made_again(root: Path, cache: Path, parsed: list[Path]) -> None:
    first = checked(root)
    for file in cache.rglob("annotations/*.json"):
        file.write_text(file.read_text()[:40])
    assert checked(root) == first
    assert len(parsed) == 4
