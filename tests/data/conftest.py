"""A small data set that tests may spoil, and a cache that is nobody's home."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Document = dict[str, list[dict]]


def _document(prefix: str = "a", images: int = 4) -> Document:
    """Annotations of ``images`` 40x30 pictures with two objects each."""
    return {
        "images": [{"id": i + 1, "file_name": f"{prefix}{i}.jpg", "width": 40, "height": 30} for i in range(images)],
        "annotations": [
            {
                "id": 2 * i + k + 1,
                "image_id": i + 1,
                "category_id": (7, 3)[k],
                "bbox": [5.0 * k, 4.0, 10.0, 12.0],
                "area": 120.0,
                "iscrowd": 0,
            }
            for i in range(images)
            for k in range(2)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def _write_coco(
    root: Path,
    train: Document | None = None,
    val: Document | None = None,
    folders: tuple[str, str] = ("train", "val"),
) -> Path:
    """Write a data set: annotations as they are, and a picture for every name that they have."""
    (root / "annotations").mkdir(parents=True)
    for split, folder, content in (("train", folders[0], train), ("val", folders[1], val)):
        content = content or _document(split[0])
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        for number, image in enumerate(content["images"]):
            file = root / folder / image["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(file)
    return root


@pytest.fixture(scope="session")
def document() -> Callable[..., Document]:
    """``document(prefix="a", images=4)`` makes sound annotations; see :func:`_document`."""
    return _document


@pytest.fixture(scope="session")
def write_coco() -> Callable[..., Path]:
    """``write_coco(root, train=None, val=None, folders=...)``; see :func:`_write_coco`."""
    return _write_coco


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    """A sound data set in COCO's layout: folders train and val, classes cat (id 7) and dog (id 3)."""
    return _write_coco(tmp_path / "data")


@pytest.fixture
def edit(coco_root: Path) -> Callable[[str, Callable[[Document], object]], None]:
    """``edit(split, change)`` applies a function to a split's annotations in ``coco_root``."""

    def apply(split: str, change: Callable[[Document], object]) -> None:
        file = coco_root / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return apply


def _write_ade20k(root: Path, classes: str | None = "cat\ndog\nfish\n", pairs: tuple[int, int] = (4, 3)) -> Path:
    """Write a data set: 40x30 pictures t0.jpg ... and v0.jpg ..., and label maps with 0 and the labels 1 to 3."""
    for folder, count in zip(("training", "validation"), pairs, strict=True):
        for part in ("images", "annotations"):
            (root / part / folder).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng(number)
            stem = f"{folder[0]}{number}"
            Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(root / "images" / folder / f"{stem}.jpg")
            labels = np.arange(30 * 40, dtype=np.uint8).reshape(30, 40) % 4
            Image.fromarray(labels).save(root / "annotations" / folder / f"{stem}.png")
    if classes is not None:
        (root / "classes.txt").write_text(classes)
    return root


@pytest.fixture(scope="session")
def write_ade20k() -> Callable[..., Path]:
    """``write_ade20k(root, classes="cat\\ndog\\nfish\\n", pairs=(4, 3))``; see :func:`_write_ade20k`."""
    return _write_ade20k


@pytest.fixture
def ade20k_root(tmp_path: Path) -> Path:
    """A sound data set in ADE20K's layout: 4 and 3 pairs, classes cat, dog and fish, a quarter of the pixels each."""
    return _write_ade20k(tmp_path / "data")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: folder / name)
    return folder
