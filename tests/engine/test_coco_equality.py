"""The evaluation in C++ against pycocotools: every figure, and every value that they are means of."""

import contextlib
import copy
import io

import numpy as np
import pytest
from faster_coco_eval import COCO
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO as PycocotoolsCoco
from pycocotools.cocoeval import COCOeval

from fvnet_mm.engine.coco_metric import evaluate, figures_of

SIZE = 200
Scene = tuple[dict[str, list[dict]], list[dict]]


def scene(seed: int, images: int, classes: int, per_image: int, grid: int, masks: bool, first_id: int = 1) -> Scene:
    """Objects of all three areas, crowds among them, and detections near them and elsewhere.

    Scores and coordinates lie on a grid, so that there are ties of both; some images and classes are empty.
    """
    rng = np.random.default_rng(seed)
    annotations: list[dict] = []
    found: list[dict] = []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 6)):
            sides = rng.choice([12, 31, 32, 33, 95, 96, 130], size=2)
            box = [*rng.integers(0, SIZE - sides).tolist(), *sides.tolist()]
            category = int(rng.integers(1, classes + 1))
            crowd = rng.random() < 0.2
            annotations.append(
                dict(id=len(annotations) + first_id, image_id=image, category_id=category, bbox=box)
                | dict(area=float(sides.prod()) * float(rng.choice([0.8, 1])), iscrowd=int(crowd))
                | (dict(segmentation=_code(box) if crowd else _outline(box)) if masks else {})
            )
            for _ in range(rng.integers(0, 4)):
                near = np.maximum(np.array(box) + rng.integers(-3, 4, size=4), 1).tolist()
                found.append(_detection(rng, image, category, near, grid, masks))
        for _ in range(rng.integers(0, per_image + 1)):
            box = [*rng.integers(0, SIZE - 90, size=2).tolist(), *rng.integers(5, 90, size=2).tolist()]
            found.append(_detection(rng, image, int(rng.integers(1, classes + 1)), box, grid, masks))
    names = [dict(id=number, name=f"class {number}") for number in range(1, classes + 3)]  # the last two have nothing
    sizes = [dict(id=number, file_name=f"{number}.jpg", width=SIZE, height=SIZE) for number in range(1, images + 1)]
    return dict(images=sizes, annotations=annotations, categories=names), found


def _detection(rng: np.random.Generator, image: int, category: int, box: list[int], grid: int, masks: bool) -> dict:
    score = float(rng.integers(1, grid + 1)) / grid
    shape = dict(segmentation=_code(box)) if masks else {}
    return dict(image_id=image, category_id=category, bbox=list(map(float, box)), score=score) | shape


def _code(box: list[int]) -> dict[str, object]:
    left, top, width, height = box
    mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    mask[top : top + height // 3, left : left + width // 3] = 0
    code = coco_mask.encode(mask)
    return code | dict(counts=code["counts"].decode())


def _outline(box: list[int]) -> list[list[float]]:
    left, top, width, height = box
    right, bottom, middle = left + width, top + height, left + width / 3
    return [[middle, top, right, top, right, bottom, left, bottom, left, top + height / 3]]


def by_pycocotools(truth: dict[str, list[dict]], found: list[dict], kind: str) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = PycocotoolsCoco()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        detections = copy.deepcopy(found)
        if kind == "segm":
            for detection in detections:
                detection.pop("bbox", None)
        evaluation = COCOeval(coco, coco.loadRes(detections), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_equal(truth: dict[str, list[dict]], found: list[dict], kind: str) -> np.ndarray:
    theirs = by_pycocotools(truth, found, kind)
    index = COCO(copy.deepcopy(truth))
    ours = evaluate(index, copy.deepcopy(found), kind, index.getCatIds())
    np.testing.assert_allclose(ours.stats, theirs.stats, rtol=0, atol=1e-10)
    for part in ("precision", "recall"):
        np.testing.assert_allclose(ours.eval[part], theirs.eval[part], rtol=0, atol=1e-10)
    averages, per_class = figures_of(ours)
    same_averages, same_per_class = figures_of(theirs)
    assert averages == pytest.approx(same_averages, abs=1e-8)  # percent
    assert per_class.keys() == same_per_class.keys()
    for name, figures in per_class.items():
        assert figures == pytest.approx(same_per_class[name], abs=1e-8)
    return ours.stats


@given(seed=st.integers(0, 10**6), images=st.integers(1, 12), classes=st.integers(1, 4), grid=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_boxes_with_ties_and_crowds(seed: int, images: int, classes: int, grid: int) -> None:
    truth, found = scene(seed, images, classes, 8, grid, masks=False)
    if found:
        assert_equal(truth, found, "bbox")


@given(seed=st.integers(0, 10**6), images=st.integers(1, 6), grid=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_masks_with_ties_and_crowds(seed: int, images: int, grid: int) -> None:
    truth, found = scene(seed, images, 2, 5, grid, masks=True)
    if found:
        assert_equal(truth, found, "segm")


def test_more_detections_than_count() -> None:
    """Of one class in one image, up to 300: the hundred best, and of equals the first, are taken."""
    truth, found = scene(0, 4, 1, 300, 5, masks=False)
    assert max(sum(item["image_id"] == image for item in found) for image in range(1, 5)) > 150
    assert_equal(truth, found, "bbox")


@pytest.mark.filterwarnings("ignore:Found annotation id 0")
def test_an_object_whose_number_is_0() -> None:
    truth, found = scene(3, 6, 2, 5, 9, masks=False, first_id=0)
    assert_equal(truth, found, "bbox")


def test_detections_as_a_detector_gives_them() -> None:
    """Scores and boxes in float32, many weak detections, 80 classes in unequal shares."""
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, 81) ** 0.8
    draw = {"size": 1200, "p": share / share.sum()}
    truth, _ = scene(7, 250, 80, 0, 1, masks=False)
    for entry, category in zip(truth["annotations"], rng.choice(80, **draw), strict=False):
        entry["category_id"] = int(category) + 1
    found = []
    for entry in truth["annotations"] * 3:
        box = np.array(entry["bbox"]) + rng.normal(0, 0.08, 4) * np.mean(entry["bbox"][2:])
        box[2:] = box[2:].clip(1)
        category = entry["category_id"] if rng.random() < 0.7 else int(rng.integers(1, 81))
        score = float(np.float32(rng.beta(1, 4)))
        found.append(dict(image_id=entry["image_id"], category_id=category, bbox=np.float32(box).tolist(), score=score))
    stats = assert_equal(truth, found, "bbox")
    assert 0.1 < stats[0] < 0.9
