"""What docs/shapes.md shows of the shapes benchmark: a labelled contact sheet, statistics, and the probes' table.

python docs/shapes.py sheet                      writes docs/images/shapes.jpg
python docs/shapes.py statistics data/shapes     prints sizes and classes of a set's objects
python docs/shapes.py scores                     puts the table of the records in results/shapes into docs/shapes.md
python docs/shapes.py scores --check             exits with 1 where it is not there
"""

from __future__ import annotations

import argparse
import colorsys
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from marked import table, update

from fvnet_mm.data.benchmark.classes import SEMANTIC_CLASSES, SIZE_SHARES, THINGS, size_class
from fvnet_mm.data.benchmark.scene import Scene, draw_scene
from fvnet_mm.files import replacing

ROOT = Path(__file__).resolve().parents[1]
SHEET = ROOT / "docs" / "images" / "shapes.jpg"
RECORDS = ROOT / "results" / "shapes"
PAGE = ROOT / "docs" / "shapes.md"
SCENES = (3, 8, 10)
CLOSE_UP = 150
"""Side in pixels of the examples of classes."""

PAIRS = (("drifter", "crosser"), ("follower", "opposer"), ("facer", "averter"), ("grained", "banded"))
PAIRS += (("quatrefoil", "cinquefoil"), ("nest", "misfit"))
"""Classes that differ in one thing alone; of the first three in the surroundings."""


def sheet() -> np.ndarray:
    """Scenes with their boxes and label maps, and three examples of every class in its surroundings; RGB."""
    rows = [np.hstack([draw(draw_scene(0, "train", index)) for index in SCENES])]
    rows.append(np.hstack([paint_labels(draw_scene(0, "train", index).labels) for index in SCENES]))
    examples = close_ups()
    for start in range(0, len(THINGS), 6):
        names = list(THINGS)[start : start + 6]
        columns = [np.vstack([caption(name), *examples[name]]) for name in names]
        strip = np.hstack(columns)
        rows.append(cv2.resize(strip, (rows[0].shape[1], strip.shape[0] * rows[0].shape[1] // strip.shape[1])))
    return np.vstack(rows)


def draw(scene: Scene) -> np.ndarray:
    """A scene at one and a half times its size, with named boxes."""
    picture = cv2.resize(scene.image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)
    for item in scene.instances:
        rows, columns = np.nonzero(item.mask)
        low = int(1.5 * columns.min()), int(1.5 * rows.min())
        cv2.rectangle(picture, low, (int(1.5 * columns.max()), int(1.5 * rows.max())), (255, 255, 255), 1)
        place = (low[0] + 2, max(low[1] - 3, 10))
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            name = list(THINGS)[item.thing]
            cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)
    return picture


def paint_labels(labels: np.ndarray) -> np.ndarray:
    """A label map in colours, at one and a half times its size; what has no label is black."""
    count = len(SEMANTIC_CLASSES)
    colours = [colorsys.hls_to_rgb(i * 7 / count % 1, 0.45 + 0.2 * (i % 2), 0.6) for i in range(count)]
    palette = (255 * np.array([(0, 0, 0), *colours])).astype(np.uint8)
    return cv2.resize(palette[labels], None, fx=1.5, fy=1.5, interpolation=cv2.INTER_NEAREST)


def close_ups() -> dict[str, list[np.ndarray]]:
    """Three medium-sized examples of every class, from the first scenes, with their surroundings."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in THINGS}
    index = 0
    while min(map(len, found.values())) < 3:
        scene = draw_scene(0, "train", index)
        index += 1
        for item in scene.instances:
            name = list(THINGS)[item.thing]
            rows, columns = np.nonzero(item.mask)
            y, x = int(rows.mean()), int(columns.mean())
            half = int(1.5 * np.sqrt(item.mask.sum()))
            inside = min(x, y, 320 - x, 320 - y) >= half
            if len(found[name]) < 3 and inside and 30 < half < 90:
                part = scene.image[y - half : y + half, x - half : x + half]
                found[name].append(cv2.resize(part, (CLOSE_UP, CLOSE_UP), interpolation=cv2.INTER_CUBIC))
    return found


def caption(name: str) -> np.ndarray:
    band = np.full((26, CLOSE_UP, 3), 255, np.uint8)
    cv2.putText(band, name, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return band


def statistics(root: Path) -> str:
    """Sizes and classes of the objects of all splits of a set."""
    documents = [json.loads(file.read_text(encoding="utf-8")) for file in (root / "annotations").glob("*.json")]
    annotations = [annotation for document in documents for annotation in document["annotations"]]
    sizes = Counter(size_class(annotation["area"]) for annotation in annotations)
    classes = Counter(annotation["category_id"] for annotation in annotations)
    total, images = len(annotations), sum(len(document["images"]) for document in documents)
    lines = [f"{total:,} objects in {images:,} images, {total / images:.1f} each"]
    for name, size, share in zip(("small", "medium", "large"), range(3), SIZE_SHARES, strict=True):
        lines.append(f"{name:8} {sizes[size] / total:.1%} (COCO {share:.1%})")
    lines += [f"{name:12} {classes[number] / total:.1%}" for number, name in enumerate(THINGS, 1)]
    return "\n".join(lines)


def scores() -> str:
    """The probes' accuracies as a Markdown table, with how well they tell apart the two classes of each pair."""
    pairs = [" / ".join(pair) for pair in PAIRS]
    header = ["Probe", "Parameters", "Sees", "Epochs", "Accuracy", "Small", "Medium", "Large", *pairs]
    rows = []
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RECORDS.glob("*.json"))]
    for record in sorted(records, key=lambda record: record["accuracy"]):
        figures = [record["accuracy"], *record["accuracy_by_size"], *(pair_accuracy(record, pair) for pair in PAIRS)]
        seen = {"object": "the object alone", "window": "the window around it"}[record["crops"]]
        size = f"{record['parameters'] / 1e6:.2f} M"
        rows.append([record["model"], size, seen, str(record["epochs"]), *map(in_tenths, figures)])
    return table(header, "lrl" + "r" * (len(header) - 3), rows)


def in_tenths(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.1f}"


def pair_accuracy(record: dict, pair: tuple[str, str]) -> float | None:
    """Percentage that is right of the objects of two classes that a probe took for one of the two; 50 is chance.

    Both classes weigh the same. None where a probe took no object of one of the classes for either.
    """
    numbers = [record["classes"].index(name) for name in pair]
    table = np.array(record["confusion"], float)[np.ix_(numbers, numbers)]
    counts = table.sum(1)
    return float(100 * np.mean(table.diagonal() / counts)) if counts.all() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["sheet", "statistics", "scores"])
    parser.add_argument("root", type=Path, nargs="?", default=ROOT / "data" / "shapes", help="set to be counted")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page's scores are not the records'")
    arguments = parser.parse_args()
    if arguments.what == "scores":
        update(PAGE, "scores", scores(), "python docs/shapes.py scores", check=arguments.check)
    elif arguments.what == "sheet":
        with replacing(SHEET) as temporary:
            cv2.imwrite(str(temporary), sheet()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        print(SHEET)
    else:
        print(statistics(arguments.root))


if __name__ == "__main__":
    main()
