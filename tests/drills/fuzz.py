"""Annotation files, label maps and records that are spoilt in all ways: a clear sentence, or none where they still do.

python tests/drills/fuzz.py [annotations] [labels] [records] [--examples 10000]

Hypothesis spoils a good file: entries of its JSON are replaced, doubled or dropped, or bytes altered, cut out, put in.
The suite then does with it what a run would do, with --skip-bad-images or without. Whatever is raised must be a
UserError; nothing may take longer than ten seconds; no file may be made or changed outside the work dir. What the
checks of annotations let pass is read by mmdet's data set with boxes and masks, and evaluated by pycocotools.
"""

import argparse
import contextlib
import copy
import io
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from warm import RETINANET, Child

from fvnet_mm.data.coco_check import check_outlines
from fvnet_mm.data.coco_index import CocoDocuments
from fvnet_mm.data.semantic_shapes import write_ade20k_shapes
from fvnet_mm.data.shapes import write_coco_shapes
from fvnet_mm.engine.tasks import Detection, Segmentation
from fvnet_mm.errors import UserError
from fvnet_mm.records.reading import read_record

LONGEST = 10.0
"""Seconds."""

ODD_VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf")),
        *("", "0", "nan", "../../escaped.jpg", "/etc/passwd", "..\\x", "\x00", "\ud800", "a" * 5000),
        *([], [[]], [0], [[0, 1]], [None] * 4, {}, {"size": [8, 8], "counts": [3, -5]}, {"counts": "@@"}),
        {"size": [10**9, 10**9], "counts": []},
    ]
)


def drill(strategy: st.SearchStrategy, use: Callable[[object], None], examples: int) -> Counter[str]:
    """Gives so many drawn inputs to ``use`` and counts how they were taken.

    Raises:
        AssertionError: Some were taken in other ways than they should be; it says where, with an input of each kind.
    """
    counts: Counter[str] = Counter()
    faults: dict[tuple[str, ...], str] = {}

    @settings(
        max_examples=examples,
        deadline=timedelta(seconds=LONGEST),
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(strategy)
    def every(value: object) -> None:
        counts["inputs"] += 1
        try:
            use(value)
        except UserError:
            counts["refused in a sentence"] += 1
        except Exception as error:  # a fault, of which others may follow
            lines = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]]
            where = (type(error).__name__, *lines)
            if where not in faults:
                faults[where] = f"{error!s:.300} of {value!r:.3000}"
                print(f"fault: {' > '.join(where)}: {error!s:.200}", file=sys.stderr, flush=True)
        else:
            counts["taken"] += 1

    start = time.monotonic()
    every()
    assert not faults, "\n".join(f"{' > '.join(where)}: {what}" for where, what in faults.items())
    counts["seconds"] = round(time.monotonic() - start)
    return counts


@st.composite
def spoilt_json(draw: st.DrawFn, good: object) -> object:
    """A JSON document with one to four places changed."""
    content = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 4))):
        parent, key = None, None
        node = content
        for _ in range(draw(st.integers(1, 6))):
            if not isinstance(node, dict | list) or not node:
                break
            parent, key = (
                node,
                draw(st.sampled_from(sorted(node, key=str) if isinstance(node, dict) else range(len(node)))),
            )
            node = parent[key]
        if parent is None:
            continue
        match draw(st.sampled_from(["replace", "replace", "replace", "drop", "double", "borrow"])):
            case "replace":
                parent[key] = copy.deepcopy(draw(ODD_VALUES | st.integers() | st.floats() | st.text(max_size=8)))
            case "drop":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case _:
                parent[key] = copy.deepcopy(content)
    return content


