"""What a record keeps of an evaluation."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from fvnet_mm.data.ade20k_layout import Ade20kFolder, find_ade20k
from fvnet_mm.engine.results import result_of
from fvnet_mm.engine.tasks.segmentation import Segmentation
from fvnet_mm.errors import UserError
from fvnet_mm.report.run import _draw_predictions


@pytest.fixture
def scenes(tmp_path: Path) -> Ade20kFolder:
    """A data set whose validation images have the names 0001 in two folders."""
    for split in ("training", "validation"):
        for scene in "ab":
            for kind, suffix in (("images", "jpg"), ("annotations", "png")):
                file = tmp_path / "data" / kind / split / scene / f"0001.{suffix}"
                file.parent.mkdir(parents=True)
                Image.new("L", (16, 16), 1).save(file)
    (tmp_path / "data" / "classes.txt").write_text("cat\ndog\n")
    return find_ade20k(tmp_path / "data")


def test_predictions_that_overwrite_each_other_are_not_recorded(scenes: Ade20kFolder, tmp_path: Path) -> None:
    place = tmp_path / "predictions"
    place.mkdir()
    Image.new("L", (16, 16), 1).save(place / "0001.png")
    result = result_of({"mIoU": 77.5}, np.array([[3, 1], [0, 4]]), scenes, place, tmp_path)
    assert result.predictions == ()
    assert result.confusion == ((3, 1), (0, 4))  # which has all images
    assert [of_class.metrics["Acc"] for of_class in result.per_class] == [75, 100]
    with pytest.raises(UserError, match="overwrite each other"):
        _draw_predictions(SimpleNamespace(data=SimpleNamespace(folder=scenes), predictions=place), tmp_path / "a.png")


def test_a_run_is_told_of_them(scenes: Ade20kFolder, tmp_path: Path) -> None:
    cfg = Config(dict(work_dir=str(tmp_path)))
    (absent, shared) = Segmentation().check(cfg, "scenes", scenes, skip_bad=False).warnings
    assert "dog" in absent
    assert shared.startswith("validation images in several folders have one name ('0001')")
