"""Public data sets, generated here in small, end up in the layouts that the suite reads."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fvnet_mm.data.ade20k_layout import find_ade20k
from fvnet_mm.data.coco_check import check_annotations
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.data.coco_layout import find_coco

XML = """<annotation><size><width>64</width><height>48</height><depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax>
<ymax>{box[3]}</ymax></bndbox></object>"""


@pytest.fixture
def bccd(tmp_path: Path) -> Path:
    root = tmp_path / "BCCD"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate("abc"):
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), np.full((48, 64, 3), 80 * number, np.uint8))
        boxes = [OBJECT.format(name=cell, box=(1, 2, 31, 22)) for cell in ("WBC", "RBC", "Platelets")[: number + 1]]
        (root / "Annotations" / f"{name}.xml").write_text(XML.format(objects="".join(boxes)))
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nc\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    return root


def test_bccd(script: Callable[..., str], bccd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("prepare_data", "bccd", bccd, tmp_path / "bccd") == ""
    folder = find_coco(tmp_path / "bccd")
    assert folder.classes == ("RBC", "WBC", "Platelets")
    check_annotations(folder.train, CocoDocuments())
    document = json.loads(folder.train.annotation_file.read_text())
    assert [image["file_name"] for image in document["images"]] == ["a.jpg", "c.jpg"]
    assert [annotation["category_id"] for annotation in document["annotations"]] == [2, 2, 1, 3]
    assert [annotation["image_id"] for annotation in document["annotations"]] == [1, 2, 2, 2]
    assert all(annotation["bbox"] == [1, 2, 30, 20] for annotation in document["annotations"])
    assert capsys.readouterr().out.startswith("train: 2 images, fingerprint ")


def test_camvid(script: Callable[..., str], tmp_path: Path) -> None:
    root = tmp_path / "CamVid"
    for folder in ("val", "valannot"):
        (root / folder).mkdir(parents=True)
    for number in range(7):
        cv2.imwrite(str(root / "val" / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
        cv2.imwrite(str(root / "valannot" / f"{number}.png"), np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert script("prepare_data", "camvid", root, tmp_path / "camvid") == ""
    folder = find_ade20k(tmp_path / "camvid")
    assert (folder.train.stems, folder.val.stems) == (("0", "1", "3", "4", "6"), ("2", "5"))
    assert (folder.classes[0], len(folder.classes)) == ("sky", 11)
    labels = cv2.imread(str(folder.val.label_dir / "2.png"), cv2.IMREAD_UNCHANGED)
    assert labels.flatten().tolist() == [*range(1, 12), 0]


def test_what_is_missing_is_named_and_nothing_is_half_made(
    script: Callable[..., str], bccd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bccd / "JPEGImages" / "c.jpg").unlink()
    assert script("prepare_data", "bccd", bccd, tmp_path / "bccd") == "2"
    assert f"{bccd}/JPEGImages/c.jpg cannot be copied" in capsys.readouterr().err
    assert script("prepare_data", "bccd", bccd / "nothing", tmp_path / "bccd") == "2"
    assert "train.txt cannot be read" in capsys.readouterr().err
    assert script("prepare_data", "camvid", bccd, tmp_path / "camvid") == "2"
    assert "holds no frames" in capsys.readouterr().err
    assert not (tmp_path / "bccd").exists()
    assert script("prepare_data", "bccd", bccd, bccd) == "2"
    assert "exists; remove it" in capsys.readouterr().err
