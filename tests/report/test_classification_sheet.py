import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from fvnet_mm.errors import UserError
from fvnet_mm.report.classification_sheet import TILE, draw_classification_sheet
from fvnet_mm.report.palette import GREEN, VERMILION

CLASSES = ("cat", "dog", "a very long name of a class, a synonym of it, and another one")


class Files:
    """Images whose grey is their number."""

    def __init__(self, folder: Path, outcomes: list[tuple[int, int]]) -> None:
        self.images, self.predictions = folder / "set" / "val", folder / "val.json"
        self.out = folder / "vis" / "sheet.png"
        self.images.mkdir(parents=True)
        entries = []
        for number, (label, prediction) in enumerate(outcomes):
            Image.new("RGB", (60, 40 + number), (10 * number,) * 3).save(self.images / f"{number}.png")
            entries.append({"file": f"{number}.png", "label": label, "prediction": prediction, "score": 0.5})
        self.predictions.write_text(json.dumps(entries))

    def draw(self, **settings: object) -> np.ndarray:
        draw_classification_sheet(self.predictions, self.images, CLASSES, self.out, **settings)
        with Image.open(self.out) as picture:
            return np.array(picture)


def bars(sheet: np.ndarray, colour: str) -> list[int]:
    """Left edges of the bars of a colour below the images."""
    rows = (sheet == ImageColor.getrgb(colour)).all(-1)
    full = next(iter(row for row in rows if row.sum() >= TILE), np.zeros(sheet.shape[1], bool))
    return np.flatnonzero(np.diff(full.astype(int), prepend=0) == 1).tolist()


def test_right_and_wrong_ones_are_told_apart(tmp_path: Path):
    sheet = Files(tmp_path, [(0, 0), (0, 1), (1, 1), (2, 0)]).draw()
    right, wrong = bars(sheet, GREEN), bars(sheet, VERMILION)
    assert len(right) == len(wrong) == 2
    assert right[0] < wrong[0] < right[1] < wrong[1]


def test_images_are_spread_evenly_and_square(tmp_path: Path):
    sheet = Files(tmp_path, [(0, 0)] * 9).draw(count=3)
    shown = {number: int((sheet == 10 * number).all(-1).sum()) for number in range(9)}
    assert {number for number, pixels in shown.items() if pixels > TILE * TILE / 2} == {0, 4, 8}
    assert shown[4] == pytest.approx(TILE * TILE, rel=0.01)  # letters have greys, too


def test_long_names_keep_to_their_cell(tmp_path: Path):
    short, long = Files(tmp_path / "a", [(0, 0), (0, 0)]), Files(tmp_path / "b", [(2, 2), (2, 2)])
    assert short.draw().shape == long.draw().shape
    sheet = long.draw()
    gap = slice(18 + TILE, 18 + TILE + 18)
    below = sheet[-40:, gap]
    assert (below == 255).all()


@pytest.mark.parametrize(
    ("predictions", "sentence"),
    [
        ("[]", "holds no prediction"),
        ('[{"file": "0.png", "label": 0, "prediction": 3, "score": 1}]', "the classes 3, but the 3 classes"),
        ('[{"file": "7.png", "label": 0, "prediction": 1, "score": 1}]', r"the image .*7\.png can't be read"),
    ],
)
def test_wrong_predictions_end_in_a_sentence(tmp_path: Path, predictions: str, sentence: str):
    files = Files(tmp_path, [(0, 0)])
    files.predictions.write_text(predictions)
    with pytest.raises(UserError, match=sentence):
        files.draw()
    assert not files.out.exists()
