"""mIoU of resamples against that of all their pixels put together."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from fvnet_mm.errors import UserError
from fvnet_mm.report.statistics.miou_bootstrap import ClassAreas, SegmentationEvaluation, measure_areas

CLASSES = 5


@pytest.fixture
def maps(tmp_path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Labels and predictions of eight images of different sizes: some pixels without a label, class 5 nowhere."""
    rng = np.random.default_rng(0)
    labels, found = [], []
    (tmp_path / "labels" / "town").mkdir(parents=True)
    (tmp_path / "found").mkdir()
    for number in range(8):
        shape = rng.integers(5, 20, size=2)
        labels.append(rng.choice([0, 1, 2, 3, 4, 255], p=[0.1, 0.3, 0.3, 0.15, 0.1, 0.05], size=shape).astype(np.uint8))
        other = rng.integers(1, 4, size=shape)
        found.append(np.where((rng.random(shape) < 0.6) & (labels[-1] % 255 > 0), labels[-1], other).astype(np.uint8))
        folder = tmp_path / "labels" / "town" if number % 2 else tmp_path / "labels"
        Image.fromarray(labels[-1]).save(folder / f"{number}.png")
        Image.fromarray(found[-1]).save(tmp_path / "found" / f"{number}.png")
    Image.fromarray(labels[0]).save(tmp_path / "labels" / "not predicted.png")
    return labels, found


def directly(labels: np.ndarray, found: np.ndarray) -> tuple[dict[str, float], list[float]]:
    """mIoU, mAcc, aAcc and IoU of flat arrays, pixel by pixel of a class."""
    known = (labels != 0) & (labels != 255)
    labels, found = labels[known], found[known]
    ious, accuracies = [], []
    for number in range(1, CLASSES + 1):
        both, either = (labels == number) & (found == number), (labels == number) | (found == number)
        ious.append(both.sum() / either.sum() * 100 if either.any() else np.nan)
        accuracies.append(both.sum() / (labels == number).sum() * 100 if (labels == number).any() else np.nan)
    return {
        "mIoU": np.nanmean(ious),
        "mAcc": np.nanmean(accuracies),
        "aAcc": np.mean(labels == found) * 100,
    }, ious


def test_against_all_pixels_of_the_resampled_images(maps: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path):
    told = []
    areas = measure_areas(
        tmp_path / "labels", tmp_path / "found", CLASSES, lambda done, total: told.append((done, total))
    )
    assert areas.files == tuple(f"{number}.png" for number in range(8))
    assert told == [(number, 8) for number in range(1, 9)]
    times = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), size=20).T
    times[:, 0] = 1
    times[:, 1] = [8, 0, 0, 0, 0, 0, 0, 0]
    values = SegmentationEvaluation(areas)(times.astype(float))
    for number, resample in enumerate(times.T):
        labels, found = (
            np.concatenate([image.ravel() for image, count in zip(part, resample, strict=True) for _ in range(count)])
            for part in maps
        )
        metrics, ious = directly(labels, found)
        assert {name: value[number] for name, value in values.metrics.items()} == pytest.approx(metrics, abs=1e-11)
        np.testing.assert_allclose(values.per_class[:, number], ious, atol=1e-11)
    assert np.isnan(values.per_class[4]).all()


@given(
    areas=arrays.arrays(np.int64, (3, 3, 6), elements=st.integers(0, 1000)),
    times=arrays.arrays(np.int64, 6, elements=st.integers(0, 4)),
    order=st.permutations(range(6)),
    factor=st.integers(1, 5),
)
def test_order_of_images_and_scale_of_weights_do_not_matter(
    areas: np.ndarray, times: np.ndarray, order: list[int], factor: int
):
    intersect, missed, invented = areas.astype(float)
    names = tuple("abcdef")
    given_areas = ClassAreas(names, intersect, intersect + invented, intersect + missed)
    permuted = ClassAreas(names, *(part[:, order] for part in (intersect, intersect + invented, intersect + missed)))
    first = SegmentationEvaluation(given_areas)(times[:, None].astype(float))
    second = SegmentationEvaluation(permuted)(factor * times[order][:, None].astype(float))
    np.testing.assert_allclose(second.per_class, first.per_class, rtol=1e-12)
    for name, value in first.metrics.items():
        np.testing.assert_allclose(second.metrics[name], value, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("0.png", np.full((3, 3), 1), "0.png is 3 x 3 pixels large, its labels"),
        ("0.png", np.full((5, 5), 6), "has the value 6, but the 5 classes are numbered 1 to 5"),
        ("0.png", np.full((5, 5), 0), "has the value 0"),
        ("0.png", np.ones((5, 5, 3)), "is a coloured image"),
        ("other.png", np.ones((5, 5)), r"are of other images than .* has \('other.png'\)"),
    ],
)
def test_bad_predictions(name: str, values: np.ndarray, sentence: str, tmp_path: Path):
    for folder in ("labels", "found"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.ones((5, 5), np.uint8)).save(tmp_path / folder / "0.png")
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "found" / name)
    with pytest.raises(UserError, match=sentence):
        measure_areas(tmp_path / "labels", tmp_path / "found", 5)


def test_labels_of_one_name_in_two_folders(tmp_path: Path):
    """As of the training and the validation split of a data set whose whole folder is named."""
    for folder in ("training", "validation", "found"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.ones((5, 5), np.uint8)).save(tmp_path / folder / "0001.png")
    labels = tmp_path / "labels"
    labels.mkdir()
    for folder in ("training", "validation"):
        (tmp_path / folder).rename(labels / folder)
    sentence = f"labels of 0001.png may be {labels}/training/0001.png and {labels}/validation/0001.png; name the folder"
    with pytest.raises(UserError, match=sentence):
        measure_areas(labels, tmp_path / "found", 5)
    assert measure_areas(labels / "validation", tmp_path / "found", 5).files == ("0001.png",)
    (labels / "training" / "0001.png").rename(labels / "training" / "other.png")
    assert measure_areas(labels, tmp_path / "found", 5).files == ("0001.png",)


def test_broken_and_missing_files(tmp_path: Path):
    for folder in ("labels", "found"):
        (tmp_path / folder).mkdir()
    with pytest.raises(UserError, match="labels are no folder of PNG files"):
        measure_areas(tmp_path / "labels", tmp_path / "found", 5)
    Image.fromarray(np.ones((5, 5), np.uint8)).save(tmp_path / "labels" / "0.png")
    with pytest.raises(UserError, match="found are no folder of PNG files"):
        measure_areas(tmp_path / "labels", tmp_path / "found", 5)
    (tmp_path / "found" / "0.png").write_bytes((tmp_path / "labels" / "0.png").read_bytes()[:40])
    with pytest.raises(UserError, match=r"0.png can't be read"):
        measure_areas(tmp_path / "labels", tmp_path / "found", 5)


def test_labels_whose_suffix_is_in_capitals(maps: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path):
    before = measure_areas(tmp_path / "labels", tmp_path / "found", CLASSES)
    for path in [*(tmp_path / "labels").rglob("*.png")]:
        path.rename(path.with_suffix(".PNG"))
    after = measure_areas(tmp_path / "labels", tmp_path / "found", CLASSES)
    assert after.files == before.files
    assert (after.intersect == before.intersect).all()
