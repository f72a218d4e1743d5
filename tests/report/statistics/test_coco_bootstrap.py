"""AP of resamples against pycocotools' own, on data sets in which the images really are there several times."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fvnet_mm.data.coco_document import read_coco_document
from fvnet_mm.errors import UserError
from fvnet_mm.report.statistics.coco_bootstrap import CocoEvaluation, _accumulate, _interpolated
from fvnet_mm.report.statistics.coco_matching import AREAS, CocoMatches, match_detections

SIZE = 400
METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
Scene = tuple[dict, list[dict]]


def make_scene(rng: np.random.Generator, images: int, classes: int, grid: int, detections: int = 8) -> Scene:
    """Objects of all sizes, crowds among them, and detections near them, with scores on a grid (of ties)."""
    annotations, found = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            side = rng.choice([20, 31, 32, 60, 96, 150], size=2)
            corner = rng.integers(0, SIZE - side)
            box = [*corner.tolist(), *side.tolist()]
            crowd = int(rng.random() < 0.15)
            category = int(rng.integers(1, classes + 1))
            annotations.append(
                dict(id=len(annotations) + 1, image_id=image, category_id=category, bbox=box, iscrowd=crowd)
                | dict(area=float(side.prod() * rng.choice([0.9, 1])))
            )
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box) + rng.integers(-4, 5, size=4) * max(1, side.min() // 30)
                found.append(_detection(rng, image, category, moved, grid))
        for _ in range(rng.integers(0, detections)):
            box = [*rng.integers(0, SIZE - 150, size=2), *rng.integers(10, 150, size=2)]
            found.append(_detection(rng, image, int(rng.integers(1, classes + 1)), box, grid))
    truth = dict(
        images=[dict(id=number, file_name=f"{number}.jpg", width=SIZE, height=SIZE) for number in range(1, images + 1)],
        annotations=annotations,
        categories=[dict(id=number, name=f"class {number}") for number in range(1, classes + 1)],
    )
    return truth, found


def _detection(rng: np.random.Generator, image: int, category: int, box: object, grid: int) -> dict:
    score = float(rng.integers(1, grid + 1)) / grid
    return dict(image_id=image, category_id=category, bbox=[float(max(side, 1)) for side in box], score=score)


def with_masks(scene: Scene) -> Scene:
    """The same, with masks in the boxes: all but a corner of each."""
    truth, found = scene

    def mask_of(box: list[float]) -> dict:
        x, y, width, height = (round(side) for side in box)
        mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
        mask[y : y + height, x : x + width] = 1
        mask[y : y + height // 3, x : x + width // 3] = 0
        encoded = coco_mask.encode(mask)
        return encoded | dict(counts=encoded["counts"].decode())

    annotations = [entry | dict(segmentation=mask_of(entry["bbox"])) for entry in truth["annotations"]]
    return truth | dict(annotations=annotations), [entry | dict(segmentation=mask_of(entry["bbox"])) for entry in found]


def repeated(scene: Scene, times: np.ndarray) -> Scene:
    """The data set that a resample means: each image as often as it was drawn, copies with numbers of their own."""
    truth, found = scene
    images, annotations, detections = [], [], []
    for image, count in zip(truth["images"], times, strict=True):
        for _ in range(int(count)):
            number = len(images) + 1
            images.append(image | dict(id=number))
            for entry in truth["annotations"]:
                if entry["image_id"] == image["id"]:
                    annotations.append(entry | dict(id=len(annotations) + 1, image_id=number))
            detections += [entry | dict(image_id=number) for entry in found if entry["image_id"] == image["id"]]
    return truth | dict(images=images, annotations=annotations), detections


def evaluated_by_pycocotools(scene: Scene, iou_type: str = "bbox") -> tuple[np.ndarray, np.ndarray]:
    """The metrics and the AP of each class, in percent."""
    truth, found = scene
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(truth | dict(info={})))
        coco.createIndex()
        if found:
            results = coco.loadRes(json.loads(json.dumps(found)))
        else:
            results = COCO()
            results.dataset = truth | dict(annotations=[])
            results.createIndex()
        evaluation = COCOeval(coco, results, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = np.where(precision.max(axis=(0, 1)) < 0, np.nan, precision.mean(axis=(0, 1)))
    metrics = evaluation.stats[:6]
    return 100 * np.where(metrics < 0, np.nan, metrics), 100 * per_class


def matched(scene: Scene, folder: Path, iou_type: str = "bbox", classes: Sequence[str] | None = None) -> CocoMatches:
    """Write and match."""
    truth, found = scene
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "result.json").write_text(json.dumps(found))
    return match_detections(read_coco_document(folder / "truth.json"), folder / "result.json", iou_type, classes)


def check(scene: Scene, folder: Path, times: np.ndarray, iou_type: str = "bbox") -> None:
    """Compare all resamples, given as (images, B)."""
    truth, found = scene
    values = CocoEvaluation(matched(scene, folder, iou_type), int(times.max()))(times.astype(float))
    assert tuple(values.metrics) == METRICS
    for number, resample in enumerate(times.T):
        metrics, per_class = evaluated_by_pycocotools(
            repeated([truth, [_only(entry, iou_type) for entry in found]], resample), iou_type
        )
        mine = np.array([values.metrics[name][number] for name in METRICS])
        np.testing.assert_allclose(mine, metrics, rtol=0, atol=1e-9)
        np.testing.assert_allclose(values.per_class[:, number], per_class, rtol=0, atol=1e-9)


def _only(entry: dict, iou_type: str) -> dict:
    dropped = "bbox" if iou_type == "segm" else "segmentation"
    return {key: value for key, value in entry.items() if key != dropped}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    images=st.integers(1, 12),
    classes=st.integers(1, 4),
    grid=st.sampled_from([1, 2, 5, 1000]),
)
def test_any_small_data_set(seed: int, images: int, classes: int, grid: int, tmp_path: Path):
    rng = np.random.default_rng(seed)
    scene = make_scene(rng, images, classes, grid)
    while not scene[0]["annotations"]:
        scene = make_scene(rng, images, classes, grid)
    times = np.stack([np.ones(images, int), *rng.multinomial(images, np.full(images, 1 / images), size=3)], axis=1)
    check(scene, tmp_path, times)


@pytest.mark.parametrize("grid", [3, 100, 10**6])
def test_many_objects_of_one_class(grid: int, tmp_path: Path):
    # Enough objects that recalls fall on and between the 101 that are sampled; one image is there very often.
    rng = np.random.default_rng(grid)
    scene = make_scene(rng, 100, 1, grid)
    times = rng.multinomial(100, rng.dirichlet(np.full(100, 0.3)), size=3).T
    assert times.max() > 5
    check(scene, tmp_path, times)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_boxes_and_masks(iou_type: str, tmp_path: Path):
    """Crowds, ties in scores, a class without an object, images without a detection: all in one."""
    truth, found = with_masks(make_scene(np.random.default_rng(1), 12, 3, 5))
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["category_id"] != 2]
    found = [entry for entry in found if entry["image_id"] > 2]
    assert sum(entry["iscrowd"] for entry in truth["annotations"]) > 1
    assert {entry["category_id"] for entry in found} == {1, 2, 3}
    assert {entry["image_id"] for entry in truth["annotations"]} & {1, 2}
    times = np.random.default_rng(2).multinomial(12, np.full(12, 1 / 12), size=4).T
    check((truth, found), tmp_path, times, iou_type)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), order=st.permutations(range(6)), factor=st.integers(1, 4))
def test_order_of_images_and_scale_of_weights_do_not_matter(seed: int, order: list[int], factor: int, tmp_path: Path):
    """Without ties, that is, which pycocotools settles by the order."""
    truth, found = make_scene(np.random.default_rng(seed), 6, 2, 10**9)
    assume(truth["annotations"])
    places = {image + 1: place + 1 for place, image in enumerate(order)}
    moved = [{**entry, "image_id": places[entry["image_id"]]} for entry in found]
    objects = [{**entry, "image_id": places[entry["image_id"]]} for entry in truth["annotations"]]
    times = np.random.default_rng(seed).integers(0, 4, size=(6, 5)).astype(float)
    first, second = (
        CocoEvaluation(matched(scene, tmp_path), 12)(weights)
        for scene, weights in (
            ((truth, found), times),
            ((truth | dict(annotations=objects), moved), factor * times[order]),
        )
    )
    np.testing.assert_allclose(second.per_class, first.per_class, rtol=0, atol=1e-9)
    for name, values in first.metrics.items():
        np.testing.assert_allclose(second.metrics[name], values, rtol=0, atol=1e-9)


def test_more_detections_than_count(tmp_path: Path):
    rng = np.random.default_rng(2)
    scene = make_scene(rng, 4, 1, 1000, detections=300)
    assert len(scene[1]) > 4 * 100
    check(scene, tmp_path, np.array([[1, 1, 1, 1], [2, 0, 1, 1]]).T)


def test_no_detection(tmp_path: Path):
    scene = make_scene(np.random.default_rng(3), 5, 2, 10)
    check((scene[0], []), tmp_path, np.array([[1, 1, 1, 1, 1], [0, 3, 1, 1, 0]]).T)


def test_without_an_object_nothing_is_defined(tmp_path: Path):
    truth, found = make_scene(np.random.default_rng(4), 6, 1, 10)
    truth["annotations"] = [entry | dict(image_id=1) for entry in truth["annotations"]]
    times = np.array([[0, 2, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]).T
    check((truth, found), tmp_path, times)
    assert np.isnan(evaluated_by_pycocotools(repeated((truth, found), times[:, 0]))[0]).all()


def test_every_recall_that_a_count_of_objects_can_give():
    # The sampled recalls are r * 0.01, of which some are a little above the fraction r / 100.
    recalls = np.linspace(0, 1, 101)
    for objects in range(1, 401):
        found = np.arange(1.0, objects + 1)[:, None]
        falling = 1 / (1 + np.arange(objects))
        expected = np.append(falling, 0)[np.searchsorted(found[:, 0] / objects, recalls)].mean()
        seen = found / falling[:, None]
        assert _interpolated(found, seen, np.array([objects])) == pytest.approx(expected, abs=1e-12)


@given(rows=st.integers(1, 60), backwards=st.booleans(), seed=st.integers(0, 1000))
def test_running_sums_and_maxima(rows: int, backwards: bool, seed: int):
    values = np.random.default_rng(seed).integers(0, 100, size=(rows, 3)).astype(float)
    for operation in (np.add, np.maximum):
        mine = values.copy()
        view, given_rows = (mine[::-1], values[::-1]) if backwards else (mine, values)
        _accumulate(operation, view)
        np.testing.assert_array_equal(view, operation.accumulate(given_rows, axis=0))


def test_more_copies_than_were_announced(tmp_path: Path):
    evaluation = CocoEvaluation(matched(make_scene(np.random.default_rng(5), 3, 1, 10), tmp_path), 2)
    with pytest.raises(ValueError, match="3 times in a resample, more than 2"):
        evaluation(np.array([[3.0], [0], [0]]))


def test_chosen_classes(tmp_path: Path):
    matches = matched(make_scene(np.random.default_rng(6), 5, 3, 10), tmp_path, classes=("class 3", "class 1"))
    assert matches.classes == ("class 1", "class 3")
    assert all(len(per_class) == 2 for per_class in matches.areas.values())
    assert tuple(matches.areas) == tuple(AREAS)


@pytest.mark.parametrize("missing", ["bbox", "score"])
def test_bad_results(missing: str, tmp_path: Path):
    truth, found = make_scene(np.random.default_rng(7), 5, 1, 10)
    del found[0][missing]
    with pytest.raises(UserError, match=r"is not in COCO's result format, .*, bbox \(x, y, width, height\) and score"):
        matched((truth, found), tmp_path)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        ([1, 2, 3], r"is not in COCO's result format, .*, segmentation \(run lengths\) and score"),
        (dict(counts=[1, 2], size=[SIZE, SIZE]), "is not in COCO's result format"),
        (dict(counts="PPYo0", size=[10, SIZE]), r"has a mask of \[10, 400\] pixels"),
    ],
)
def test_bad_masks(mask: object, sentence: str, tmp_path: Path):
    truth, found = with_masks(make_scene(np.random.default_rng(7), 5, 1, 10))
    with pytest.raises(UserError, match=sentence):
        matched((truth, [found[0] | dict(segmentation=mask)]), tmp_path, "segm")


def test_truth_without_masks(tmp_path: Path):
    truth, found = make_scene(np.random.default_rng(7), 5, 1, 10)
    with pytest.raises(UserError, match=r"truth.json has no masks for the annotations 1, 2, 3 and"):
        matched((truth, with_masks((truth, found))[1]), tmp_path, "segm")


def test_missing_results(tmp_path: Path):
    truth, _ = make_scene(np.random.default_rng(8), 5, 1, 10)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(UserError, match=r"result.json can't be read: No such file"):
        match_detections(read_coco_document(tmp_path / "truth.json"), tmp_path / "result.json", "bbox")
