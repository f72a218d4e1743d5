"""Top-1 accuracy of resamples against a count of the resampled images."""

import json
from pathlib import Path

import numpy as np
import pytest

from fvnet_mm.errors import UserError
from fvnet_mm.report.statistics.accuracy_bootstrap import AccuracyEvaluation, read_classes


def test_against_a_count():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, size=(2, 15))
    times = rng.multinomial(15, np.full(15, 1 / 15), size=30).T
    values = AccuracyEvaluation(labels, predictions, 5)(times.astype(float))
    for number, resample in enumerate(times.T):
        drawn = np.repeat(np.arange(15), resample)
        right = labels[drawn] == predictions[drawn]
        assert values.metrics["top-1"][number] == pytest.approx(100 * right.mean(), abs=1e-12)
        for label, value in enumerate(values.per_class[:, number]):
            of_class = right[labels[drawn] == label]
            expected = 100 * of_class.mean() if len(of_class) else np.nan
            assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def entry(file: str, label: object = 0, prediction: object = 1) -> dict[str, object]:
    return dict(file=file, label=label, prediction=prediction, score=0.9)


def test_images_in_the_order_of_their_names(tmp_path: Path):
    (tmp_path / "classes.json").write_text(json.dumps([entry("b", 1), entry("a", 0, 2)]))
    assert list(read_classes(tmp_path / "classes.json", 3).items()) == [("a", (0, 2)), ("b", (1, 1))]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"file": "a"', "are not JSON"),
        ("[]", "is not a list of objects with file, label and prediction"),
        ({"a": 1}, "is not a list of objects with file, label and prediction"),
        ([entry("a", 0.5)], "is not a list of objects with file, label and prediction"),
        ([entry("a", [1])], "is not a list of objects with file, label and prediction"),
        ([entry("a", 1, 3), entry("b", -1)], "has the classes -1, 3, but the 3 classes"),
        ([entry("a"), entry("a")], "has 1 images more than once"),
    ],
)
def test_bad_predictions(content: object, sentence: str, tmp_path: Path):
    (tmp_path / "classes.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=sentence):
        read_classes(tmp_path / "classes.json", 3)


def test_missing_predictions(tmp_path: Path):
    with pytest.raises(UserError, match=r"classes.json can't be read: No such file"):
        read_classes(tmp_path / "classes.json", 3)