@st.composite
def spoilt_bytes(draw: st.DrawFn, good: bytes) -> bytes:
    """A file with one to eight places changed."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["alter", "alter", "cut", "insert", "end"])):
            case "alter" if content:
                content[at] = draw(st.integers(0, 255))
            case "cut":
                del content[at : at + draw(st.integers(1, 64))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=16))
            case "end":
                del content[at:]
    return bytes(content)


def files_of(folder: Path, but: Path) -> dict[str, int]:
    """Files below a folder with their times of change, without those below ``but``."""
    return {
        str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and but not in path.parents
    }


def annotations(folder: Path, examples: int) -> Counter[str]:
    """COCO annotation files."""
    data, work_dir = write_coco_shapes(folder / "data", 3, 2, (64, 64)), folder / "work"
    loader = dict(dataset=dict(pipeline=[dict(type="LoadAnnotations", with_bbox=True, with_mask=True)]))
    cfg = Config(dict(work_dir=str(work_dir), train_dataloader=loader, val_dataloader=loader))
    file = data / "annotations" / "instances_train2017.json"
    simplify(list(file.parent.glob("*.json")))
    good = json.loads(file.read_text())
    before = files_of(folder, work_dir) | {str(file): 0}

    def use(drawn: tuple[object, bool]) -> None:
        content, skip_bad = drawn
        text = content if isinstance(content, bytes) else json.dumps(content).encode(errors="surrogatepass")
        file.write_bytes(text)
        task = Detection()
        try:
            source = task.check(cfg, "fuzz", task.find(data, ("train", "val")), skip_bad)
            split = source.folder.train
            check_outlines(split, CocoDocuments())
            read_by_libraries(split.annotation_file, split.image_dir, source.folder.classes)
        finally:
            assert files_of(folder, work_dir) | {str(file): 0} == before, "a file outside the work dir has changed"

    strategy = spoilt_json(good) | spoilt_json(good) | spoilt_bytes(file.read_bytes())
    return drill(st.tuples(strategy, st.booleans()), use, examples)


def simplify(files: list[Path]) -> None:
    """Leaves of annotation files what is used, with boxes for outlines, so that most changes hit what matters."""
    documents = {file: json.loads(file.read_text()) for file in files}
    used = {entry["category_id"] for document in documents.values() for entry in document["annotations"]}
    for file, document in documents.items():
        document["categories"] = [category for category in document["categories"] if category["id"] in used]
        for entry in document["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        file.write_text(json.dumps(document))


def read_by_libraries(file: Path, image_dir: Path, classes: tuple[str, ...]) -> None:
    """What a training and an evaluation do with annotations that the suite has let pass."""
    from mmdet.datasets import CocoDataset  # after fvnet_mm, which serves mmcv's operators

    pipeline = [
        dict(type="mmcv.LoadImageFromFile"),
        dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
        dict(type="mmdet.Resize", scale=(64, 64), keep_ratio=True),
        dict(type="mmdet.PackDetInputs"),
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = CocoDataset(
            ann_file=str(file),
            data_prefix=dict(img=f"{image_dir}/"),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=pipeline,
        )
        for index in range(len(dataset)):
            dataset[index]
        truth = COCO(str(file))
        boxes = [
            dict(image_id=image, category_id=truth.getCatIds()[0], bbox=[1.0, 2.0, 20.0, 20.0], score=0.5)
            for image in truth.getImgIds()
        ]
        evaluation = COCOeval(truth, truth.loadRes(boxes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()


def labels(folder: Path, examples: int) -> Counter[str]:
    """Label maps."""
    data, work_dir = write_ade20k_shapes(folder / "data", 3, 2, (64, 64)), folder / "work"
    cfg = Config(dict(work_dir=str(work_dir)))
    file = sorted((data / "annotations" / "training").glob("*.png"))[0]
    good = file.read_bytes()
    before = files_of(folder, work_dir) | {str(file): 0}

    def use(drawn: tuple[bytes | Image.Image, bool]) -> None:
        content, skip_bad = drawn
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content.save(file)
        task = Segmentation()
        try:
            source = task.check(cfg, "fuzz", task.find(data, ("train", "val")), skip_bad)
            for name in source.folder.train.label_names:
                with Image.open(source.folder.train.label_dir / name) as image:
                    assert np.asarray(image).ndim == 2
        finally:
            assert files_of(folder, work_dir) | {str(file): 0} == before, "a file outside the work dir has changed"

    return drill(st.tuples(spoilt_bytes(good) | other_images(), st.booleans()), use, examples)


@st.composite
def other_images(draw: st.DrawFn) -> Image.Image:
    """Sound images of other kinds and sizes."""
    mode = draw(st.sampled_from(["1", "L", "P", "LA", "RGB", "RGBA", "I;16"]))
    size = draw(st.sampled_from([(64, 64), (64, 63), (1, 1), (500, 2)]))
    value = draw(st.sampled_from([0, 1, 150, 151, 254, 255, 65535]))
    bands = max(1, len(mode)) if mode in ("LA", "RGB", "RGBA") else 1
    return Image.new(mode, size, value if bands == 1 else (value % 256,) * bands)


def records(folder: Path, examples: int) -> Counter[str]:
    """Records of runs."""
    data = write_coco_shapes(folder / "data", 4, 2, (64, 64))
    words = (
        "train",
        RETINANET,
        "--data",
        data,
        "--work-dir",
        folder / "run",
        "--cfg-options",
        "train_cfg.max_epochs=1",
    )
    assert Child(folder / "log", *words).wait() == 0, (folder / "log").read_text()
    file = folder / "run" / "run.json"
    content = file.read_bytes()
    before = files_of(folder, Path()) | {str(file): 0}

    def use(value: object) -> None:
        text = value if isinstance(value, bytes) else json.dumps(value).encode(errors="surrogatepass")
        file.write_bytes(text)
        read_record(file)
        assert files_of(folder, Path()) | {str(file): 0} == before, "reading has changed a file"

    strategy = spoilt_json(json.loads(content)) | spoilt_json(json.loads(content)) | spoilt_bytes(content)
    return drill(strategy, use, examples)


DRILLS = {drill.__name__: drill for drill in (annotations, labels, records)}


def main() -> None:
    """Runs the drills and prints their counts; an exception is a fault, with the smallest input that shows it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drills", nargs="*", choices=[*DRILLS, []], help="all, unless some are named")
    parser.add_argument("--examples", type=int, default=10_000)
    arguments = parser.parse_args()
    for name in arguments.drills or DRILLS:
        with tempfile.TemporaryDirectory() as folder:
            counts = DRILLS[name](Path(folder), arguments.examples)
        print(f"{name}: " + ", ".join(f"{what} {count:,}" for what, count in counts.items()), flush=True)


if __name__ == "__main__":
    main()
